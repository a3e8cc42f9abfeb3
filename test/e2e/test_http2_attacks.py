"""What hostile clients do with HTTP/2, each by the name it became known by: the connection or the
stream ends, it is counted, and the proxy goes on serving others at little cost."""

import os
import socket
import struct
import time

import hpack
import pytest

from controlplane import mesh
from harness.frames import (
    ACK, CALM, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, NO_ERROR, PADDED, PING,
    PREFACE, PRIORITY, PROTOCOL_ERROR, PUSH, RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE,
    Raw, block, frame)
from harness.http2 import Client, Http2Server, upstream_options
from harness.proxy import cluster, http_listener, static
from harness.upstream import response

OTHER_LIMITS = "has other limits and ends other things by them; the counters' names are its own"
TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def victim(start, serve):
    """victim(...) is a proxy in front of an HTTP/1 upstream."""
    def starter(answer=None, http2=None, hcm=None, **more):
        upstream = serve(answer or (lambda r: response(body=b"x" * 1000)))
        fields = {"http2_protocol_options": http2 or {}, **(hcm or {})}
        proxy = start(static([http_listener([mesh.route("up")], log="access.log", hcm=fields)],
                             [cluster("up", upstream, **more)]))
        proxy.upstream = upstream
        if proxy.is_envoy:
            pytest.skip(OTHER_LIMITS)
        return proxy
    return starter


@pytest.fixture
def well():
    """well(proxy) checks that others are still served, and that little time was spent."""
    def check(proxy, seconds=20):
        with Client(proxy.port()) as client:
            assert client.ask().status == 200
        with open(f"/proc/{proxy.process.pid}/stat", encoding="ascii") as src:
            fields = src.read().rpartition(")")[2].split()
        assert (int(fields[11]) + int(fields[12])) / TICKS < seconds
    return check


# --- frames that make us answer ---------------------------------------------------------------------
@pytest.mark.parametrize("flood", [frame(PING, payload=b"12345678"), frame(SETTINGS)],
                         ids=["CVE-2019-9512-ping", "CVE-2019-9515-settings"])
def test_answers_that_nobody_reads(victim, well, flood):
    proxy = victim(http2={"max_outbound_control_frames": 100})
    with Raw(proxy.port(), receive=4096) as raw:
        deadline = time.monotonic() + 60
        raw.sock.settimeout(5)
        while not raw.cut and time.monotonic() < deadline:
            raw.send(flood * 2000)
            if proxy.stat("http2.outbound_control_flood"):
                break
    assert proxy.stat("http2.outbound_control_flood") == 1
    well(proxy)


def test_settings_with_many_entries(victim, well):
    """CVE-2020-11080"""
    proxy = victim()
    with Raw(proxy.port()) as raw:
        raw.send(frame(SETTINGS, payload=struct.pack(">HI", 0xff, 1) * 2000))
        assert raw.goaway() in (None, CALM, PROTOCOL_ERROR)
    well(proxy)


# --- frames that carry nothing ------------------------------------------------------------------------
def test_cve_2019_9513_priority(victim, well):
    proxy = victim(http2={"max_inbound_priority_frames_per_stream": 10})
    with Raw(proxy.port()) as raw:
        raw.request()
        raw.send(b"".join(frame(PRIORITY, 0, 2 * i + 3, struct.pack(">IB", 0, i % 256))
                          for i in range(200)))
        assert raw.goaway() == CALM
    assert proxy.stat("http2.inbound_priority_frames_flood") == 1
    well(proxy)


def test_window_update_flood(victim, well):
    proxy = victim()
    with Raw(proxy.port()) as raw:
        raw.request()
        raw.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 2000)
        assert raw.goaway() == CALM
    assert proxy.stat("http2.inbound_window_update_frames_flood") == 1
    well(proxy)


@pytest.mark.parametrize("empty", [frame(DATA, 0, 1), frame(DATA, PADDED, 1, b"\x07" + b"\0" * 7),
                                   frame(CONTINUATION, 0, 3)],
                         ids=["data", "padding", "continuation"])
def test_cve_2019_9518_empty_frames(victim, well, empty):
    proxy = victim()
    with Raw(proxy.port()) as raw:
        raw.request(end=False, method="POST")
        if empty[3] == CONTINUATION:
            raw.send(frame(HEADERS, 0, 3, block()))
        raw.send(empty * 100)
        assert raw.goaway() == CALM
    assert proxy.stat("http2.inbound_empty_frames_flood") == 1
    well(proxy)


def test_frames_of_unknown_kinds_are_nothing(victim, well):
    """METADATA and whatever comes: ignored, as RFC 9113 5.5 wants it."""
    proxy = victim()
    with Raw(proxy.port()) as raw:
        raw.send(frame(0x4d, 0, 0, b"x" * 16000) * 100 + frame(0xfa, 255, 1, b"y" * 10) * 1000)
        raw.request()
        assert raw.until(HEADERS)
    well(proxy)


# --- streams that end too early -----------------------------------------------------------------------
def held(request):
    """An answer that takes longer than the test."""
    time.sleep(0.2)
    return response(body=b"late")


def test_cve_2023_44487_rapid_reset(victim, well):
    proxy = victim(held)
    with Raw(proxy.port()) as raw:
        one = block()
        for first in range(1, 4001, 200):
            raw.send(b"".join(frame(HEADERS, END_HEADERS | END_STREAM, s, one) +
                              frame(RST_STREAM, 0, s, struct.pack(">I", 8))
                              for s in range(first, first + 200, 2)))
        assert raw.goaway() == CALM
    assert proxy.stat("http.test.downstream_rq_too_many_premature_resets") == 1
    # what was begun was given up
    proxy.wait(lambda: proxy.stat("http.test.downstream_rq_active") == 0, 20, "the end of all")
    well(proxy)


PROVOKE = {
    "zero-window-update": lambda s: frame(WINDOW_UPDATE, 0, s, struct.pack(">I", 0)),
    "window-overflow": lambda s: frame(WINDOW_UPDATE, 0, s, struct.pack(">I", 0x7fffffff)),
    "data-after-end": lambda s: frame(DATA, 0, s, b"x"),
    "headers-after-end": lambda s: frame(HEADERS, END_HEADERS | END_STREAM, s, block()),
    "priority-on-itself": lambda s: frame(PRIORITY, 0, s, struct.pack(">IB", s, 1)),
    "priority-length": lambda s: frame(PRIORITY, 0, s, b"1234"),
}


@pytest.mark.parametrize("how", PROVOKE)
def test_cve_2025_8671_made_you_reset(victim, well, how):
    """The client makes us reset: that counts as if it had done so itself."""
    proxy = victim(held)
    with Raw(proxy.port()) as raw:
        one = block()
        for first in range(1, 4001, 200):
            raw.send(b"".join(frame(HEADERS, END_HEADERS | END_STREAM, s, one) + PROVOKE[how](s)
                              for s in range(first, first + 200, 2)))
        assert raw.goaway() in (CALM, PROTOCOL_ERROR, STREAM_CLOSED, 3, 6)
    proxy.wait(lambda: proxy.stat("http.test.downstream_rq_active") == 0, 20, "the end of all")
    well(proxy)


def test_cve_2019_9514_reset_flood(victim, well):
    """Requests that are malformed, where only the stream ends by them."""
    proxy = victim(http2={"override_stream_error_on_invalid_http_message": True})
    with Raw(proxy.port()) as raw:
        bad = block(("connection", "close"))
        for first in range(1, 4001, 200):
            raw.send(b"".join(frame(HEADERS, END_HEADERS | END_STREAM, s, bad)
                              for s in range(first, first + 200, 2)))
        assert raw.goaway() == CALM
    assert proxy.stat("http2.rx_messaging_error") > 100
    well(proxy)


def test_many_requests_at_once_leave_others_their_turn(victim, well):
    proxy = victim()
    with Raw(proxy.port()) as raw:
        one = block()
        raw.send(b"".join(frame(HEADERS, END_HEADERS | END_STREAM, s, one)
                          for s in range(1, 801, 2)))
        ended = 0
        while ended < 400:
            f = raw.next()
            assert f is not None and f[0] != GOAWAY
            ended += f[0] == DATA and bool(f[1] & END_STREAM)
            if f[0] == DATA and f[3]:
                raw.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(f[3]))))
    well(proxy)


# --- heads ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("piece", [b"", b"\x00\x01a\x01b", b"\x00\x01a\x7f\x80\x7a" + b"c" * 16000],
                         ids=["CVE-2024-30255-empty", "CVE-2024-27919-small", "CVE-2024-27316-big"])
def test_continuation_flood(victim, well, piece):
    """A head that never ends: it is cut while it comes."""
    proxy = victim()
    with Raw(proxy.port()) as raw:
        raw.send(frame(HEADERS, END_STREAM, 1, block()))
        for _ in range(20):
            raw.send(frame(CONTINUATION, 0, 1, piece) * 10)
        assert raw.goaway() == CALM
    counted = proxy.stats("^http2\\.(too_many_header_frames|inbound_empty_frames_flood|"
                          "header_overflow)$")
    assert sum(counted.values()) == 1
    assert proxy.upstream.requests == []
    well(proxy)


def test_continuation_is_a_head_like_another(victim):
    proxy = victim()
    with Raw(proxy.port()) as raw:
        whole = block(("x-long", "y" * 100))
        raw.send(frame(HEADERS, END_STREAM, 1, whole[:20]))
        for i in range(20, len(whole), 30):
            last = i + 30 >= len(whole)
            raw.send(frame(CONTINUATION, END_HEADERS if last else 0, 1, whole[i:i + 30]))
        assert raw.until(HEADERS)


def indexed(times):
    """A header block that names one big entry of the table again and again: one byte each."""
    encoder = hpack.Encoder()
    first = encoder.encode([(":method", "GET"), (":scheme", "http"), (":path", "/"),
                            (":authority", "h")])
    length = 4000 - 127
    big = b"\x40\x01z\x7f" + bytes([length & 127 | 128, length >> 7]) + b"v" * 4000
    return first + big + b"\xbe" * times


def test_hpack_amplification(victim, well):
    """Decoded size counts, not what is on the wire (CVE-2016-1544 and its like)."""
    proxy = victim()
    with Raw(proxy.port()) as raw:
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, indexed(10000)))
        assert raw.goaway() == CALM
    with Raw(proxy.port()) as raw: # only a little beyond: the stream ends, the connection goes on
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, indexed(20)))
        kind, _, stream, payload = raw.until(RST_STREAM, GOAWAY)
        assert (kind, stream, payload) == (RST_STREAM, 1, struct.pack(">I", CALM))
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 3, block()))
        assert raw.until(HEADERS)
    assert proxy.stat("http2.header_overflow") == 2
    assert len(proxy.upstream.requests) == 1
    well(proxy)


@pytest.mark.parametrize("fields", [
    pytest.param([("cookie", f"{i}=1") for i in range(3000)], id="CVE-2026-47774-cookie-pieces"),
    pytest.param([("cookie", "a" * 4000)] * 20, id="CVE-2026-47774-cookie-bytes"),
    pytest.param([("host", "h" * 4000)] * 20, id="CVE-2026-73550-host"),
    pytest.param([(f"a{i}", "") for i in range(5000)], id="CVE-2019-15226-tiny"),
    pytest.param([("x", "y")] * 101, id="101-fields"),
])
def test_heads_beyond_the_limits(victim, well, fields):
    proxy = victim(http2={"override_stream_error_on_invalid_http_message": True})
    with Raw(proxy.port()) as raw:
        whole = block(*fields)
        pieces = [whole[i:i + 16384] for i in range(0, len(whole), 16384)]
        for i, piece in enumerate(pieces):
            flags = (END_STREAM if i == 0 else 0) | (END_HEADERS if i + 1 == len(pieces) else 0)
            raw.send(frame(CONTINUATION if i else HEADERS, flags, 1, piece))
        kind, _, stream, payload = raw.until(RST_STREAM, GOAWAY)
        assert kind == GOAWAY or (stream, payload[3]) in ((1, CALM), (1, PROTOCOL_ERROR))
    assert proxy.upstream.requests == []
    well(proxy)


def test_many_cookies_are_fine(victim):
    proxy = victim()
    with Client(proxy.port()) as client:
        assert client.ask(headers=[("cookie", f"c{i}=1") for i in range(300)]).status == 200
    text = dict(proxy.upstream.requests[0].headers)
    assert text.get("cookie", "").count("; ") == 299


HEAD = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "h")]
MALFORMED = {
    "CVE-2019-9516-empty-name": HEAD + [("", "x")],
    "upper-case-name": HEAD + [("Abc", "x")],
    "space-in-name": HEAD + [("a b", "x")],
    "colon-in-name": HEAD + [("a:b", "x")],
    "nul-in-value": HEAD + [("a", "x\0y")],
    "cr-in-value": HEAD + [("a", "x\ry")],
    "lf-in-value": HEAD + [("a", "x\nb: c")],
    "space-before-value": HEAD + [("a", " x")],
    "tab-after-value": HEAD + [("a", "x\t")],
    "connection": HEAD + [("connection", "close")],
    "keep-alive": HEAD + [("keep-alive", "1")],
    "proxy-connection": HEAD + [("proxy-connection", "close")],
    "transfer-encoding": HEAD + [("transfer-encoding", "chunked")],
    "upgrade": HEAD + [("upgrade", "websocket")],
    "te": HEAD + [("te", "gzip")],
    "no-method": HEAD[1:],
    "no-scheme": [HEAD[0], *HEAD[2:]],
    "no-path": [HEAD[0], HEAD[1], HEAD[3]],
    "empty-path": [HEAD[0], HEAD[1], (":path", ""), HEAD[3]],
    "path-without-slash": [HEAD[0], HEAD[1], (":path", "x"), HEAD[3]],
    "star-not-for-options": [HEAD[0], HEAD[1], (":path", "*"), HEAD[3]],
    "space-in-path": [HEAD[0], HEAD[1], (":path", "/ HTTP/1.1"), HEAD[3]],
    "crlf-in-path": [HEAD[0], HEAD[1], (":path", "/\r\nx: y"), HEAD[3]],
    "crlf-in-method": [(":method", "GET / HTTP/1.1\r\n"), *HEAD[1:]],
    "crlf-in-authority": [*HEAD[:3], (":authority", "h\r\nx: y")],
    "two-methods": HEAD + [(":method", "POST")],
    "two-paths": [*HEAD, (":path", "/x")],
    "two-authorities": [*HEAD, (":authority", "g")],
    "status-in-request": [*HEAD, (":status", "200")],
    "unknown-pseudo": [*HEAD, (":x", "y")],
    "pseudo-after-field": [*HEAD[:3], ("a", "b"), HEAD[3]],
    "protocol-not-offered": [(":method", "CONNECT"), *HEAD[1:], (":protocol", "websocket")],
    "connect-with-path": [(":method", "CONNECT"), (":path", "/"), HEAD[3]],
    "connect-without-authority": [(":method", "CONNECT")],
    "host-differs": HEAD + [("host", "other")],
    "two-hosts": HEAD[:3] + [("host", "h"), ("host", "h")],
    "two-lengths": HEAD + [("content-length", "0"), ("content-length", "0")],
    "signed-length": HEAD + [("content-length", "+1")],
    "list-of-lengths": HEAD + [("content-length", "1,1")],
    "big-length": HEAD + [("content-length", "99999999999999999999")],
    "CVE-2026-48743-length-without-body": HEAD + [("content-length", "5")],
    "scheme-unknown": [HEAD[0], (":scheme", "gopher"), *HEAD[2:]],
}


@pytest.mark.parametrize("reset", [False, True], ids=["connection", "stream"])
def test_malformed_requests(victim, well, reset):
    """RFC 9113 8.1.1 to 8.5: nothing of them is forwarded."""
    proxy = victim(http2={"override_stream_error_on_invalid_http_message": reset})
    for number, (name, fields) in enumerate(MALFORMED.items(), 1):
        with Raw(proxy.port()) as raw:
            raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block(fields=fields)))
            f = raw.until(RST_STREAM, GOAWAY)
            assert f, name
            if reset:
                assert (f[0], f[2], f[3][3]) == (RST_STREAM, 1, PROTOCOL_ERROR), name
                raw.request(3)
                assert raw.until(HEADERS), name
            else:
                assert (f[0], f[3][7]) == (GOAWAY, PROTOCOL_ERROR), name
        assert proxy.stat("http2.rx_messaging_error") == number, name
    assert len(proxy.upstream.requests) == (len(MALFORMED) if reset else 0)
    well(proxy)


@pytest.mark.parametrize("body, length", [(b"", 5), (b"abcd", 5), (b"abcdef", 5)],
                         ids=["none", "short", "long"])
def test_bodies_of_another_length(victim, body, length):
    proxy = victim()
    with Raw(proxy.port()) as raw:
        raw.request(1, ("content-length", str(length)), method="POST", end=False)
        raw.send(frame(DATA, END_STREAM, 1, body))
        assert raw.goaway() == PROTOCOL_ERROR
    assert proxy.stat("http2.rx_messaging_error") == 1
    assert all(len(r.body) <= length for r in proxy.upstream.requests)


@pytest.mark.parametrize("action, counter", [
    ("REJECT_REQUEST", "requests_rejected_with_underscores_in_headers"),
    ("DROP_HEADER", "dropped_headers_with_underscores")])
def test_underscores(victim, action, counter):
    proxy = victim(hcm={"common_http_protocol_options":
                        {"headers_with_underscores_action": action}})
    with Client(proxy.port()) as client:
        answer = client.ask(headers=[("a_b", "1"), ("c", "2")])
        if action == "DROP_HEADER":
            assert answer.status == 200
        else:
            assert answer.reset is not None and not answer.headers
    assert proxy.stat(f"http2.{counter}") == 1
    for request in proxy.upstream.requests:
        assert "a_b" not in dict(request.headers) and dict(request.headers)["c"] == "2"


def test_cve_2023_35944_scheme_in_any_case(victim):
    proxy = victim()
    with Raw(proxy.port()) as raw:
        raw.request(scheme="HTTP")
        assert raw.until(HEADERS)


def test_cve_2026_73513_trailers_without_end(victim, well):
    proxy = victim()
    with Raw(proxy.port()) as raw:
        raw.request(method="POST", end=False)
        raw.send(frame(DATA, 0, 1, b"abc"))
        raw.send(frame(HEADERS, END_HEADERS, 1, block(fields=[("x", "y")])))
        assert raw.goaway() == PROTOCOL_ERROR
    well(proxy)


@pytest.mark.parametrize("trailers", [[(":path", "/")], [("content-length", "3")], [("host", "h")],
                                      [("connection", "close")], [("x", "a\nb")]])
def test_malformed_trailers(victim, trailers):
    proxy = victim()
    with Raw(proxy.port()) as raw:
        raw.request(method="POST", end=False)
        raw.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(fields=trailers)))
        assert raw.goaway() == PROTOCOL_ERROR


# --- streams that are not there -------------------------------------------------------------------------
def test_headers_on_a_stream_that_was_left_out(victim, well):
    """RFC 9113 5.1.1: ids only rise."""
    proxy = victim()
    with Raw(proxy.port()) as raw:
        raw.request(7)
        assert raw.until(HEADERS)
        raw.request(3)
        assert raw.goaway() == PROTOCOL_ERROR
    well(proxy)


@pytest.mark.parametrize("late", [frame(HEADERS, END_HEADERS | END_STREAM, 1, block()),
                                  frame(DATA, END_STREAM, 1, b"x")], ids=["headers", "data"])
def test_frames_on_a_closed_stream(victim, late):
    proxy = victim()
    with Raw(proxy.port()) as raw:
        raw.request()
        f = raw.until(DATA)
        assert f[1] & END_STREAM or raw.until(DATA)
        raw.send(late)
        assert raw.goaway() == STREAM_CLOSED


def test_frames_that_crossed_our_reset_are_nothing(victim):
    """What the client sent before it knew of the early end of its stream."""
    proxy = victim()
    with Raw(proxy.port()) as raw:
        raw.request(1, method="POST", end=False, path="/#") # answered with 400 by the codec
        kind, _, stream, payload = raw.until(RST_STREAM)
        assert (stream, payload[3]) == (1, NO_ERROR)
        raw.send(frame(DATA, 0, 1, b"x" * 1000) * 20 + frame(HEADERS, END_HEADERS | END_STREAM, 1,
                                                              block(fields=[("x", "y")])))
        raw.request(3)
        f = raw.until(HEADERS, GOAWAY)
        assert (f[0], f[2]) == (HEADERS, 3)


# --- clients that do not take what they asked for -----------------------------------------------------
def test_cve_2019_9517_no_window(victim, well):
    """Responses wait for window: as many bytes as the watermark each, until the stream is given
    up."""
    big = b"z" * 300000
    proxy = victim(lambda r: response(body=big), hcm={"stream_idle_timeout": "1s"})
    with Raw(proxy.port(), settings=struct.pack(">HI", 4, 1)) as raw:
        for i in range(50):
            raw.request(2 * i + 1)
        proxy.wait_stat("http2.pending_send_bytes", 50 * 1000)
        # not all of 15 MB, nor a watermark (32 KiB) for each
        assert proxy.stat("http2.pending_send_bytes") < 250000
        resets = 0
        while resets < 50:
            f = raw.next()
            assert f is not None
            resets += f[0] == RST_STREAM
    proxy.wait(lambda: proxy.stat("http2.pending_send_bytes") == 0, 10, "nothing pending")
    well(proxy)


def test_streams_without_window_do_not_stop_the_rest(victim):
    proxy = victim(lambda r: response(body=b"z" * 300000))
    with Raw(proxy.port(), settings=struct.pack(">HI", 4, 0)) as raw:
        raw.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 20)))
        for i in range(20):
            raw.request(2 * i + 1)
        proxy.wait_stat("http2.pending_send_bytes", 30000)
        raw.request(41)
        raw.send(frame(WINDOW_UPDATE, 0, 41, struct.pack(">I", 1 << 20)))
        got, ended = 0, False
        while not ended:
            kind, flags, stream, payload = raw.next()
            got += len(payload) if (kind, stream) == (DATA, 41) else 0
            ended = stream == 41 and kind == DATA and bool(flags & END_STREAM)
        assert got == 300000


def test_uploads_that_the_upstream_does_not_take(start, serve):
    """The bound of all streams together on the upstream's connection."""
    def handle(conn):
        conn.sendall(frame(SETTINGS, payload=struct.pack(">HI", 4, 0)) + frame(SETTINGS, ACK))
        while conn.recv(65536):
            pass
    server = serve(handle=handle)
    proxy = start(static([http_listener([mesh.route("up")])],
                         [cluster("up", server, **upstream_options(http2={}))]))
    if proxy.is_envoy:
        pytest.skip(OTHER_LIMITS)
    with Raw(proxy.port()) as raw:
        for i in range(30):
            raw.request(2 * i + 1, method="POST", end=False)
        for i in range(60):
            raw.send(frame(DATA, 0, 2 * (i % 30) + 1, b"x" * 16000))
        proxy.wait_stat("cluster.up.http2.pending_send_bytes", 30000)
        proxy.wait_stat("cluster.up.http2.streams_active", 30)
        assert proxy.stat("cluster.up.http2.pending_send_bytes") < 250000
    proxy.wait(lambda: proxy.stat("cluster.up.http2.streams_active") == 0, 10, "no streams")
    assert proxy.stat("cluster.up.http2.pending_send_bytes") == 0


def test_slow_read_of_whole_responses(victim, well):
    """The response is complete and the upstream gone: the flush has a time limit too."""
    proxy = victim(lambda r: response(body=b"z" * 1000), hcm={"stream_idle_timeout": "1s"})
    with Raw(proxy.port(), settings=struct.pack(">HI", 4, 1)) as raw:
        for i in range(20):
            raw.request(2 * i + 1)
        proxy.wait_stat("http2.tx_flush_timeout", 20, 20)
    assert proxy.stat("http2.pending_send_bytes") == 0
    well(proxy)


def test_head_that_is_never_finished(victim, well):
    proxy = victim(hcm={"request_headers_timeout": "0.5s"})
    with Raw(proxy.port()) as raw:
        raw.send(frame(HEADERS, END_STREAM, 1, block()))
        assert raw.goaway() == CALM
    assert proxy.stat("http.test.downstream_rq_header_timeout") == 1
    well(proxy)


def test_preface_that_is_never_finished(victim, well):
    proxy = victim(hcm={"request_headers_timeout": "0.5s"})
    with socket.create_connection(("127.0.0.1", proxy.port()), timeout=20) as sock:
        sock.sendall(PREFACE[:10])
        assert sock.recv(100) == b""
    well(proxy)


# --- upstreams -------------------------------------------------------------------------------------------
@pytest.fixture
def evil(start):
    """evil(bytes) is a proxy whose upstream answers each request with these bytes."""
    servers = []

    def starter(data, **more):
        def on_request(link, stream, head):
            link.sock.sendall(link.data_to_send() + (data(stream) if callable(data) else data))
        servers.append(Http2Server(on_request=on_request))
        proxy = start(static([http_listener([mesh.route("up")], log="access.log")],
                             [cluster("up", servers[-1], **upstream_options(http2=more))]))
        if proxy.is_envoy:
            pytest.skip(OTHER_LIMITS)
        return proxy
    yield starter
    for server in servers:
        server.close()


BAD_RESPONSES = {
    "no-status": [("x", "y")],
    "two-statuses": [(":status", "200"), (":status", "201")],
    "short-status": [(":status", "20")],
    "status-101": [(":status", "101")],
    "connection": [(":status", "200"), ("connection", "close")],
    "upper-case": [(":status", "200"), ("X", "y")],
    "lf-in-value": [(":status", "200"), ("x", "a\nb")],
    "method": [(":status", "200"), (":method", "GET")],
    "length-without-body": [(":status", "200"), ("content-length", "3")],
    "many": [(":status", "200")] + [("x", "y")] * 101,
}


@pytest.mark.parametrize("name", BAD_RESPONSES)
def test_malformed_responses(evil, name):
    proxy = evil(lambda s: frame(HEADERS, END_HEADERS | END_STREAM, s,
                                 block(fields=BAD_RESPONSES[name])))
    with Client(proxy.port()) as client:
        assert client.ask().status in (502, 503)
    assert proxy.stat("cluster.up.upstream_cx_protocol_error") >= 1
    assert proxy.wait_log(1)[0]["flags"] in ("UPE", "UC")


def test_flood_of_informational_responses(evil):
    proxy = evil(lambda s: frame(HEADERS, END_HEADERS, s, block(fields=[(":status", "103")])) * 100)
    with Client(proxy.port()) as client:
        assert client.ask().status in (502, 503)


def test_pushed_streams_are_refused(evil):
    proxy = evil(lambda s: frame(PUSH, END_HEADERS, s, struct.pack(">I", 2) + block()))
    with Client(proxy.port()) as client:
        assert client.ask().status in (502, 503)
