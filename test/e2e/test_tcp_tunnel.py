"""tcp_proxy with tunneling_config: the bytes as the body of a CONNECT or a POST."""

import socket
import threading
import time

import pytest

from controlplane import mesh
from harness.http1 import Client, Reader
from harness.http2 import Http2Server, upstream_options
from harness.proxy import cluster, listener, static


def filter_of(config, log=True, **fields):
    tcp = mesh.tcp_proxy("up", "tcp", log="access.log" if log else None)
    tcp["typed_config"].update(tunneling_config=config, **fields)
    return tcp


def tunnel(start, upstream, config, fields=None, **more):
    return start(static([listener([filter_of(config, **(fields or {}))])],
                        [cluster("up", upstream, **more)]))


def connect_server(heads, answer=b"HTTP/1.1 200 OK\r\n\r\n", first=b""):
    """A server that answers a CONNECT, then echoes."""
    def handle(sock):
        reader = Reader(sock)
        heads.append(reader.head())
        sock.sendall(answer + first)
        if b" 200 " not in answer:
            return
        sock.sendall(reader.buffer)
        while data := sock.recv(65536):
            sock.sendall(data)
    return handle


def test_connect_over_http1(start, serve):
    heads = []
    config = {"hostname": "target.test:443",
              "headers_to_add": [{"header": {"key": "X-From",
                                             "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}]}
    proxy = tunnel(start, serve(handle=connect_server(heads)), config)
    with Client(proxy.port()) as client:
        client.send(b"hello")
        assert client.reader.take(5) == b"hello"
        client.sock.shutdown(socket.SHUT_WR)
        if not proxy.is_envoy:  # which has no half-close in HTTP/1
            assert client.is_closed()
    assert heads[0].start == ["CONNECT", "target.test:443", "HTTP/1.1"]
    assert heads[0].get("host") == "target.test:443" and heads[0].get("x-from") == "127.0.0.1"
    assert heads[0].get("transfer-encoding") is None and heads[0].get("upgrade") is None
    entry = proxy.wait_log()[0]
    assert entry["flags"] in ("-", "DC") and int(entry["received"]) == 5


def test_server_that_speaks_first_through_a_tunnel(start, serve):
    proxy = tunnel(start, serve(handle=connect_server([], first=b"220 ready\r\n")),
                   {"hostname": "a:1"})
    with Client(proxy.port()) as client:
        assert client.reader.line() == b"220 ready"
        client.send(b"QUIT")
        assert client.reader.take(4) == b"QUIT"


@pytest.mark.parametrize("attempts", [1, 3])
def test_connect_that_is_refused(start, serve, attempts):
    heads = []
    upstream = serve(handle=connect_server(heads, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"))
    proxy = tunnel(start, upstream, {"hostname": "a:1"}, {"max_connect_attempts": attempts})
    with Client(proxy.port()) as client:
        assert client.is_closed()
    assert len(heads) == attempts
    assert proxy.wait_log()[0]["flags"] == "UF,URX"
    assert proxy.stat("cluster.up.upstream_cx_connect_attempts_exceeded") == 1


def test_post_over_http1(start, serve):
    heads, gone = [], threading.Event()

    def handle(sock):
        reader = Reader(sock)
        heads.append(reader.head())
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        got = b""
        while len(got) < 5:
            size = int(reader.line(), 16)
            got += reader.take(size)
            reader.line()
        sock.sendall(b"5\r\n" + got + b"\r\n")
        gone.wait(10)
    proxy = tunnel(start, serve(handle=handle),
                   {"hostname": "a:1", "use_post": True, "post_path": "/tcp"})
    with Client(proxy.port()) as client:
        client.send(b"hello")
        assert client.reader.take(5) == b"hello"
    gone.set()
    assert heads[0].start == ["POST", "/tcp", "HTTP/1.1"] and heads[0].get("host") == "a:1"
    assert heads[0].get("transfer-encoding") == "chunked"


def test_post_whose_response_ends(start, serve):
    """The client sees the end, and what it still says is sent on."""
    got, done = bytearray(), threading.Event()

    def handle(sock):
        reader = Reader(sock)
        reader.head()
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbye\r\n0\r\n\r\n")
        while size := int(reader.line(), 16):
            got.extend(reader.take(size))
            reader.line()
        done.set()
    proxy = tunnel(start, serve(handle=handle), {"hostname": "a:1", "use_post": True})
    if proxy.is_envoy:
        pytest.skip("Envoy 1.40 dies of it by signal 11")
    with Client(proxy.port()) as client:
        assert client.reader.rest() == b"bye"
        client.send(b"and more")
        client.sock.shutdown(socket.SHUT_WR)
        assert done.wait(10)
    assert bytes(got) == b"and more"
    proxy.wait(lambda: proxy.stat("cluster.up.upstream_cx_active") == 0, 10, "no connection")


@pytest.fixture
def http2_server():
    servers = []

    def starter(**events):
        servers.append(Http2Server(**events))
        return servers[-1]
    yield starter
    for server in servers:
        server.close()


@pytest.mark.parametrize("post", [False, True])
def test_over_http2(start, http2_server, post):
    heads = []

    def on_request(link, stream, headers):
        heads.append(dict(headers))
        link.send_headers(stream, [(":status", "200")])

    def on_data(link, stream, data):
        link.send_data(stream, data)

    def on_end(link, stream):
        link.send_headers(stream, [("x-end", "yes")], end_stream=True)
    config = {"hostname": "%DOWNSTREAM_LOCAL_ADDRESS%", "propagate_response_headers": True}
    if post:
        config["use_post"] = True
    proxy = tunnel(start, http2_server(on_request=on_request, on_data=on_data, on_end=on_end),
                   config, **upstream_options())
    port = proxy.port()
    with Client(port) as client:
        for i in range(20):
            client.send(b"%04d" % i)
            assert client.reader.take(4) == b"%04d" % i
        client.sock.shutdown(socket.SHUT_WR)
        assert client.reader.rest() == b""
    assert heads[0][":method"] == ("POST" if post else "CONNECT")
    assert heads[0][":authority"] == f"127.0.0.1:{port}"
    assert heads[0].get(":path") == ("/" if post else None)
    assert heads[0].get(":scheme") == ("http" if post else None)
    assert ":protocol" not in heads[0]
    assert proxy.wait_log()[0]["flags"] == "-"


def test_much_data_through_http2(start, http2_server):
    def on_request(link, stream, headers):
        link.send_headers(stream, [(":status", "200")])
        for i in range(6):
            link.send_data(stream, b"x" * 10000, end_stream=i == 5)
    proxy = tunnel(start, http2_server(on_request=on_request), {"hostname": "a:1"},
                   **upstream_options())
    with Client(proxy.port()) as client:
        assert len(client.reader.take(60000)) == 60000
        client.sock.shutdown(socket.SHUT_WR)
        assert client.is_closed()
    proxy.wait(lambda: proxy.stat("cluster.up.upstream_rq_active") == 0, 5, "no request")


def test_much_data_both_ways(start, serve):
    proxy = tunnel(start, serve(handle=connect_server([])), {"hostname": "a:1"})
    data = bytes(range(256)) * 20000
    with Client(proxy.port(), timeout=30) as client:
        thread = threading.Thread(target=client.send, args=(data,))
        thread.start()
        time.sleep(0.5)  # nobody reads: everything on the way is full
        assert client.reader.take(len(data)) == data
        thread.join()
    proxy.wait(lambda: proxy.stat("cluster.up.upstream_cx_active") == 0, 10, "no connection")


def test_client_that_sends_before_the_answer(start, serve):
    """The bytes wait until the tunnel is granted."""
    heads, seen = [], []

    def handle(sock):
        reader = Reader(sock)
        heads.append(reader.head())
        time.sleep(0.3)
        sock.setblocking(False)
        try:
            seen.append(bytes(reader.buffer) + sock.recv(100))
        except BlockingIOError:
            seen.append(bytes(reader.buffer))
        sock.setblocking(True)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        sock.sendall(reader.take(5))
    proxy = tunnel(start, serve(handle=handle), {"hostname": "a:1"})
    with Client(proxy.port()) as client:
        client.send(b"early")
        assert client.reader.take(5) == b"early"
    assert seen == [b""]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 407 No\r\n\r\n",
                                    b"nonsense\r\n\r\n", b""])
def test_answers_to_connect(start, serve, answer):
    """Any 2xx will do; all else ends the connection, with the flags of a failure."""
    def handle(sock):
        Reader(sock).head()
        sock.sendall(answer)
        if b" 204 " in answer:
            sock.sendall(b"tunnel")
    proxy = tunnel(start, serve(handle=handle), {"hostname": "a:1"})
    with Client(proxy.port()) as client:
        assert client.reader.rest() == (b"tunnel" if b" 204 " in answer else b"")
    entry = proxy.wait_log()[0]
    assert (entry["flags"] == "UF,URX") == (b" 204 " not in answer)


def test_request_id(start, serve):
    heads = []
    config = {"hostname": "a:1", "request_id_header": "X-Tunnel-Id",
              "request_id_extension": {"typed_config": {
                  "@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3."
                           "UuidRequestIdConfig"}}}
    proxy = tunnel(start, serve(handle=connect_server(heads)), config)
    with Client(proxy.port()) as client:
        client.send(b"x")
        assert client.reader.take(1) == b"x"
    assert len(heads[0].get("x-tunnel-id")) == 36


def test_client_that_resets_ends_the_tunnel(start, http2_server):
    def on_request(link, stream, headers):
        link.send_headers(stream, [(":status", "200")])
        link.send_data(stream, b"hi")
    proxy = tunnel(start, http2_server(on_request=on_request), {"hostname": "a:1"},
                   **upstream_options())
    with Client(proxy.port()) as client:
        assert client.reader.take(2) == b"hi"
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    proxy.wait(lambda: proxy.stat("cluster.up.upstream_rq_active") == 0, 5, "no request")
    assert proxy.wait_log()
