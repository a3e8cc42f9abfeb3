"""Upstreams that close idle connections at random: what a safe retry can hide no client sees, and
nothing that may have been processed is sent twice."""

import os
import random
import socket
import struct
import threading

import pytest

from controlplane import mesh
from harness.http1 import Client, Reader, ask
from harness.proxy import cluster, http_listener, static
from harness.upstream import response

RETRIED = "cluster.up.upstream_rq_retry_reused_connection"


def one_route(start, upstream, **action):
    return start(static([http_listener([mesh.route("up", **action)], log="access.log")],
                        [cluster("up", upstream)]), concurrency=1)


def closing(after, seen, reset=False):
    """A server whose connections answer `after` requests and are closed while the next is read."""
    def handle(sock):
        reader = Reader(sock)
        for number in range(after + 1):
            request = reader.request()
            seen.append(request)
            if number == after:
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            sock.sendall(response(body=b"ok"))
    return handle


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_safe_request_on_a_closing_connection(start, serve, method, reset):
    seen = []
    proxy = one_route(start, serve(handle=closing(1, seen, reset)))
    with Client(proxy.port()) as client:
        assert client.ask("GET").status == 200
        second = client.ask(method)
    if proxy.is_envoy:
        assert second.status == 503  # it does not try again by itself
        return
    assert second.status == 200
    assert [r.method for r in seen] == ["GET", method, method]
    assert proxy.stat(RETRIED) == 1 and proxy.stat("cluster.up.upstream_rq_retry") == 0
    assert [e["flags"] for e in proxy.wait_log(2)] == ["-", "-"]


@pytest.mark.parametrize("method,body", [("POST", b"x"), ("POST", None), ("PUT", b"x"),
                                         ("DELETE", None), ("GET", b"x")])
def test_other_requests_are_not_sent_twice(start, serve, method, body):
    seen = []
    proxy = one_route(start, serve(handle=closing(1, seen)))
    with Client(proxy.port()) as client:
        assert client.ask("GET").status == 200
        assert client.ask(method, body=body).status == 503
    assert [r.method for r in seen] == ["GET", method]
    assert proxy.stat(RETRIED) == 0
    assert proxy.wait_log(2)[1]["flags"] == "UC"


def test_fresh_connection_that_closes_is_no_race(start, serve):
    seen = []
    proxy = one_route(start, serve(handle=closing(0, seen)))
    assert ask(proxy.port()).status == 503
    assert len(seen) == 1


def test_once_only(start, serve):
    """The connection for the second attempt is a fresh one, and there is no third."""
    seen, connections = [], []

    def handle(sock):
        connections.append(sock)
        reader = Reader(sock)
        if len(connections) == 1:
            seen.append(reader.request())
            sock.sendall(response(body=b"ok"))
        seen.append(reader.request())
    proxy = one_route(start, serve(handle=handle))
    with Client(proxy.port()) as client:
        assert client.ask("GET").status == 200
        assert client.ask("GET").status == 503
    assert len(seen) == (2 if proxy.is_envoy else 3)
    if not proxy.is_envoy:
        assert proxy.stat(RETRIED) == 1


def test_no_more_once_a_byte_of_the_response_came(start, serve):
    def handle(sock):
        reader = Reader(sock)
        reader.request()
        sock.sendall(response(body=b"ok"))
        reader.request()
        sock.sendall(b"HTTP/1.1 200 O")
    upstream = serve(handle=handle)
    proxy = one_route(start, upstream)
    with Client(proxy.port()) as client:
        assert client.ask("GET").status == 200
        assert client.ask("GET").status in (502, 503)
    assert proxy.stat(RETRIED) == 0 and upstream.connections == 1


def test_fresh_connection_although_the_breaker_is_full(start, serve):
    """The idle ones make room: max_connections is not exceeded, and nobody waits for ever."""
    seen = []
    upstream = serve(handle=closing(1, seen))
    breakers = {"thresholds": [{"max_connections": 1}]}
    proxy = start(static([http_listener([mesh.route("up")])],
                         [cluster("up", upstream, circuit_breakers=breakers)]), concurrency=1)
    if proxy.is_envoy:
        return
    with Client(proxy.port()) as client:
        for _ in range(10):
            assert client.ask("GET").status == 200


def test_upstream_that_closes_at_random(start, serve):
    """The short form of `make race` (10^6 requests, test/bench/race.py)."""
    posts, lock = [], threading.Lock()
    seed = int(os.environ.get("RACE_SEED", random.randrange(10**9)))
    print("RACE_SEED", seed)

    def handle(sock):
        dice = random.Random(seed + sock.fileno())
        reader = Reader(sock)
        first = True  # a connection that serves nobody at all is a failure that can be seen
        while first or dice.random() > 0.2:
            first = False
            request = reader.request()
            if request.method == "POST":
                with lock:
                    posts.append(request.get("x-number"))
            sock.sendall(response(body=b"ok"))
    proxy = one_route(start, serve(handle=handle))
    if proxy.is_envoy:
        return
    failures, port = [], proxy.port()

    def run(number):
        with Client(port) as client:
            for i in range(150):
                if i % 3 == 2:
                    client.ask("POST", headers={"x-number": f"{number}-{i}"}, body=b"once")
                elif client.ask("GET").status != 200:
                    failures.append((number, i))
    threads = [threading.Thread(target=run, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(posts) == len(set(posts))
