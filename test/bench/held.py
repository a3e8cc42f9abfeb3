"""make bench-connections: resident memory of one worker over many connections that do nothing.

Three kinds, plaintext: HTTP/1.1 after one request, its upstream released; HTTP/2 after a number of
requests; an open event stream with HTTP/1.1 on both legs. Each is measured as growth of the resident
size from few connections of the kind to many, divided by the difference.
"""

import argparse
import json
import os
import resource
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import time

import contenders as cont

WARM = 20  # connections before the first measurement: what is made once is made by then
SETTLE_S = 2.0
TARGET_KIB = {"http1": 2.0, "http2": 24.0, "sse": 16.0}
TITLES = {"http1": "idle HTTP/1.1 after one request", "http2": "idle HTTP/2 after {} requests",
          "sse": "an open event stream, HTTP/1.1 on both legs"}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS, GOAWAY = 1, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1


# --- the origin: a process of its own -----------------------------------------------------------
def origin():
    """Prints its port. /sse is answered with one event and no end, anything else with ok."""
    raise_files()
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(listener.getsockname()[1], flush=True)
    sel = selectors.EpollSelector()
    sel.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in sel.select():
            if key.fileobj is listener:
                conn, _ = listener.accept()
                sel.register(conn, selectors.EVENT_READ)
                continue
            try:
                got = key.fileobj.recv(65536)
            except ConnectionError:
                got = b""
            if not got:
                sel.unregister(key.fileobj)
                key.fileobj.close()
            for head in got.split(b"\r\n\r\n")[:-1]:
                key.fileobj.sendall(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked"
                    b"\r\n\r\n9\r\ndata: 1\n\n\r\n" if head.startswith(b"GET /sse")
                    else b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


def raise_files():
    """As many descriptors as this user may have, the hard limit raised where that is allowed."""
    for hard in (131072, resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            return hard
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


# --- the proxy ------------------------------------------------------------------------------------
def bootstrap(ports, origin_port):
    """One worker's listeners, HTTP/1.1 and HTTP/2, in front of the origin."""
    def listener(name, codec):
        hcm = {"@type": "type.googleapis.com/envoy.extensions.filters.network."
                        "http_connection_manager.v3.HttpConnectionManager",
               "stat_prefix": name, "codec_type": codec,
               "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                   {"match": {"prefix": "/"}, "route": {"cluster": "origin", "timeout": "0s"}}]}]},
               "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                   "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}
        return {"name": name, "address": address(ports[name]), "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm}]}]}

    def address(port):
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    many = {"priority": "DEFAULT", "max_connections": 200000, "max_pending_requests": 200000,
            "max_requests": 200000}
    return {"admin": {"address": address(ports["admin"])}, "static_resources": {
        "listeners": [listener("http1", "HTTP1")] +
                     ([listener("http2", "HTTP2")] if "http2" in ports else []),
        "clusters": [{"name": "origin", "type": "STATIC", "circuit_breakers": {"thresholds": [many]},
                      "load_assignment": {"cluster_name": "origin", "endpoints": [{
                          "lb_endpoints": [{"endpoint": {"address": address(origin_port)}}]}]}}]}}


# --- connections --------------------------------------------------------------------------------
def connect(port):
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def until(sock, end):
    """Reads until the bytes end so."""
    got = b""
    while not got.endswith(end):
        more = sock.recv(65536)
        if not more:
            raise cont.BenchError(f"closed after {got[-200:]!r}")
        got += more
    return got


def http1(port, _):
    sock = connect(port)
    sock.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nuser-agent: bench\r\naccept: */*\r\n\r\n")
    until(sock, b"\r\n\r\nok")
    return sock


def sse(port, _):
    sock = connect(port)
    sock.sendall(b"GET /sse HTTP/1.1\r\nhost: a\r\nuser-agent: bench\r\naccept: */*\r\n\r\n")
    until(sock, b"data: 1\n\n\r\n")
    return sock


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name, value):
    """A field whose name has an index in HPACK's tables, its value indexed from then on."""
    index = bytes([0x40 | name]) if name < 63 else bytes([0x7f, name - 63])
    return index + bytes([len(value)]) + value


def heads(requests):
    """The header blocks of requests as clients make them: much is alike, the path and one field
    more are each request's own, and all of it goes to the decoder's table."""
    agent, accept = b"bench/1", b"*/*"
    yield b"\x82\x86" + literal(4, b"/items/00000/details") + literal(1, b"bench.test") + \
        literal(58, agent) + literal(19, accept) + b"\x40\x07x-trace" + literal(0, b"0" * 16)[1:]
    for i in range(1, requests):
        # Given again each time, for what is alike falls out of the table too.
        yield b"\x82\x86" + literal(4, b"/items/%05d/details" % i) + b"\x01\x0abench.test" + \
            b"\x0f\x2b" + bytes([len(agent)]) + agent + b"\x0f\x04" + bytes([len(accept)]) + accept + \
            literal(63, b"%016d" % i)


def http2(port, requests):
    sock = connect(port)
    head = heads(requests)
    sock.sendall(PREFACE + frame(SETTINGS, 0, 0))
    todo, stream, got = requests, 1, b""
    while todo:
        batch = min(todo, 10)
        out = b""
        for _ in range(batch):
            out += frame(HEADERS, END_STREAM | END_HEADERS, stream, next(head))
            stream += 2
        sock.sendall(out)
        ended = 0
        while ended < batch:
            more = sock.recv(65536)
            if not more:
                raise cont.BenchError("the HTTP/2 connection was closed")
            got += more
            while len(got) >= 9 and len(got) >= 9 + int.from_bytes(got[:3], "big"):
                length, kind, flags = int.from_bytes(got[:3], "big"), got[3], got[4]
                if kind == SETTINGS and not flags & ACK:
                    sock.sendall(frame(SETTINGS, ACK, 0))
                if kind == GOAWAY:
                    raise cont.BenchError(f"GOAWAY {got[9:9 + length]!r}")
                ended += kind in (0, HEADERS) and bool(flags & END_STREAM)
                got = got[9 + length:]
        todo -= batch
    return sock


# --- the measurement ------------------------------------------------------------------------------
def measure(kind, process, port, num, requests):
    """KiB resident a connection."""
    opener = {"http1": http1, "http2": http2, "sse": sse}[kind]
    held = [opener(port, requests) for _ in range(WARM)]
    time.sleep(SETTLE_S)
    before, _ = process.memory_kib()
    held += [opener(port, requests) for _ in range(num)]
    time.sleep(SETTLE_S)
    after, _ = process.memory_kib()
    for sock in held:
        sock.close()
    return (after - before) / num


def main():
    if "--origin" in sys.argv:
        origin()
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--program", help="the proxy (default BUILD/release/attache)")
    parser.add_argument("--connections", type=int, default=10000)
    parser.add_argument("--requests", type=int, default=100, help="of an HTTP/2 connection")
    parser.add_argument("--kinds", default="http1,http2,sse")
    parser.add_argument("--assert-targets", action="store_true")
    args = parser.parse_args()
    program = args.program or os.path.join(args.build, "release", "attache")
    files = raise_files()
    missed = False
    with tempfile.TemporaryDirectory(prefix="attache-bench-") as tmp, subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--origin"], stdout=subprocess.PIPE,
            text=True) as source:
        try:
            origin_port = int(source.stdout.readline())
            print("many connections of each kind, one worker")
            for kind in args.kinds.split(","):
                # an event stream holds one upstream too
                num = min(args.connections, files // (2 if kind == "sse" else 1) - 1000)
                ports = {"admin": cont.free_port(), "http1": cont.free_port()}
                if kind == "http2":
                    ports["http2"] = cont.free_port()
                port = ports["http2" if kind == "http2" else "http1"]
                conf = os.path.join(tmp, f"{kind}.json")
                with open(conf, "w", encoding="utf-8") as out:
                    json.dump(bootstrap(ports, origin_port), out)
                process = cont.Process(kind, [program, "-c", conf, "--concurrency", "1",
                                              "--disable-hot-restart", "-l", "error"],
                                       os.path.join(tmp, f"{kind}.log"))
                try:
                    process.wait_port(port)
                    kib = measure(kind, process, port, num, args.requests)
                finally:
                    process.stop()
                met = kib <= TARGET_KIB[kind]
                missed |= not met
                title = TITLES[kind].format(args.requests)
                print(f"  {num} x {title:48} {kib:6.2f} KiB each; at most {TARGET_KIB[kind]:g} KiB: "
                      f"{'met' if met else 'missed'}", flush=True)
        except cont.BenchError as error:
            print(f"bench failed: {error}", file=sys.stderr)
            return 1
        finally:
            source.kill()
    return 1 if missed and args.assert_targets else 0


if __name__ == "__main__":
    sys.exit(main())
