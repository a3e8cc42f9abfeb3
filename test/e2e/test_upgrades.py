"""Tunnels over HTTP/1.1: Upgrade and CONNECT."""

import socket
import threading

import pytest

from controlplane import mesh
from harness.http1 import Client, Reader, ask
from harness.http2 import Answer, Client as Client2
from harness.proxy import cluster, http_listener, static

WEBSOCKET = (b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\n"
             b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
             b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
          b"sec-websocket-accept: x\r\n\r\n")


class Peer:
    """An upstream that reads a head, answers as told, and echoes what follows in capitals."""

    def __init__(self, answer=SWITCH):
        self.answer, self.heads, self.got = answer, [], b""
        self.early = None  # what had come when the head was read
        self.ended = threading.Event()

    def __call__(self, sock, *_):
        reader = Reader(sock)
        self.heads.append(reader.head())
        sock.setblocking(False)
        try:
            self.early = sock.recv(100)
        except BlockingIOError:
            self.early = b""
        sock.setblocking(True)
        sock.sendall(self.answer)
        while data := sock.recv(65536):
            self.got += data
            sock.sendall(data.upper())
        self.ended.set()


def tunnel(start, serve, peer, upgrades=({"upgrade_type": "websocket"},), routes=None, **hcm):
    upstream = serve(handle=peer)
    proxy = start(static([http_listener(routes or [mesh.route("up")], log="access.log",
                                        hcm={"upgrade_configs": list(upgrades), **hcm})],
                         [cluster("up", upstream)]))
    return proxy


def test_websocket(start, serve):
    peer = Peer()
    proxy = tunnel(start, serve, peer)
    with Client(proxy.port()) as client:
        client.send(WEBSOCKET)
        head = client.reader.head()
        assert head.start[1] == "101"
        assert head.get("upgrade") == "websocket"
        assert head.get("connection").lower() == "upgrade"
        assert head.get("content-length") is None and head.get("transfer-encoding") is None
        for word in (b"one", b"two" * 50000):
            threading.Thread(target=client.sock.sendall, args=(word,)).start()
            assert client.reader.take(len(word)) == word.upper()
        assert proxy.stat("http.test.downstream_cx_upgrades_active") == 1
    sent = peer.heads[0]
    assert sent.get("upgrade") == "websocket" and "upgrade" in sent.get("connection").lower()
    assert proxy.wait_log()[0]["code"] == 101
    assert proxy.stat("http.test.downstream_cx_upgrades_total") == 1
    proxy.wait(lambda: proxy.stat("http.test.downstream_cx_upgrades_active") == 0)


def test_early_bytes_wait_for_the_answer(start, serve):
    """CVE-2026-73548: what a client sends before 101 must not reach the upstream before it."""
    peer = Peer()
    proxy = tunnel(start, serve, peer)
    with Client(proxy.port()) as client:
        client.send(WEBSOCKET + b"early")
        assert client.reader.head().start[1] == "101"
        assert client.reader.take(5) == b"EARLY"
    assert peer.early == b""


@pytest.mark.parametrize("early", [b"", b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"])
def test_refused_by_the_upstream(start, serve, early):
    """CVE-2024-23326: any answer but 101 is an ordinary response, and early bytes go nowhere."""
    peer = Peer(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno")
    proxy = tunnel(start, serve, peer)
    with Client(proxy.port()) as client:
        client.send(WEBSOCKET + early)
        answer = client.response()
        assert (answer.status, answer.body) == (400, b"no")
        assert len(peer.heads) == 1 and peer.got == b""
        if early and not proxy.is_envoy:
            assert client.is_closed()


def test_not_configured(start, serve):
    peer = Peer()
    proxy = tunnel(start, serve, peer, upgrades=[])
    with Client(proxy.port()) as client:
        client.send(WEBSOCKET)
        assert client.response().status == 403
    assert not peer.heads
    assert proxy.wait_log()[0]["details"] == "upgrade_failed"


def test_disabled(start, serve):
    proxy = tunnel(start, serve, Peer(), upgrades=[{"upgrade_type": "websocket", "enabled": False}])
    with Client(proxy.port()) as client:
        client.send(WEBSOCKET)
        assert client.response().status == 403


def test_h2c_is_not_upgraded_to(start, serve):
    upstream = serve()
    proxy = start(static([http_listener([mesh.route("up")])], [cluster("up", upstream)]))
    with Client(proxy.port()) as client:
        answer = client.ask(headers=[("Connection", "Upgrade, HTTP2-Settings"),
                                     ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQ")])
    assert answer.status == 200
    assert upstream.requests[0].get("upgrade") is None
    assert upstream.requests[0].get("http2-settings") is None


def test_client_ends_its_direction(start, serve):
    peer = Peer()
    proxy = tunnel(start, serve, peer)
    with Client(proxy.port()) as client:
        client.send(WEBSOCKET)
        assert client.reader.head().start[1] == "101"
        client.send(b"last")
        client.sock.shutdown(socket.SHUT_WR)
        if not proxy.is_envoy:  # Envoy ends both directions
            assert client.reader.take(4) == b"LAST"
            assert client.is_closed()
    assert peer.ended.wait(10)
    assert proxy.is_envoy or peer.got == b"last"


def test_upstream_ends(start, serve):
    def handle(sock, *_):
        Reader(sock).head()
        sock.sendall(SWITCH + b"bye")
        sock.close()
    proxy = tunnel(start, serve, handle)
    with Client(proxy.port()) as client:
        client.send(WEBSOCKET)
        assert client.reader.head().start[1] == "101"
        assert client.reader.take(3) == b"bye"
        assert client.is_closed()
    assert proxy.wait_log()[0]["code"] == 101


def test_switch_that_nobody_asked_for(start, serve):
    peer = Peer()
    proxy = tunnel(start, serve, peer)
    assert ask(proxy.port()).status == (101 if proxy.is_envoy else 502)


# --- CONNECT --------------------------------------------------------------------------------------
def connect_route(**config):
    """A route for CONNECT; with connect_config it ends at the proxy."""
    return {"match": {"connect_matcher": {}}, "route": {
        "cluster": "up", "timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "CONNECT", **config}]}}


CONNECT = b"CONNECT target:443 HTTP/1.1\r\nhost: target:443\r\n\r\n"


def test_connect_is_forwarded(start, serve):
    peer = Peer(b"HTTP/1.1 200 OK\r\n\r\n")
    proxy = tunnel(start, serve, peer, routes=[connect_route()])
    with Client(proxy.port()) as client:
        client.send(CONNECT + b"early")
        assert client.reader.head().status == 200
        assert client.reader.take(5) == b"EARLY"
    assert peer.heads[0].start[:2] == ["CONNECT", "target:443"]
    assert peer.early == b""


class Raw:
    """An upstream that speaks no HTTP: echoes in capitals, and says a word at the end."""

    def __init__(self):
        self.got = b""

    def __call__(self, sock, *_):
        sock.sendall(b"hello ")
        while data := sock.recv(65536):
            self.got += data
            sock.sendall(data.upper())
        sock.sendall(b" bye")


@pytest.mark.parametrize("version", [None, "V1", "V2"])
def test_connect_ends_here(start, serve, version):
    raw = Raw()
    config = {"proxy_protocol_config": {"version": version}} if version else {}
    proxy = tunnel(start, serve, raw, routes=[connect_route(connect_config=config)])
    with Client(proxy.port()) as client:
        client.send(CONNECT)
        head = client.reader.head()
        assert head.status == 200 and head.get("content-length") is None
        assert client.reader.take(6) == b"hello "
        if version == "V1":
            line = b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (
                client.sock.getsockname()[1], proxy.port())
            assert client.reader.take(len(line)) == line.upper()
        if version == "V2":
            client.reader.take(28)
            assert raw.got[:16] == b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
        client.send(b"x" * 100000)
        assert client.reader.take(100000) == b"X" * 100000
        client.sock.shutdown(socket.SHUT_WR)
        if not proxy.is_envoy:
            assert client.reader.take(4) == b" bye"
            assert client.is_closed()


def test_connect_to_nobody(start, serve):
    upstream = serve()
    upstream.close()
    proxy = start(static([http_listener([connect_route(connect_config={})], log="access.log")],
                         [cluster("up", upstream)]))
    with Client(proxy.port()) as client:
        client.send(CONNECT)
        assert client.response().status == 503
    assert proxy.wait_log()[0]["flags"] == "UF"


def test_post_ends_here(start, serve):
    raw = Raw()
    proxy = tunnel(start, serve, raw, routes=[
        {"match": {"prefix": "/"}, "route": {"cluster": "up", "upgrade_configs": [
            {"upgrade_type": "CONNECT", "connect_config": {"allow_post": True}}]}}])
    answer = ask(proxy.port(), method="POST", body=b"payload")
    assert (answer.status, answer.body) == (200, b"hello PAYLOAD bye")


def test_connect_over_http2(start, serve):
    raw = Raw()
    proxy = tunnel(start, serve, raw, routes=[connect_route(connect_config={})],
                   http2_protocol_options={"allow_connect": True}, codec_type="HTTP2")
    with Client2(proxy.port()) as client:
        stream = client.h2.get_next_available_stream_id()
        client.answers[stream] = Answer()
        client.h2.send_headers(stream, [(":method", "CONNECT"), (":authority", "target:443")])
        client.flush()
        client.until(lambda: client.answers[stream].status == 200)
        client.send(stream, b"payload", end=True)
        client.until(lambda: client.answers[stream].ended)
        if not proxy.is_envoy:
            assert bytes(client.answers[stream].body) == b"hello PAYLOAD bye"


def test_websocket_over_http2(start, serve):
    """RFC 8441, to an upstream of HTTP/1.1."""
    peer = Peer()
    proxy = tunnel(start, serve, peer, codec_type="HTTP2",
                   http2_protocol_options={"allow_connect": True})
    with Client2(proxy.port(), validate=False) as client:
        client.until(lambda: client.h2.remote_settings.enable_connect_protocol)
        stream = client.h2.get_next_available_stream_id()
        client.answers[stream] = Answer()
        client.h2.send_headers(stream, [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
            (":path", "/chat"), (":authority", "a"), ("sec-websocket-version", "13")])
        client.flush()
        client.until(lambda: client.answers[stream].status == 200)
        client.send(stream, b"word")
        client.until(lambda: bytes(client.answers[stream].body) == b"WORD")
    assert peer.heads[0].start[:2] == ["GET", "/chat"]
    assert peer.heads[0].get("upgrade") == "websocket"
