"""HTTP/2 on both sides, bridged with HTTP/1.1: framing, bodies, trailers, flow control, GOAWAY,
ALPN."""

import socket
import threading
import time

import pytest
from h2.settings import SettingCodes

from controlplane import mesh
from harness import http1
from harness.http2 import Answer, Client, Http2Server, upstream_options
from harness.proxy import cluster, http_listener, static
from harness.tls import context
from harness.upstream import response

MIB = 1 << 20


@pytest.fixture
def serve2():
    """serve2(...) starts an HTTP/2 upstream."""
    servers = []

    def starter(**more):
        servers.append(Http2Server(**more))
        return servers[-1]
    yield starter
    for server in servers:
        server.close()


@pytest.fixture
def proxied(start, serve, serve2):
    """proxied(upstream) is a proxy in front of an upstream of either protocol."""
    def starter(upstream, hcm=None, options=None, action=None, **more):
        if isinstance(upstream, Http2Server):
            more = {**upstream_options(), **more}
        return start(static([http_listener([mesh.route("up", **(action or {}))], log="access.log",
                                           hcm=hcm)],
                            [cluster("up", upstream, **more)]), **(options or {}))
    return starter


# --- the four bridges ---------------------------------------------------------------------------
def ask1(port, body=None):
    with http1.Client(port) as client:
        answer = client.ask(method="POST" if body else "GET", target="/x", body=body or b"")
        return answer.status, answer.body


def ask2(port, body=None):
    with Client(port) as client:
        answer = client.ask(method="POST" if body else "GET", path="/x", body=body)
        return answer.status, answer.body


@pytest.mark.parametrize("down", [ask1, ask2], ids=["from-http1", "from-http2"])
@pytest.mark.parametrize("up", [1, 2], ids=["to-http1", "to-http2"])
def test_bridge(proxied, serve, serve2, down, up):
    def answer(request):
        text = f"{request.method} {request.target} {len(request.body)}"
        return response(body=text.encode())
    proxy = proxied(serve(answer) if up == 1 else serve2())
    assert down(proxy.port()) == (200, b"GET /x 0")
    assert down(proxy.port(), b"z" * 300000) == (200, b"POST /x 300000")
    entries = proxy.wait_log(2)
    assert entries[0]["protocol"] == ("HTTP/1.1" if down is ask1 else "HTTP/2")
    kind = "http1" if down is ask1 else "http2"
    assert proxy.stat(f"http.test.downstream_cx_{kind}_total") == 2
    assert proxy.stat(f"http.test.downstream_rq_{kind}_total") == 2
    # each worker has connections of its own
    assert 1 <= proxy.stat(f"cluster.up.upstream_cx_http{up}_total") <= 2


def test_connection_fields_do_not_cross(proxied, serve, serve2):
    upstream = serve2()
    proxy = proxied(upstream)
    with http1.Client(proxy.port()) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\n"
                    b"Keep-Alive: 1\r\nTE: trailers, gzip\r\nX-End: 2\r\n\r\n")
        assert client.response().status == 200
    head = upstream.seen[0]
    assert head["x-end"] == "2" and head[":authority"] == "h" and head["te"] == "trailers"
    assert not {"connection", "keep-alive", "x-hop", "host"} & set(head)


def test_cookie_pieces_are_joined(proxied, serve):
    upstream = serve()
    proxy = proxied(upstream)
    with Client(proxy.port()) as client:
        answer = client.ask(headers=[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"),
                                     ("cookie", "c=3")])
        assert answer.status == 200
    assert dict(upstream.requests[0].headers)["cookie"] == "a=1; b=2; c=3"


@pytest.mark.parametrize("status", [204, 304])
def test_responses_without_body(proxied, serve2, status):
    def on_request(link, stream, head):
        link.send_headers(stream, [(":status", str(status)), ("x", "y")], end_stream=True)
    proxy = proxied(serve2(on_request=on_request))
    assert ask2(proxy.port()) == (status, b"")
    assert ask1(proxy.port()) == (status, b"")


def test_head(proxied, serve2):
    def on_request(link, stream, head):
        link.send_headers(stream, [(":status", "200"), ("content-length", "77")], end_stream=True)
    proxy = proxied(serve2(on_request=on_request))
    with Client(proxy.port()) as client:
        answer = client.ask(method="HEAD")
        assert (answer.status, answer.field("content-length"), answer.body) == (200, "77", b"")


# --- trailers and gRPC ----------------------------------------------------------------------------
def test_trailers_both_ways(proxied, serve2):
    def on_end(link, stream):
        link.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        link.send_data(stream, b"\0\0\0\0\2hi")
        link.send_headers(stream, [("grpc-status", "0"), ("x-late", "1")], end_stream=True)
    upstream = serve2(on_end=on_end)
    proxy = proxied(upstream)
    with Client(proxy.port()) as client:
        answer = client.ask(method="POST", headers=[("te", "trailers")], body=b"abc",
                            trailers=[("x-sum", "9")])
        assert answer.body == b"\0\0\0\0\2hi"
        assert dict(answer.trailers) == {"grpc-status": "0", "x-late": "1"}
    assert upstream.trailers == [{"x-sum": "9"}]
    assert upstream.seen[0]["te"] == "trailers"


def test_trailers_only(proxied, serve2):
    def on_request(link, stream, head):
        link.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc"),
                                   ("grpc-status", "7")], end_stream=True)
    proxy = proxied(serve2(on_request=on_request))
    with Client(proxy.port()) as client:
        answer = client.ask(method="POST", headers=[("content-type", "application/grpc")],
                            body=b"abc")
        assert (answer.status, answer.field("grpc-status"), answer.body) == (200, "7", b"")


def test_streams_both_ways_at_once(proxied, serve2):
    """Each message is answered before the next is sent: nothing waits for an end."""
    def on_request(link, stream, head):
        link.send_headers(stream, [(":status", "200")])

    def on_data(link, stream, data):
        link.send_data(stream, data.upper())

    def on_end(link, stream):
        link.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    proxy = proxied(serve2(on_request=on_request, on_data=on_data, on_end=on_end))
    with Client(proxy.port()) as client:
        stream = client.request(method="POST", end=False)
        answer = client.answers[stream]
        for i in range(50):
            client.send(stream, b"a" * 10)
            client.until(lambda: len(answer.body) == 10 * (i + 1))
        client.h2.end_stream(stream)
        client.flush()
        assert dict(client.answer(stream).trailers) == {"grpc-status": "0"}
        assert answer.body == b"A" * 500


# --- bodies and flow control ----------------------------------------------------------------------
def test_big_bodies(proxied, serve2):
    def on_end(link, stream):
        threading.Thread(target=pour, args=(link, stream, 4 * MIB), daemon=True).start()
    proxy = proxied(serve2(on_end=on_end))
    with Client(proxy.port()) as client:
        streams = [client.request(method="POST", body=b"x" * 200000) for _ in range(4)]
        for stream in streams:
            assert len(client.answer(stream).body) == 4 * MIB
    assert proxy.stat("http2.pending_send_bytes") == 0


def pour(link, stream, amount, sent=None):
    """Sends so much body as window is given."""
    with link.lock:
        link.send_headers(stream, [(":status", "200")])
    while amount:
        with link.lock:
            room = min(link.local_flow_control_window(stream), 16384, amount)
            if room > 0:
                link.send_data(stream, b"y" * room, end_stream=room == amount)
                amount -= room
                if sent is not None:
                    sent[0] += room
            data = link.data_to_send()
            if data:
                link.sock.sendall(data)
        if room <= 0:
            time.sleep(0.002)


@pytest.mark.parametrize("up", [1, 2], ids=["to-http1", "to-http2"])
def test_slow_reader_holds_the_watermark_only(proxied, serve, serve2, up):
    sent = [0]

    def handle(sock):
        http1.Reader(sock).request()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        while sent[0] < 50000000:
            sock.sendall(b"y" * 50000)
            sent[0] += 50000

    def on_end(link, stream):
        threading.Thread(target=pour, args=(link, stream, 50000000, sent), daemon=True).start()
    upstream = serve(handle=handle) if up == 1 else serve2(on_end=on_end)
    proxy = proxied(upstream)
    if proxy.is_envoy:
        pytest.skip("its windows and buffers are larger by default")
    with Client(proxy.port(), hold=True) as client:
        stream = client.request()
        client.until(lambda: len(client.answers[stream].body) >= 65535)
        client.quiet(1.0)
        held = sent[0]
        assert len(client.answers[stream].body) == 65535
        if up == 2: # the window of the stream and what waits for the client
            assert held < 300000
        else: # kernel's buffers too
            assert held < 8 * MIB
        time.sleep(0.5)
        assert sent[0] == held
        assert 0 < proxy.stat("http2.pending_send_bytes") < 200000


def test_paused_request_holds_one_window(proxied, serve2):
    """An upstream that takes nothing gets one window, and so does the proxy."""
    upstream = serve2(hold=True, on_request=lambda *a: None)
    proxy = proxied(upstream)
    if proxy.is_envoy:
        pytest.skip("its windows are larger by default")
    with Client(proxy.port()) as client:
        stream = client.request(method="POST", end=False)
        sent = 0
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            room = min(client.h2.local_flow_control_window(stream), 16384)
            if room > 0:
                client.h2.send_data(stream, b"z" * room)
                client.flush()
                sent += room
            else:
                client.quiet(0.1)
        assert sent < 400000
        # another request is not held up by it
        assert client.h2.local_flow_control_window(1) == 0
        client.h2.reset_stream(stream)
        client.flush()
    proxy.wait_stat("cluster.up.upstream_rq_tx_reset")


def test_many_streams(proxied, serve2):
    upstream = serve2()
    proxy = proxied(upstream)
    with Client(proxy.port()) as client:
        streams = [client.request(path=f"/{i}") for i in range(100)]
        for i, stream in enumerate(streams):
            assert client.answer(stream).body == f"GET /{i} 0".encode()
    assert upstream.connections == 1
    assert proxy.stat("http2.streams_active") == 0


def test_more_streams_than_the_upstream_takes(proxied, serve2):
    waiting = []
    lock = threading.Lock()

    def on_end(link, stream):
        with lock:
            waiting.append((link, stream))
        Http2Server.echo(link, stream)
    upstream = serve2(on_end=on_end,
                      settings={SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    proxy = proxied(upstream)
    if proxy.is_envoy:
        pytest.skip("sends more on a new connection; this upstream then ends it")
    with Client(proxy.port()) as client:
        assert client.ask().status == 200 # its SETTINGS are known now
        streams = [client.request(path=f"/{i}") for i in range(20)]
        assert {client.answer(s).status for s in streams} == {200}


# --- the end of streams and connections -----------------------------------------------------------
def test_early_response_ends_the_upload(proxied, serve2):
    def on_request(link, stream, head):
        link.send_headers(stream, [(":status", "413")], end_stream=True)
    upstream = serve2(on_request=on_request)
    proxy = proxied(upstream)
    with Client(proxy.port()) as client:
        answer = client.answer(client.request(method="POST", end=False))
        client.until(lambda: answer.reset is not None or client.closed)
        assert (answer.status, answer.ended, answer.reset) == (413, True, 0)
        assert client.ask().status == 413 # the connection goes on


def test_reset_no_error_keeps_the_response(proxied, serve2):
    """RFC 9113 8.1; CVE-2026-73513 is the same corner with trailers."""
    def on_request(link, stream, head):
        link.send_headers(stream, [(":status", "200")])
        link.send_data(stream, b"early", end_stream=True)
        link.reset_stream(stream, 0)
    proxy = proxied(serve2(on_request=on_request))
    with Client(proxy.port()) as client:
        answer = client.answer(client.request(method="POST", end=False))
        assert (answer.status, answer.body, answer.ended) == (200, b"early", True)


def test_client_resets(proxied, serve2):
    upstream = serve2(on_request=lambda *a: None)
    proxy = proxied(upstream)
    with Client(proxy.port()) as client:
        stream = client.request(method="POST", end=False)
        proxy.wait_stat("cluster.up.upstream_rq_active")
        client.h2.reset_stream(stream, 8)
        client.flush()
        proxy.wait(lambda: upstream.resets, 10, "the upstream's reset")
        assert upstream.resets in ([8], [2]) # CANCEL; Envoy: INTERNAL_ERROR
        proxy.wait_stat("http2.rx_reset")
        assert proxy.wait_log(1)[0]["code"] in (0, "0")


def test_upstream_resets(proxied, serve2):
    def on_request(link, stream, head):
        if head[":path"] == "/before":
            link.reset_stream(stream, 2)
        else:
            link.send_headers(stream, [(":status", "200")])
            link.send_data(stream, b"some")
            link.reset_stream(stream, 2)
    proxy = proxied(serve2(on_request=on_request))
    with Client(proxy.port()) as client:
        answer = client.ask(path="/before")
        assert answer.status == 503
        answer = client.ask(path="/amid")
        assert (answer.status, answer.ended) == (200, False)
        assert answer.reset is not None
    assert proxy.stat("cluster.up.upstream_rq_rx_reset") == 2
    assert [e["flags"] for e in proxy.wait_log(2)] == ["UR", "UR"]


def test_refused_streams_are_tried_again(proxied, serve2):
    refused = []

    def on_end(link, stream):
        if not refused:
            refused.append(stream)
            link.reset_stream(stream, 7)
        else:
            Http2Server.echo(link, stream)
    proxy = proxied(serve2(on_end=on_end),
                    action={"retry_policy": {"retry_on": "refused-stream"}})
    assert ask2(proxy.port()) == (200, b"GET /x 0")
    assert refused


def test_upstream_goaway(proxied, serve2):
    """After GOAWAY no request goes to that connection; those under way end well."""
    held = []

    def on_end(link, stream):
        if link.heads[stream][":path"] == "/held":
            held.append((link, stream))
            link.close_connection(last_stream_id=stream)
            # h2 sends nothing more after its own GOAWAY: the answer is made by hand
            link.sock.sendall(link.data_to_send())
            block = link.encoder.encode([(":status", "200")])
            time.sleep(0.3)
            link.sock.sendall(len(block).to_bytes(3, "big") + b"\x01\x05" +
                              stream.to_bytes(4, "big") + block)
        else:
            Http2Server.echo(link, stream)
    upstream = serve2(on_end=on_end)
    proxy = proxied(upstream, options={"concurrency": 1})
    with Client(proxy.port()) as client:
        first = client.request(path="/held")
        proxy.wait(lambda: held, 10, "the request")
        proxy.wait_stat("cluster.up.upstream_cx_close_notify")
        second = client.request(path="/next")
        assert client.answer(second).status == 200
        assert client.answer(first).status == 200
    assert upstream.connections == 2


def test_max_requests_per_connection(proxied, serve2):
    upstream = serve2()
    proxy = proxied(upstream, hcm={"common_http_protocol_options":
                                   {"max_requests_per_connection": 3}})
    with Client(proxy.port()) as client:
        for _ in range(3):
            assert client.ask().status == 200
        client.wait_closed()
        assert [code for code, _ in client.goaway] == [0, 0]
        assert client.goaway[0][1] == 0x7fffffff
        assert client.goaway[1][1] == 5


def test_drain_is_two_goaways(proxied, serve2):
    """A request on its way when the drain begins is served."""
    proxy = proxied(serve2())
    with Client(proxy.port()) as client:
        assert client.ask().status == 200
        proxy.admin("/drain_listeners?graceful&skip_exit", method="POST")
        assert client.ask().status == 200
        deadline = time.monotonic() + 15
        while not client.goaway and not client.closed and time.monotonic() < deadline:
            client.ask()
        assert client.goaway[0][0] == 0
        client.wait_closed()


def test_drain_tells_those_who_ask_nothing(proxied, serve2):
    proxy = proxied(serve2())
    if proxy.is_envoy:
        pytest.skip("tells with the next response")
    with Client(proxy.port()) as client:
        assert client.ask().status == 200
        proxy.admin("/drain_listeners?skip_exit", method="POST")
        client.wait_closed()
        assert [last for _, last in client.goaway] == [0x7fffffff, 1]


def test_idle_connection_is_closed(proxied, serve2):
    proxy = proxied(serve2(), hcm={"common_http_protocol_options": {"idle_timeout": "0.5s"}})
    with Client(proxy.port()) as client:
        assert client.ask().status == 200
        client.wait_closed()
        assert client.goaway and client.goaway[-1] == (0, 1)


def test_keep_alive_pings(start, serve2, proxied):
    keep = {"connection_keepalive": {"interval": "0.2s", "timeout": "5s",
                                     "interval_jitter": {"value": 0}}}
    proxy = proxied(serve2(), hcm={"http2_protocol_options": keep})
    with Client(proxy.port()) as client:
        assert client.ask().status == 200
        client.quiet(1.0) # the client answers PINGs by itself
        assert client.ask().status == 200
    assert proxy.stat("http2.keepalive_timeout") == 0


def test_dead_client_is_found_by_pings(proxied, serve2):
    keep = {"connection_keepalive": {"interval": "0.1s", "timeout": "0.3s"}}
    proxy = proxied(serve2(), hcm={"http2_protocol_options": keep})
    with Client(proxy.port()) as client:
        assert client.ask().status == 200
        proxy.wait_stat("http2.keepalive_timeout")
        proxy.wait(lambda: proxy.stat("http.test.downstream_cx_http2_active") == 0, 10, "its end")


def test_dead_upstream_is_found_by_pings(proxied, serve):
    """An upstream that accepts and says nothing."""
    def handle(sock):
        while sock.recv(65536):
            pass
    upstream = serve(handle=handle)
    keep = {"connection_keepalive": {"interval": "0.1s", "timeout": "0.3s"}}
    proxy = proxied(upstream, **upstream_options(http2=keep))
    with Client(proxy.port()) as client:
        assert client.ask().status == 503
    assert proxy.stat("cluster.up.http2.keepalive_timeout") == 1


# --- which protocol -------------------------------------------------------------------------------
def test_preface_byte_by_byte(proxied, serve2):
    proxy = proxied(serve2())
    with Client(proxy.port(), timeout=10) as client:
        assert client.ask().status == 200
    with socket.create_connection(("127.0.0.1", proxy.port()), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0":
            sock.sendall(bytes([byte]))
        assert sock.recv(9)[3] == 4 # SETTINGS
    # the first byte that cannot be the preface makes it HTTP/1
    with http1.Client(proxy.port()) as client:
        client.send(b"PR")
        time.sleep(0.1)
        client.send(b"OPFIND / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.response().status == 200


def test_codec_type_http2_takes_nothing_else(proxied, serve2):
    proxy = proxied(serve2(), hcm={"codec_type": "HTTP2"})
    with http1.Client(proxy.port()) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        with pytest.raises((http1.Closed, ConnectionError, ValueError, AssertionError)):
            client.response()
    assert ask2(proxy.port()) == (200, b"GET /x 0")


def tls_listener(authority, alpn, name="main"):
    identity = authority.issue("server")
    made = http_listener([mesh.route("up")], name=name, log="access.log")
    chain = made["filter_chains"][0]
    chain["transport_socket"] = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
                     "DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": alpn,
                "tls_certificates": [{
                    "certificate_chain": {"inline_string": identity.chain_pem.decode()},
                    "private_key": {"inline_string": identity.key_pem.decode()}}]}}}
    return made


def test_alpn_downstream(start, serve, authority):
    proxy = start(static([tls_listener(authority, ["h2", "http/1.1"])],
                         [cluster("up", serve())]))
    with Client(proxy.port(), tls=context(authority, alpn=["h2"])) as client:
        assert client.sock.selected_alpn_protocol() == "h2"
        assert client.ask(scheme="https").status == 200
    for alpn in (["http/1.1"], []):
        tls = context(authority, alpn=alpn)
        raw = socket.create_connection(("127.0.0.1", proxy.port()), timeout=10)
        with http1.Client(proxy.port(), sock=tls.wrap_socket(raw, server_hostname="x")) as client:
            assert client.ask().status == 200
    assert proxy.stat("http.test.downstream_cx_http2_total") == 1
    assert proxy.stat("http.test.downstream_cx_http1_total") == 2


def upstream_tls():
    return {"transport_socket": {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
                     "UpstreamTlsContext"}}}


def test_auto_config_takes_what_alpn_says(start, serve, serve2, authority):
    server = authority.issue("server")
    new = serve2(tls=context(authority, server, server=True, alpn=["h2"], require=False))
    old = serve(tls=context(authority, server, server=True, alpn=["http/1.1"], require=False))
    routes = [mesh.route("new", prefix="/new"), mesh.route("old")]
    auto = {**upstream_options("auto_config"), **upstream_tls()}
    proxy = start(static([http_listener(routes, log="access.log")],
                         [cluster("new", new, **auto), cluster("old", old, **auto)]))
    with Client(proxy.port()) as client:
        assert client.ask(path="/new").body == b"GET /new 0"
        assert client.ask(path="/old").status == 200
    assert proxy.stat("cluster.new.upstream_cx_http2_total") == 1
    assert proxy.stat("cluster.old.upstream_cx_http1_total") == 1


def test_use_downstream_protocol(start, serve, serve2):
    """What the client speaks is spoken to the upstream."""
    new, old = serve2(), serve()
    routes = [mesh.route("new", prefix="/new"), mesh.route("old")]
    same = upstream_options("use_downstream_protocol_config")
    proxy = start(static([http_listener(routes)],
                         [cluster("new", new, **same), cluster("old", old, **same)]))
    with Client(proxy.port()) as client:
        assert client.ask(path="/new").status == 200
    with http1.Client(proxy.port()) as client:
        assert client.ask(target="/old").status == 200
    assert new.connections == 1 and old.connections == 1


# --- tunnels (RFC 8441, RFC 9113 8.5) -----------------------------------------------------------------
UPGRADES = {"upgrade_configs": [{"upgrade_type": "websocket"}],
            "http2_protocol_options": {"allow_connect": True}}
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
          b"sec-websocket-accept: x\r\n\r\n")


class Shout:
    """An HTTP/1.1 upstream that grants an upgrade and sends back in capitals what comes."""

    def __init__(self):
        self.heads = []

    def __call__(self, sock):
        self.heads.append(http1.Reader(sock).head())
        sock.sendall(SWITCH)
        while data := sock.recv(65536):
            sock.sendall(data.upper())


def begin_tunnel(client, protocol="websocket"):
    stream = client.h2.get_next_available_stream_id()
    client.answers[stream] = Answer()
    client.h2.send_headers(stream, [(":method", "CONNECT"), (":protocol", protocol),
                                    (":scheme", "http"), (":path", "/chat"),
                                    (":authority", "h"), ("sec-websocket-version", "13")])
    client.flush()
    return stream


def test_websocket_from_http2_to_http1(proxied, serve):
    shout = Shout()
    proxy = proxied(serve(handle=shout), hcm=UPGRADES)
    if proxy.is_envoy:
        pytest.skip("waits for a key, which RFC 8441 leaves out")
    with Client(proxy.port()) as client:
        client.until(lambda: client.h2.remote_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL))
        stream = begin_tunnel(client)
        answer = client.answers[stream]
        client.until(lambda: answer.headers)
        assert answer.status == 200
        assert not {"connection", "upgrade"} & set(dict(answer.headers))
        for word in (b"one", b"two" * 30000):
            before = len(answer.body)
            client.send(stream, word)
            client.until(lambda: len(answer.body) == before + len(word))
        client.h2.end_stream(stream)
        client.flush()
        client.answer(stream)
    head = shout.heads[0]
    assert head.start[0] == "GET" and head.get("upgrade") == "websocket"
    assert "upgrade" in head.get("connection").lower()


def test_websocket_over_two_proxies(start, serve):
    """HTTP/1.1 to the first, HTTP/2 between them, HTTP/1.1 to the server."""
    shout = Shout()
    upstream = serve(handle=shout)
    second = start(static([http_listener([mesh.route("up")], hcm=UPGRADES)],
                          [cluster("up", upstream)]))
    first = start(static([http_listener([mesh.route("next")], hcm=UPGRADES)],
                         [cluster("next", ("127.0.0.1", second.port()),
                                  **upstream_options(http2={"allow_connect": True}))]))
    with http1.Client(first.port()) as client:
        # which waits until the second has said that it takes one
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        head = client.reader.head()
        assert head.start[1] == "101"
        assert head.get("upgrade") == "websocket"
        client.send(b"hello")
        assert client.reader.take(5) == b"HELLO"
    assert second.stat("http.test.downstream_cx_http2_total") == 1


def test_extended_connect_is_only_taken_where_it_is_offered(proxied, serve):
    proxy = proxied(serve(handle=Shout()), hcm={"upgrade_configs": UPGRADES["upgrade_configs"]})
    with Client(proxy.port(), validate=False) as client:
        begin_tunnel(client)
        client.wait_closed()
        assert client.goaway[0][0] == 1 if not proxy.is_envoy else True


def test_connect_without_a_route(proxied, serve2):
    upstream = serve2()
    proxy = proxied(upstream, hcm={"upgrade_configs": [{"upgrade_type": "CONNECT"}],
                                   "http2_protocol_options": {"allow_connect": True}})
    with Client(proxy.port()) as client:
        stream = client.h2.get_next_available_stream_id()
        client.answers[stream] = Answer()
        client.h2.send_headers(stream, [(":method", "CONNECT"), (":authority", "h:443")])
        client.flush()
        client.until(lambda: client.answers[stream].headers)
        assert client.answers[stream].status == 404
    assert upstream.seen == []
