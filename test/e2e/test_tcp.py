"""tcp_proxy: bytes both ways, ends of stream, failures, limits."""

import socket
import threading
import time

import pytest

from controlplane import mesh
from harness.http1 import Client
from harness.proxy import cluster, listener, static
from harness.upstream import echo


def tcp(start, *upstreams, fields=None, **more):
    proxy_filter = mesh.tcp_proxy("up", "tcp", log="access.log")
    proxy_filter["typed_config"].update(fields or {})
    return start(static([listener([proxy_filter])], [cluster("up", *upstreams, **more)]))


def test_bytes_both_ways(start, serve):
    proxy = tcp(start, serve(handle=echo))
    with Client(proxy.port()) as client:
        for i in range(50):
            client.send(b"message %d" % i)
            assert client.reader.take(len(b"message %d" % i)) == b"message %d" % i
    entry = proxy.wait_log()[0]
    assert int(entry["received"]) == int(entry["sent"]) > 400
    assert entry["flags"] == "-" and entry["listener"] == "up"
    assert proxy.stat("tcp.tcp.downstream_cx_total") == 1
    assert proxy.stat("cluster.up.upstream_cx_active") == 0


def test_much_data_with_both_sides_busy(start, serve):
    proxy = tcp(start, serve(handle=echo))
    data = bytes(range(256)) * 40000
    with Client(proxy.port(), timeout=30) as client:
        thread = threading.Thread(target=client.send, args=(data,))
        thread.start()
        assert client.reader.take(len(data)) == data
        thread.join()


def test_half_close_passes_through(start, serve):
    """The client's end of stream reaches the server, whose answer still comes back."""
    def handle(sock):
        got = b""
        while (data := sock.recv(65536)):
            got += data
        time.sleep(0.2)
        sock.sendall(b"%d bytes" % len(got))
    proxy = tcp(start, serve(handle=handle))
    with Client(proxy.port()) as client:
        client.send(b"x" * 100000)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.reader.rest() == b"100000 bytes"


def test_server_speaks_first(start, serve):
    def handle(sock):
        sock.sendall(b"220 ready\r\n")
        echo(sock)
    proxy = tcp(start, serve(handle=handle))
    with Client(proxy.port()) as client:
        assert client.reader.line() == b"220 ready"


def test_server_that_ends_ends_the_client(start, serve):
    proxy = tcp(start, serve(handle=lambda sock: sock.sendall(b"bye")))
    with Client(proxy.port()) as client:
        assert client.reader.rest() == b"bye"


def test_nobody_listens(start):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()
    proxy = tcp(start, nobody)
    with Client(proxy.port()) as client:
        assert client.is_closed()
    assert proxy.wait_log()[0]["flags"] == "UF,URX"
    assert proxy.stat("cluster.up.upstream_cx_connect_fail") == 1


def test_other_host_is_tried_when_connecting_fails(start, serve):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()
    proxy = tcp(start, nobody, serve(handle=echo), fields={"max_connect_attempts": 3})
    for _ in range(6):
        with Client(proxy.port()) as client:
            client.send(b"ping")
            assert client.reader.take(4) == b"ping"


def test_idle_timeout(start, serve):
    proxy = tcp(start, serve(handle=echo), fields={"idle_timeout": "0.5s"})
    with Client(proxy.port()) as client:
        for _ in range(4):  # activity keeps it open
            time.sleep(0.25)
            client.send(b"x")
            assert client.reader.take(1) == b"x"
        begin = time.monotonic()
        assert client.is_closed()
        assert 0.3 < time.monotonic() - begin < 3
    assert proxy.stat("tcp.tcp.idle_timeout") == 1


def test_connections_over_the_limit_are_closed(start, serve):
    proxy = tcp(start, serve(handle=echo),
                circuit_breakers={"thresholds": [{"max_connections": 2}]})
    port = proxy.port()
    held = [Client(port) for _ in range(2)]
    for client in held:
        client.send(b"x")
        assert client.reader.take(1) == b"x"
    with Client(port) as client:
        assert client.is_closed()
    for client in held:
        client.send(b"y")
        assert client.reader.take(1) == b"y"
        client.sock.close()
    assert any("UO" in e["flags"] for e in proxy.wait_log(1))
    assert proxy.stat("cluster.up.upstream_cx_overflow") == 1
    proxy.wait(lambda: proxy.stat("cluster.up.upstream_cx_active") == 0, 5, "no connection")
    with Client(port) as client:
        client.send(b"z")
        assert client.reader.take(1) == b"z"


def test_no_cluster_closes(start):
    proxy = start(static([listener([mesh.tcp_proxy("nowhere", "tcp", log="access.log")])], []))
    with Client(proxy.port()) as client:
        assert client.is_closed()
    assert "NC" in proxy.wait_log()[0]["flags"] or proxy.is_envoy


def test_weighted_clusters(start, serve):
    def named(name):
        return lambda sock: sock.sendall(name)
    fields = {"cluster": None, "weighted_clusters": {"clusters": [
        {"name": "a", "weight": 3}, {"name": "b", "weight": 1}]}}
    tcp_filter = mesh.tcp_proxy("a", "tcp")
    tcp_filter["typed_config"] = {k: v for k, v in {**tcp_filter["typed_config"],
                                                    **fields}.items() if v is not None}
    proxy = start(static([listener([tcp_filter])],
                         [cluster("a", serve(handle=named(b"a"))),
                          cluster("b", serve(handle=named(b"b")))]))
    port = proxy.port()
    got = []
    for _ in range(200):
        with Client(port) as client:
            got.append(client.reader.rest())
    assert set(got) == {b"a", b"b"} and 20 <= got.count(b"b") <= 85


@pytest.mark.parametrize("reset", [False, True])
def test_client_that_goes_away_closes_the_upstream(start, serve, reset):
    gone = threading.Event()

    def handle(sock):
        try:
            echo(sock)
        except OSError:
            pass
        gone.set()
    proxy = tcp(start, serve(handle=handle))
    with Client(proxy.port()) as client:
        client.send(b"x")
        assert client.reader.take(1) == b"x"
        if reset:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert gone.wait(5)


def named(name):
    def handle(sock):
        sock.sendall(name)
        while sock.recv(4096):
            pass
    return handle


def greetings(proxy, number, length=1):
    got = []
    for _ in range(number):
        with Client(proxy.port()) as client:
            got.append(client.reader.take(length))
    return got


def test_the_source_address_chooses_the_host(start, serve):
    up = [serve(handle=named(b"%d" % i)) for i in range(4)]
    by_source = {"hash_policy": [{"source_ip": {}}]}
    for policy in ("RING_HASH", "MAGLEV"):
        proxy = tcp(start, *up, fields=by_source, lb_policy=policy)
        assert len(set(greetings(proxy, 24))) == 1
        assert len(set(greetings(tcp(start, *up, lb_policy=policy), 24))) > 1


def test_metadata_match_chooses_among_the_hosts(start, serve):
    up = [serve(handle=named(b"%d" % i)) for i in range(4)]
    labelled = cluster("up", *up, lb_subset_config={
        "fallback_policy": "ANY_ENDPOINT", "subset_selectors": [{"keys": ["version"]}]})
    for i, one in enumerate(labelled["load_assignment"]["endpoints"][0]["lb_endpoints"]):
        one["metadata"] = {"filter_metadata": {"envoy.lb": {"version": f"v{i % 2}"}}}

    def seen(fields):
        proxy_filter = mesh.tcp_proxy("up", "tcp", log="access.log")
        proxy_filter["typed_config"].update(fields)
        return set(greetings(start(static([listener([proxy_filter])], [labelled])), 24))

    wanted = {"metadata_match": {"filter_metadata": {"envoy.lb": {"version": "v1"}}}}
    assert seen(wanted) == {b"1", b"3"}
    assert seen({}) == {b"0", b"1", b"2", b"3"}
