"""Tunnels over HTTP/1.1: Upgrade and CONNECT."""

import socket
import threading

import pytest

from controlplane import mesh
from harness.http1 import Client, Reader, ask
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
