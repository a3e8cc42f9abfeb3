"""make bench-latency: how long an event of a stream takes through the proxy, against a direct
connection. One event is under way at a time; each carries the moment at which it was sent."""

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time

import contenders as cont
import held

TARGET_MS = 1.0


def serve(listener):
    """Answers every connection with a stream of events."""
    while True:
        conn, _ = listener.accept()
        threading.Thread(target=events, args=(conn,), daemon=True).start()


GO = []  # a semaphore for each connection of the origin


def events(conn):
    go = threading.Semaphore(0)
    GO.append(go)
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    held.until(conn, b"\r\n\r\n")
    conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked"
                 b"\r\n\r\n")
    while True:
        go.acquire()
        try:
            conn.sendall(b"16\r\ndata: %014d\n\n\r\n" % time.monotonic_ns())
        except OSError:
            return


def measure(port, num):
    """Milliseconds from send to receipt, of `num` events after some to warm up."""
    sock = held.connect(port)
    sock.sendall(b"GET /sse HTTP/1.1\r\nhost: a\r\n\r\n")
    held.until(sock, b"\r\n\r\n")
    took = []
    for i in range(num + 50):
        GO[-1].release()
        got = held.until(sock, b"\n\n\r\n")
        now = time.monotonic_ns()
        if i >= 50:
            took.append((now - int(got.split(b"data: ")[1].split(b"\n")[0])) / 1e6)
        time.sleep(0.001)
    sock.close()
    return took


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--program", help="the proxy (default BUILD/release/attache)")
    parser.add_argument("--events", type=int, default=500)
    parser.add_argument("--assert-targets", action="store_true")
    args = parser.parse_args()
    program = args.program or os.path.join(args.build, "release", "attache")
    listener = socket.create_server(("127.0.0.1", 0))
    origin = listener.getsockname()[1]
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    ports = {"admin": cont.free_port(), "http1": cont.free_port()}
    with tempfile.TemporaryDirectory(prefix="attache-bench-") as tmp:
        conf = os.path.join(tmp, "conf.json")
        with open(conf, "w", encoding="utf-8") as out:
            json.dump(held.bootstrap(ports, origin), out)
        process = cont.Process("proxy", [program, "-c", conf, "--concurrency", "1",
                                         "--disable-hot-restart", "-l", "error"],
                               os.path.join(tmp, "log"))
        try:
            process.wait_port(ports["http1"])
            direct, through = measure(origin, args.events), measure(ports["http1"], args.events)
        finally:
            process.stop()
    added = statistics.median(through) - statistics.median(direct)
    for name, took in (("direct", direct), ("through the proxy", through)):
        print(f"  an event {name:20} median {statistics.median(took):6.3f} ms, "
              f"p99 {sorted(took)[len(took) * 99 // 100]:6.3f} ms")
    met = added <= TARGET_MS
    print(f"  added {added:.3f} ms; at most {TARGET_MS:g} ms: {'met' if met else 'missed'}")
    return 0 if met or not args.assert_targets else 1


if __name__ == "__main__":
    sys.exit(main())
