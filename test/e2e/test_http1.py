"""The HTTP/1.1 codec on both sides: framing, keep-alive, interim responses, bad input."""

import socket
import time

import pytest

from controlplane import mesh
from harness.http1 import Client, Closed, Reader, ask
from harness.proxy import cluster, http_listener, static
from harness.upstream import response


@pytest.fixture
def proxied(start, serve):
    """proxied(answer, ...) is a proxy in front of one upstream, and the upstream."""
    def starter(answer=None, handle=None, hcm=None, action=None, **more):
        upstream = serve(answer, handle=handle)
        routes = [mesh.route("up", **(action or {}))]
        proxy = start(static([http_listener(routes, log="access.log", hcm=hcm)],
                             [cluster("up", upstream, **more)]))
        return proxy, upstream
    return starter


def test_keep_alive_both_sides(proxied):
    proxy, upstream = proxied()
    with Client(proxy.port()) as client:
        for i in range(20):
            assert client.ask(target=f"/{i}").status == 200
    assert upstream.connections == 1
    assert [r.target for r in upstream.requests] == [f"/{i}" for i in range(20)]


def test_pipelined_requests_are_answered_in_order(proxied):
    proxy, _ = proxied(lambda r: response(body=r.target.encode()))
    with Client(proxy.port()) as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % i for i in range(10)))
        assert [client.response().body for _ in range(10)] == [b"/%d" % i for i in range(10)]


def test_bytes_one_by_one(proxied):
    proxy, upstream = proxied()
    with Client(proxy.port()) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"POST /slowly HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nabcd":
            client.send(bytes([byte]))
        assert client.response().status == 200
    assert upstream.requests[0].body == b"abcd"


def test_chunked_both_ways_with_trailers(proxied):
    chunks = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
              b"3\r\nabc\r\n10;ext=1\r\n0123456789abcdef\r\n0\r\n\r\n")
    proxy, upstream = proxied(lambda r: chunks)
    with Client(proxy.port()) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
        answer = client.response()
        assert answer.body == b"abc0123456789abcdef"
        assert client.ask().status == 200
    assert upstream.requests[0].body == b"hello world"
    assert upstream.requests[0].get("transfer-encoding") == "chunked"


@pytest.mark.parametrize("size", [1, 16384, 65536, 1_000_003, 10_000_000])
def test_large_bodies_arrive_whole(proxied, size):
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    proxy, upstream = proxied(lambda r: response(body=r.body))
    with Client(proxy.port(), timeout=30) as client:
        answer = client.ask("POST", body=body)
    assert upstream.requests[0].body == body and answer.body == body


def test_head_and_bodiless_statuses(proxied):
    proxy, _ = proxied(lambda r: {
        "/head": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        "/204": b"HTTP/1.1 204 No Content\r\n\r\n",
        "/304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
        "/last": response(body=b"last")}[r.target])
    with Client(proxy.port()) as client:
        answer = client.ask("HEAD", "/head")
        assert (answer.status, answer.get("content-length"), answer.body) == (200, "10", b"")
        assert client.ask(target="/204").status == 204
        assert client.ask(target="/304").status == 304
        assert client.ask(target="/last").body == b"last"


def test_response_until_close(proxied):
    def handle(sock):
        Reader(sock).request()
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nup to the end")
    proxy, _ = proxied(handle=handle)
    with Client(proxy.port()) as client:
        assert client.ask().body == b"up to the end"


def test_expect_100_continue(proxied):
    proxy, upstream = proxied()
    with Client(proxy.port()) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                    b"Content-Length: 3\r\n\r\n")
        assert client.reader.head().status == 100
        client.send(b"abc")
        assert client.response().status == 200
    assert upstream.requests[0].body == b"abc"


def test_connection_close_is_honoured(proxied):
    proxy, _ = proxied()
    with Client(proxy.port()) as client:
        answer = client.ask(headers={"Connection": "close"})
        assert answer.status == 200 and answer.get("connection") == "close"
        assert client.is_closed()


def test_hop_by_hop_headers_stay(proxied):
    proxy, upstream = proxied(lambda r: response(headers={"Keep-Alive": "timeout=5",
                                                          "Proxy-Connection": "keep-alive"}))
    answer = ask(proxy.port(), headers={"Keep-Alive": "timeout=9", "TE": "gzip"})
    assert upstream.requests[0].get("keep-alive") is None
    assert answer.get("keep-alive") is None and answer.get("proxy-connection") is None


@pytest.mark.parametrize("request_bytes", [
    b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1e3\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nbad header: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\n: empty\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nx: a\0b\r\n\r\n",
    b"GE T / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
], ids=["cl+te", "two-cl", "negative-cl", "float-cl", "bad-chunk", "space-in-name", "no-name", "nul",
        "space-in-method", "tls"])
def test_malformed_requests_get_400_and_a_counter(proxied, request_bytes):
    proxy, upstream = proxied()
    with Client(proxy.port()) as client:
        client.send(request_bytes)
        answer = client.response()
        assert answer.status == 400
        assert client.is_closed()
    assert [r for r in upstream.requests if r.body] == []
    assert proxy.stat("http.test.downstream_cx_protocol_error") == 1
    assert ask(proxy.port()).status == 200


@pytest.mark.parametrize("line", [b"GET /", b"GET / HTTP/1.0", b"GET / HTTP/9.9"])
def test_other_versions_are_426(proxied, line):
    proxy, upstream = proxied()
    with Client(proxy.port()) as client:
        client.send(line + b"\r\nHost: h\r\n\r\n")
        assert client.response().status == 426
        assert client.is_closed()
    assert upstream.requests == []


def test_no_host_is_400(proxied):
    proxy, upstream = proxied()
    with Client(proxy.port()) as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.response().status == 400
    assert upstream.requests == []


def test_too_large_headers_are_431(proxied):
    proxy, upstream = proxied()
    with Client(proxy.port()) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n")
        for i in range(70):
            client.send(b"x-%d: %s\r\n" % (i, b"a" * 1000))
        assert client.response().status == 431
    assert upstream.requests == []


def test_too_many_headers_are_431(proxied):
    proxy, upstream = proxied()
    with Client(proxy.port()) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n")
        client.send(b"".join(b"x-%d: 1\r\n" % i for i in range(101)) + b"\r\n")
        assert client.response().status == 431
    assert upstream.requests == []


def test_headers_that_never_end_time_out(proxied):
    proxy, _ = proxied(hcm={"request_headers_timeout": "0.5s"})
    with Client(proxy.port()) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n")
        begin = time.monotonic()
        try:
            assert client.response().status == 408
        except Closed:
            pass
        assert 0.3 < time.monotonic() - begin < 5
    proxy.wait_stat("http.test.downstream_rq_header_timeout")


def test_idle_connections_are_closed(proxied):
    proxy, _ = proxied(hcm={"drain_timeout": "0.2s",
                             "common_http_protocol_options": {"idle_timeout": "0.5s"}})
    with Client(proxy.port()) as client:
        assert client.ask().status == 200
        begin = time.monotonic()
        assert client.is_closed()
        assert 0.3 < time.monotonic() - begin < 5


def test_upstream_that_breaks_off(proxied):
    def handle(sock):
        request = Reader(sock).request()
        if request.target == "/never":
            return
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    proxy, _ = proxied(handle=handle)
    answer = ask(proxy.port(), "/never")
    assert answer.status == 503
    with pytest.raises(Closed):
        ask(proxy.port(), "/half")
    entries = proxy.wait_log(2)
    assert [e["flags"] for e in entries] == ["UC", "UPE"]


@pytest.mark.parametrize("bad", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
    b"no http at all\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nbad header: 1\r\nContent-Length: 0\r\n\r\n",
], ids=["cl+te", "status", "noise", "header"])
def test_malformed_responses_are_502(proxied, bad):
    proxy, _ = proxied(lambda r: bad)
    answer = ask(proxy.port())
    assert answer.status == 502
    assert proxy.wait_log()[0]["flags"] == "UPE"
    assert proxy.stat("cluster.up.upstream_cx_protocol_error") == 1


def test_client_that_goes_away(proxied):
    gone = []

    def handle(sock):
        Reader(sock).request()
        try:
            gone.append(sock.recv(1))  # until the proxy gives up
        except OSError:
            gone.append(b"")
    proxy, _ = proxied(handle=handle)
    with Client(proxy.port()) as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        proxy.wait_stat("cluster.up.upstream_rq_active")
    proxy.wait(lambda: gone, 5, "the upstream connection to be closed")
    assert proxy.wait_log()[0]["flags"] == "DC"


def test_slow_reader_holds_the_upstream_back(proxied):
    sent = []
    total = 64 * 1024 * 1024

    def handle(sock):
        Reader(sock).request()
        sock.settimeout(None)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        block = b"x" * 65536
        for _ in range(total // len(block)):
            sock.sendall(block)
            sent.append(len(block))
    proxy, _ = proxied(handle=handle)
    with Client(proxy.port(), timeout=60) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        time.sleep(1)
        assert sum(sent) < total / 2  # kernel and proxy buffers only
        assert len(client.response().body) == total


# --- the case of header names ---------------------------------------------------------------------
PRESERVE = {"name": "preserve_case", "typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3"
             ".PreserveCaseFormatterConfig"}}


def h1_upstream(http1):
    return {"typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "HttpProtocolOptions",
            "explicit_http_config": {"http_protocol_options": http1}}}}


def raw_exchange(start, serve, key_format, **http1):
    """The bytes of the heads that an upstream and a client see."""
    seen = []

    def handle(sock):
        data = b""
        while b"\r\n\r\n" not in data:
            data += sock.recv(4096)
        seen.append(data)
        sock.sendall(b"HTTP/1.1 200 Fine With Me\r\nX-fromServer: 1\r\nContent-LENGTH: 2\r\n\r\nok")
    upstream = serve(handle=handle)
    options = {"header_key_format": key_format, **http1}
    proxy = start(static(
        [http_listener([mesh.route("up")], hcm={"http_protocol_options": options})],
        [cluster("up", upstream, **h1_upstream(options))]))
    with Client(proxy.port()) as client:
        client.send(b"GET /a HTTP/1.1\r\nHOST: me\r\nx-FROM-client: 1\r\n\r\n")
        got = b""
        while not got.endswith(b"ok"):
            got += client.sock.recv(4096)
    return seen[0], got


def test_proper_case(start, serve):
    request, answer = raw_exchange(start, serve, {"proper_case_words": {}})
    assert b"\r\nHost: me\r\n" in request and b"\r\nX-From-Client: 1\r\n" in request
    assert b"\r\nX-Request-Id: " in request
    assert b"\r\nX-Fromserver: 1\r\n" in answer and b"\r\nContent-Length: 2\r\n" in answer


@pytest.mark.parametrize("added,request_id", [("DEFAULT", b"x-request-id"),
                                              ("PROPER_CASE", b"X-Request-Id")])
def test_preserve_case(start, serve, added, request_id):
    formatter = {**PRESERVE, "typed_config": {
        **PRESERVE["typed_config"], "formatter_type_on_envoy_headers": added,
        "forward_reason_phrase": True}}
    request, answer = raw_exchange(start, serve, {"stateful_formatter": formatter})
    assert b"\r\nHOST: me\r\n" in request and b"\r\nx-FROM-client: 1\r\n" in request
    assert b"\r\n" + request_id + b": " in request
    assert answer.startswith(b"HTTP/1.1 200 Fine With Me\r\n")
    assert b"\r\nX-fromServer: 1\r\n" in answer and b"\r\nContent-LENGTH: 2\r\n" in answer


def test_fully_qualified_url(start, serve):
    upstream = serve()
    proxy = start(static([http_listener([mesh.route("up")])], [
        cluster("up", upstream, **h1_upstream({"send_fully_qualified_url": True}))]))
    assert ask(proxy.port(), "/a?b", host="me:80").status == 200
    assert upstream.requests[0].target == "http://me:80/a?b"


def test_upgrades_that_are_ignored(start, serve):
    upstream = serve()
    proxy = start(static([http_listener([mesh.route("up")], hcm={"http_protocol_options": {
        "ignore_http_11_upgrade": [{"prefix": "TLS"}]}})], [cluster("up", upstream)]))
    for protocol, status in (("TLS/1.2", 200), ("other", 403)):
        with Client(proxy.port()) as client:
            answer = client.ask(headers=[("Connection", "Upgrade"), ("Upgrade", protocol)])
            assert answer.status == status
    assert upstream.requests[0].get("upgrade") is None
