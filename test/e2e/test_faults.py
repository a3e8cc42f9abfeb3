"""Something goes wrong at every moment at which a request waits for something: the proxy's own fault
hook (proxy/router/test_faults.h, test builds only) makes it happen there and nowhere else."""

import collections
import itertools
import threading
import time

import pytest

from controlplane import mesh
from harness.http1 import Client, Closed, Reader
from harness.proxy import cluster, http_listener, static
from harness.upstream import response
from test_tries import http_options

POOL = ["connect-failed", "connect-timeout", "overflow"]
CONNECTION = ["upstream-close", "upstream-reset"]
CLIENT = ["client-close", "client-reset"]
TRY = ["per-try", "per-try-idle", "max-duration"]
STREAM = ["idle", "stream-duration", "local-reply", "all-timers", "all-timers-backwards"]
KINDS = POOL + CONNECTION + CLIENT + TRY + ["timeout", "backoff-over"] + STREAM

# For each point: the requests that reach it, and what can happen there.
POINTS = {
    "pool-wait": (["GET /get", "POST /fail", "GET /redirect", "GET /hedge"],
                  POOL + CLIENT + STREAM),
    "head-sent": (["POST /get", "CHUNKED /get"],
                  CONNECTION + CLIENT + ["max-duration"] + STREAM),
    "body-sent": (["POST /get", "CHUNKED /get"],
                  CONNECTION + CLIENT + ["max-duration"] + STREAM),
    "awaited": (["GET /get", "POST /fail", "CHUNKED /get", "GET /redirect", "POST /hedge"],
                CONNECTION + CLIENT + TRY + ["timeout"] + STREAM),
    "backoff": (["GET /fail", "POST /fail"], CLIENT + ["timeout", "backoff-over"] + STREAM),
    "hedge": (["GET /hedge", "POST /hedge"],
              CONNECTION + CLIENT + ["timeout", "backoff-over", "max-duration"] + STREAM),
    "mirrored": (["GET /get", "POST /get", "CHUNKED /get"], CLIENT + ["timeout"] + STREAM),
    "response-head": (["GET /slow", "POST /slow"],
                      CONNECTION + CLIENT + ["per-try-idle", "max-duration", "timeout"] + STREAM),
    "response-body": (["GET /slow", "POST /slow"],
                      CONNECTION + CLIENT + ["per-try-idle", "max-duration", "timeout"] + STREAM),
}


def upstream(sock):
    reader = Reader(sock)
    while True:
        request = reader.request()
        first = request.get("x-envoy-attempt-count") == "1"
        if request.target == "/slow":
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(3):
                time.sleep(0.02)
                sock.sendall(b"4\r\npart\r\n")
            time.sleep(0.02)
            sock.sendall(b"0\r\nX-Trailer: 1\r\n\r\n")
            continue
        time.sleep(0.4 if request.target == "/hedge" and first else 0.02)
        if request.target == "/fail" and first:
            sock.sendall(response(503, b"first"))
        elif request.target == "/redirect":
            sock.sendall(response(302, b"", {"Location": "http://h/get"}))
        else:
            sock.sendall(response(body=b"done"))


def routes():
    retry = {"retry_on": "5xx,reset,connect-failure", "num_retries": 2, "per_try_timeout": "5s",
             "per_try_idle_timeout": "5s"}
    common = {"timeout": "20s", "idle_timeout": "20s", "retry_policy": retry,
              "request_mirror_policies": [{"cluster": "shadow"}]}
    hedged = {**retry, "per_try_timeout": "0.1s"}
    return [mesh.route("up", "/hedge", **{**common, "retry_policy": hedged},
                       hedge_policy={"hedge_on_per_try_timeout": True}),
            mesh.route("up", "/redirect", **common, internal_redirect_policy={}),
            mesh.route("up", "/", **common)]


def send(port, shape, fault):
    """One request; whatever becomes of it is fine as long as it is one response or an end."""
    method, target = shape.split()
    head = f" {target} HTTP/1.1\r\nHost: h\r\nX-Attache-Test-Fault: {fault}\r\nConnection: close\r\n"
    with Client(port, timeout=15) as client:
        try:
            if method == "GET":
                client.send(f"GET{head}\r\n".encode())
            elif method == "POST":
                client.send(f"POST{head}Content-Length: 6\r\n\r\n".encode())
                time.sleep(0.01)
                client.send(b"one")
                time.sleep(0.01)
                client.send(b"two")
            else:
                client.send(f"POST{head}Transfer-Encoding: chunked\r\n\r\n".encode())
                time.sleep(0.01)
                client.send(b"3\r\none\r\n")
                time.sleep(0.01)
                client.send(b"0\r\nX-Trailer: 1\r\n\r\n")
        except OSError:
            pass
        try:
            client.response()
            assert client.is_closed(), "more than one response"
            return True
        except (Closed, ConnectionResetError):
            return False


def hop(start, server):
    """A second proxy that takes HTTP/2 and speaks HTTP/1 with the server: (address, port)."""
    listener = http_listener([mesh.route("up")], hcm={
        "codec_type": "HTTP2", "http_protocol_options": {"enable_trailers": True}})
    options = http_options()
    first = next(iter(options["typed_extension_protocol_options"].values()))
    first["explicit_http_config"]["http_protocol_options"] = {"enable_trailers": True}
    proxy = start(static([listener], [cluster("up", server, **options)]), concurrency=1)
    return "127.0.0.1", proxy.port()


def start_with_faults(start, serve, binary, http2=False):
    if binary[1]:
        pytest.skip("the hook is ours")
    breakers = {"thresholds": [{"max_retries": 1000}]}
    servers = [serve(handle=upstream), serve(handle=upstream)]
    listener = http_listener(routes(), log="access.log", hcm={
        "common_http_protocol_options": {"max_stream_duration": "20s"},
        "http_protocol_options": {"enable_trailers": True}})
    config = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]
    config["virtual_hosts"][0]["include_request_attempt_count"] = True
    up = http_options(max_stream_duration="20s")
    options = up["typed_extension_protocol_options"]
    explicit = {"http2_protocol_options": {}} if http2 else {
        "http_protocol_options": {"enable_trailers": True}}
    next(iter(options.values()))["explicit_http_config"] = explicit
    first = hop(start, servers[0]) if http2 else servers[0]
    proxy = start(static([listener], [
        cluster("up", first, circuit_breakers=breakers, **up),
        cluster("shadow", servers[1])]), concurrency=1)
    send(proxy.port(), "GET /get", "pool-wait:local-reply:1")
    if not proxy.stat("cluster.up.test_fault.pool-wait:local-reply"):
        pytest.skip("not a test build")
    return proxy


def settled(proxy):
    """Nothing is under way any more."""
    gauges = proxy.stats("(upstream_rq_active|upstream_rq_pending_active|downstream_rq_active"
                         "|rq_retry_open)$")
    return not [name for name, value in gauges.items() if value and "admin" not in name]


@pytest.mark.parametrize("http2", [False, True])
def test_something_goes_wrong_at_every_wait(start, serve, binary, http2):
    proxy = start_with_faults(start, serve, binary, http2)
    port = proxy.port()
    todo = [(shape, f"{point}:{kind}:{number}") for point, (shapes, _) in POINTS.items()
            for shape, kind, number in itertools.product(shapes, KINDS, (1, 2))]
    total, lock, problems = len(todo), threading.Lock(), []

    def work():
        while True:
            with lock:
                if not todo:
                    return
                shape, fault = todo.pop()
            try:
                send(port, shape, fault)
            except Exception as error:  # noqa: BLE001
                problems.append((shape, fault, repr(error)))

    def run(num):
        threads = [threading.Thread(target=work) for _ in range(num)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    wanted = {f"{point}:{kind}" for point, (_, kinds) in POINTS.items() for kind in kinds}
    if http2:  # a connection with free streams gives one before anything can go wrong
        wanted -= {f"pool-wait:{kind}" for kind in POOL}

    def missing():
        return wanted - {name.rpartition(".")[2] for name in proxy.stats("test_fault")}
    run(8)
    for _ in range(10):  # who waits for a connection depends on how many are idle: ask many at once
        again = [(POINTS[name.split(":")[0]][0][0], f"{name}:1") for name in missing()]
        todo.extend(again * 24)
        total += len(todo)
        run(24)
    assert problems == []
    proxy.wait(lambda: settled(proxy), 10, "an end of everything")
    assert missing() == set()
    # One entry for each request, and one more for each that was redirected.
    followed = proxy.stat("cluster.up.upstream_internal_redirect_succeeded_total")
    entries = proxy.wait_log(total + 1 + followed)
    time.sleep(0.3)
    assert len(proxy.log_entries()) == total + 1 + followed
    details = collections.Counter(e["details"] for e in entries)
    assert details["internal_redirect"] == followed
    assert details["injected"] >= len(POINTS)
    assert None not in details


def test_worker_ends_with_everything_under_way(start, serve, binary):
    """The process ends while requests wait at each of the points, copies included."""
    proxy = start_with_faults(start, serve, binary)
    port = proxy.port()
    clients = []
    for shape in ("GET /hedge", "GET /slow", "GET /fail", "GET /get") * 5:
        client = Client(port)
        method, target = shape.split()
        client.send(f"{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        clients.append(client)
    time.sleep(0.12)
    proxy.admin("/quitquitquit", "POST")
    assert proxy.process.wait(10) == 0
    assert not proxy.findings()
