"""What attacks cost the proxy: memory at most twice what the limits of the attacking connections
allow, CPU at most a hundred times what they cost the attacker (reliability: bad input)."""

import select
import socket
import struct
import time

import pytest

from controlplane import mesh
from harness.frames import (
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame)
from harness.proxy import cluster, http_listener, static
from harness.upstream import response

CONNECTIONS = 8
STREAMS = 20 # at once, on each of them
BUFFER = 65536 # per_connection_buffer_limit_bytes
WINDOW = 65536
HEAD = 8192 # max_request_headers_kb
KIB = 1024
# What a connection may hold: what comes in and goes out, what of bodies the window lets in, a head
# for each stream. And the structures of its streams.
DOWNSTREAM = 2 * BUFFER + WINDOW + STREAMS * (HEAD + 4 * KIB)
UPSTREAM = 2 * BUFFER
# Of the process, once: caches of blocks, what was never touched before.
ONCE = 8 << 20
# An attacker's bytes cost it something that its clock may be too coarse for, or its kernel paid.
SECONDS_A_BYTE, SECONDS_AT_LEAST = 10e-9, 0.02


def requests(number, *more, end=True, first=1, **how):
    """requests are HEADERS of as many streams, all alike."""
    text, flags = block(*more, **how), END_HEADERS | (END_STREAM if end else 0)
    return b"".join(frame(HEADERS, flags, first + 2 * i, text) for i in range(number))


def pieces(text, stream=1):
    """pieces are a header block as HEADERS and CONTINUATION."""
    parts = [text[i:i + 16384] for i in range(0, len(text), 16384)]
    return b"".join(frame(CONTINUATION if i else HEADERS,
                          (0 if i else END_STREAM) | (END_HEADERS if i + 1 == len(parts) else 0),
                          stream, part) for i, part in enumerate(parts))


def ordered(text, each):
    """ordered is what `each` makes of the ids of many streams, after their HEADERS."""
    return b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, text) + each(2 * i + 1)
                    for i in range(1500))


def bomb():
    """A field of 4 KB that goes to the table, and references of one byte to it: decoded, each
    stream's head would be 2 MB."""
    plain = b"\x82\x86\x84\x01\x01h" # nothing of it goes to the table
    big = b"\x40\x01a" + b"\x7f" + bytes([0x80 | (3900 - 127) & 0x7f, (3900 - 127) >> 7]) + b"b" * 3900
    return frame(HEADERS, END_HEADERS | END_STREAM, 1, plain + big) + b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 3, plain + b"\xbe" * 500)
        for i in range(500))


TINY = struct.pack(">HI", 4, 1)
POST = {"method": "POST", "end": False}
FIELDS = [(f"a{i}", "") for i in range(10000)]

# name: (bytes of a connection after the preface, SETTINGS of its client)
HTTP2 = {
    "CVE-2019-9512-ping": (frame(PING, payload=b"12345678") * 50000, b""),
    "CVE-2019-9513-priority": (b"".join(frame(PRIORITY, 0, 2 * i + 1, struct.pack(">IB", 0, i % 256))
                                        for i in range(30000)), b""),
    "CVE-2019-9514-reset": (ordered(block(), lambda i: frame(RST_STREAM, 0, i, b"\0\0\0\x08")), b""),
    "CVE-2019-9515-settings": (frame(SETTINGS) * 50000, b""),
    "CVE-2019-9516-empty-names": (requests(500, ("", ""), ("", "")), b""),
    "CVE-2019-9517-tiny-windows": (requests(STREAMS), TINY),
    "CVE-2019-9518-empty-frames": (requests(1, **POST) + frame(DATA, 0, 1) * 50000, b""),
    "CVE-2023-44487-rapid-reset": (
        ordered(block(path="/hold"), lambda i: frame(RST_STREAM, 0, i, b"\0\0\0\x08")), b""),
    "CVE-2025-8671-made-you-reset": (
        ordered(block(path="/hold"), lambda i: frame(WINDOW_UPDATE, 0, i, b"\0\0\0\0")), b""),
    "CVE-2024-27316-continuation": (
        frame(HEADERS, END_STREAM, 1, block()) +
        frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b" * 3000) * 30, b""),
    "CVE-2024-30255-small-continuations": (
        frame(HEADERS, END_STREAM, 1, block()) + frame(CONTINUATION, 0, 1, b"\x82") * 50000, b""),
    "CVE-2026-47774-cookie-crumbs": (pieces(block(*[("cookie", "a")] * 30000)), b""),
    "CVE-2019-15226-tiny-headers": (pieces(block(*FIELDS)), b""),
    "hpack-amplification": (bomb(), b""),
    "window-updates": (requests(1) + frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 50000, b""),
    "unknown-frames": (frame(0x4d, 0, 0, b"x" * 10) * 50000, b""),
    "bytes-one-by-one": (requests(STREAMS, path="/hold", **POST) + b"".join(
        frame(DATA, 0, 2 * (i % STREAMS) + 1, b"x") for i in range(30000)), b""),
    "uploads-nobody-takes": (requests(STREAMS, path="/hold", **POST) + b"".join(
        frame(DATA, 0, 2 * (i % STREAMS) + 1, b"x" * 3000) for i in range(21)), b""),
}
HTTP1 = {
    "slow-heads": b"GET / HTTP/1.1\r\nhost: h\r\n" + b"a: b\r\n" * 90,
    "large-heads": b"GET / HTTP/1.1\r\nhost: h\r\na: " + b"x" * 3000000,
    "tiny-fields": b"GET / HTTP/1.1\r\nhost: h\r\n" + b"a:\r\n" * 200000,
    "line-ends": b"\r\n" * 500000,
    "chunk-extensions": b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n" +
                        b"1;" + b"x" * 3000000,
    "tiny-chunks": b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n" +
                   b"1\r\nx\r\n" * 200000,
    "uploads-nobody-takes": b"POST /hold HTTP/1.1\r\nhost: h\r\ncontent-length: 9999999\r\n\r\n" +
                            b"x" * 5000000,
    "responses-nobody-reads": b"GET / HTTP/1.1\r\nhost: h\r\n\r\n" * 2000,
    "trailers": b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" +
                b"a: b\r\n" * 200000,
}


@pytest.fixture
def victim(start, serve, monkeypatch):
    # A sanitizer's memory of what was freed is not the proxy's.
    monkeypatch.setenv("ASAN_OPTIONS", "quarantine_size_mb=0:thread_local_quarantine_size_kb=0:"
                                       "malloc_context_size=1")
    upstream = serve(lambda r: response(body=b"z" * 300000))
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as hole: # takes nothing, says nothing
        http2 = {"initial_connection_window_size": WINDOW, "initial_stream_window_size": WINDOW,
                 "max_concurrent_streams": STREAMS}
        many = {"circuit_breakers": {"thresholds": [{"max_pending_requests": 100000}]},
                "per_connection_buffer_limit_bytes": BUFFER}
        proxy = start(static(
            [http_listener([mesh.route("hole", prefix="/hold"), mesh.route("up")],
                           hcm={"http2_protocol_options": http2,
                                "max_request_headers_kb": HEAD // KIB},
                           per_connection_buffer_limit_bytes=BUFFER)],
            [cluster("up", upstream, **many), cluster("hole", hole.getsockname(), **many)]),
            concurrency=1)
        if proxy.is_envoy:
            pytest.skip("has no bound on the sum of its streams, and closes by other limits")
        yield proxy


def kib(proxy, what):
    with open(f"/proc/{proxy.process.pid}/status", encoding="ascii") as src:
        return next(int(line.split()[1]) for line in src if line.startswith(what + ":"))


def cpu(proxy):
    """cpu is the process' CPU clock, in seconds (clock_getcpuclockid(3))."""
    return time.clock_gettime(~proxy.process.pid << 3 | 2)


def attack(port, data):
    """attack sends on all connections what is taken within a moment and reads nothing. Returns
    them, and how many bytes went out."""
    socks, sent = [], 0
    for _ in range(CONNECTIONS):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        socks.append(sock)
    left = {sock: memoryview(data) for sock in socks}
    while left:
        _, ready, _ = select.select([], list(left), [], 0.3)
        if not ready:
            break
        for sock in ready:
            try:
                n = sock.send(left[sock][:65536])
            except ConnectionError:
                del left[sock]
                continue
            sent += n
            left[sock] = left[sock][n:]
            if not left[sock]:
                del left[sock]
    return socks, sent


def measure(proxy, data):
    port = proxy.port()
    with open(f"/proc/{proxy.process.pid}/clear_refs", "w", encoding="ascii") as out:
        out.write("5") # the high-water mark of resident memory starts anew
    resident, proxys, ours = kib(proxy, "VmRSS"), cpu(proxy), time.process_time()
    socks, sent = attack(port, data)
    ours = time.process_time() - ours
    time.sleep(0.2)
    try:
        proxys, extra = cpu(proxy) - proxys, (kib(proxy, "VmHWM") - resident) * KIB
        connections = proxy.stat("cluster.up.upstream_cx_total") + \
            proxy.stat("cluster.hole.upstream_cx_total")
    finally:
        for sock in socks:
            sock.close()
    most = 2 * (CONNECTIONS * DOWNSTREAM + min(connections, CONNECTIONS * STREAMS) * UPSTREAM)
    print(f"{sent} bytes sent, {extra / KIB:.0f} KiB of at most {(most + ONCE) / KIB:.0f}, "
          f"{proxys:.3f} s for {ours:.3f} s")
    assert extra <= most + ONCE
    assert proxys <= 100 * max(ours, sent * SECONDS_A_BYTE, SECONDS_AT_LEAST)
    assert proxy.admin("/ready")[0] == 200


@pytest.mark.parametrize("name", HTTP2)
def test_http2(victim, name):
    data, settings = HTTP2[name]
    measure(victim, PREFACE + frame(SETTINGS, payload=settings) + frame(SETTINGS, ACK) + data)


@pytest.mark.parametrize("name", HTTP1)
def test_http1(victim, name):
    measure(victim, HTTP1[name])
