"""Retries, timeouts, and what the access log says of them."""

import socket
import threading
import time

import pytest

from controlplane import mesh
from harness.http1 import Client, ask
from harness.proxy import cluster, http_listener, static
from harness.upstream import response


def failing(times, status=503):
    """An answer that fails so many times, then succeeds."""
    left = [times]
    lock = threading.Lock()

    def answer(request):
        with lock:
            left[0] -= 1
            return response(status if left[0] >= 0 else 200, b"done")
    return answer


def one_route(start, upstreams, log="access.log", clusters=None, **action):
    return start(static([http_listener([mesh.route("up", **action)], log=log)],
                        clusters or [cluster("up", *upstreams)]))


@pytest.mark.parametrize("retry_on,status,retried", [
    ("5xx", 503, True), ("5xx", 500, True), ("5xx", 404, False),
    ("gateway-error", 502, True), ("gateway-error", 500, False),
    ("retriable-4xx", 409, True), ("retriable-4xx", 404, False),
    ("retriable-status-codes", 418, True), ("retriable-status-codes", 503, False),
    ("connect-failure", 503, False),
])
def test_what_is_retried(start, serve, retry_on, status, retried):
    upstream = serve(failing(1, status))
    proxy = one_route(start, [upstream], retry_policy={
        "retry_on": retry_on, "num_retries": 1, "retriable_status_codes": [418]})
    assert ask(proxy.port()).status == (200 if retried else status)
    assert len(upstream.requests) == (2 if retried else 1)
    assert proxy.stat("cluster.up.upstream_rq_retry") == int(retried)
    assert proxy.stat("cluster.up.upstream_rq_retry_success") == int(retried)


def test_retries_run_out(start, serve):
    upstream = serve(failing(9))
    proxy = one_route(start, [upstream], retry_policy={"retry_on": "5xx", "num_retries": 2})
    assert ask(proxy.port()).status == 503
    assert len(upstream.requests) == 3
    assert proxy.wait_log()[0]["flags"] == "URX"
    assert proxy.stat("cluster.up.upstream_rq_retry_limit_exceeded") == 1


def test_body_is_sent_again(start, serve):
    upstream = serve(failing(1))
    proxy = one_route(start, [upstream], retry_policy={"retry_on": "5xx", "num_retries": 1})
    body = b"b" * 20000
    assert ask(proxy.port(), method="POST", body=body).status == 200
    assert [r.body for r in upstream.requests] == [body, body]


def test_other_host_is_tried(start, serve):
    bad, good = serve(failing(10**6)), serve(name="good")
    proxy = one_route(start, [bad, good], retry_policy=mesh.RETRIES)
    for _ in range(20):
        assert ask(proxy.port()).status == 200
    assert len(good.requests) == 20 and len(bad.requests) > 0


def test_connect_failure_is_retried(start, serve):
    good = serve()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()
    proxy = one_route(start, [good, nobody], retry_policy=mesh.RETRIES)
    for _ in range(10):
        assert ask(proxy.port()).status == 200
    assert proxy.stat("cluster.up.upstream_cx_connect_fail") > 0


def test_body_that_outgrows_the_buffer_while_a_retry_waits(start, serve):
    """It was sent empty once: what had come before the retry was dropped with the kept copy."""
    good = serve()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()
    proxy = one_route(start, [good, nobody], retry_policy={
        "retry_on": "connect-failure", "num_retries": 3,
        "retry_back_off": {"base_interval": "0.3s", "max_interval": "0.3s"}})
    body = b"b" * 100000
    for _ in range(6):
        with Client(proxy.port()) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" +
                        body[:1000])
            time.sleep(0.05)
            client.send(body[1000:])
            assert client.response().status in (200, 503)
    assert proxy.stat("cluster.up.upstream_rq_retry") > 0
    assert [r.body for r in good.requests if r.body != body] == []


def test_nobody_listens_is_503_uf(start):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()
    proxy = one_route(start, [nobody])
    answer = ask(proxy.port())
    assert answer.status == 503 and b"upstream connect error" in answer.body
    entry = proxy.wait_log()[0]
    assert entry["flags"] == "UF"
    assert entry["details"].startswith("upstream_reset_before_response_started{")


def test_route_timeout(start, serve):
    upstream = serve(lambda r: time.sleep(3) or response())
    proxy = one_route(start, [upstream], timeout="0.3s")
    begin = time.monotonic()
    answer = ask(proxy.port())
    assert (answer.status, answer.body) == (504, b"upstream request timeout")
    assert 0.2 < time.monotonic() - begin < 2.5
    assert proxy.wait_log()[0]["flags"] == "UT"
    assert proxy.stat("cluster.up.upstream_rq_timeout") == 1


def test_per_try_timeout(start, serve):
    calls = []

    def answer(request):
        calls.append(request)
        if len(calls) == 1:
            time.sleep(3)
        return response(body=b"second")
    upstream = serve(answer)
    proxy = one_route(start, [upstream], timeout="5s", retry_policy={
        "retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.3s"})
    begin = time.monotonic()
    assert ask(proxy.port()).body == b"second"
    assert time.monotonic() - begin < 2.5
    assert proxy.stat("cluster.up.upstream_rq_per_try_timeout") == 1


def test_retry_budget_of_the_route_timeout(start, serve):
    upstream = serve(lambda r: time.sleep(0.4) or response(503))
    proxy = one_route(start, [upstream], timeout="1s", retry_policy={
        "retry_on": "5xx", "num_retries": 50})
    begin = time.monotonic()
    assert ask(proxy.port()).status == 504
    assert 0.8 < time.monotonic() - begin < 2.5


def test_no_retry_once_headers_have_passed(start, serve):
    from harness.http1 import Closed, Reader

    def handle(sock):
        Reader(sock).request()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    upstream = serve(handle=handle)
    proxy = one_route(start, [upstream], retry_policy={"retry_on": "5xx,reset", "num_retries": 3})
    with pytest.raises(Closed):
        ask(proxy.port())
    assert upstream.connections == 1


def test_concurrent_retries_are_limited(start, serve):
    """max_retries of the breaker: of many failing requests at once only so many retry."""
    gate = threading.Barrier(8)

    def answer(request):
        if request.get("x-envoy-attempt-count") == "1":
            gate.wait(10)
        else:
            time.sleep(0.5)
        return response(503)
    upstream = serve(answer)
    breakers = {"thresholds": [{"max_retries": 2}]}
    listener = http_listener([mesh.route("up", retry_policy={"retry_on": "5xx",
                                                             "num_retries": 1})])
    config = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]
    config["virtual_hosts"][0]["include_request_attempt_count"] = True
    proxy = start(static([listener], [cluster("up", upstream, circuit_breakers=breakers)]))
    port = proxy.port()
    threads = [threading.Thread(target=ask, args=(port,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert proxy.stat("cluster.up.upstream_rq_retry") == 2
    assert proxy.stat("cluster.up.upstream_rq_retry_overflow") == 6
