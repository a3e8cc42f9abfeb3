"""tcp_proxy where something runs out: ports towards a host, file descriptors; and protocols whose
server speaks first."""

import resource
import socket
import struct
import threading
import time

import pytest

from controlplane import mesh
from harness.http1 import Client, Closed
from harness.proxy import cluster, http_listener, listener, static
from harness.upstream import echo

MYSQL = (b"\x4a\0\0\0\x0a8.0.36\0\x08\0\0\0abcdefgh\0\xff\xff\xff\2\0\xff\xdf\x15" + b"\0" * 10 +
         b"ijklmnopqrst\0mysql_native_password\0")


def proxied(start, upstream, fields=None, listener_fields=None, concurrency=2, **more):
    tcp = mesh.tcp_proxy("up", "tcp", log="access.log")
    tcp["typed_config"].update(fields or {})
    return start(static([listener([tcp], **(listener_fields or {}))],
                        [cluster("up", upstream, **more)]), concurrency=concurrency)


def smtp(sock):
    sock.sendall(b"220 mail ESMTP\r\n")
    assert sock.recv(100) == b"EHLO me\r\n"
    sock.sendall(b"250 mail\r\n")
    assert sock.recv(100) == b"QUIT\r\n"
    sock.sendall(b"221 bye\r\n")


def mysql(sock):
    sock.sendall(MYSQL)
    assert sock.recv(100) == b"login"
    sock.sendall(b"\7\0\0\2\0\0\0\2\0\0\0")


def postgres(sock):
    """Speaks second, with one byte: the answer to SSLRequest."""
    assert sock.recv(100) == struct.pack(">II", 8, 80877103)
    sock.sendall(b"N")
    assert sock.recv(100) == b"startup"
    sock.sendall(b"R\0\0\0\x08\0\0\0\0")


TALKS = {"smtp": (smtp, [(b"", b"220 mail ESMTP\r\n"), (b"EHLO me\r\n", b"250 mail\r\n"),
                         (b"QUIT\r\n", b"221 bye\r\n")]),
         "mysql": (mysql, [(b"", MYSQL), (b"login", b"\7\0\0\2\0\0\0\2\0\0\0")]),
         "postgres": (postgres, [(struct.pack(">II", 8, 80877103), b"N"),
                                 (b"startup", b"R\0\0\0\x08\0\0\0\0")])}


@pytest.mark.parametrize("name", TALKS)
def test_protocols_that_are_not_http(start, serve, name):
    handle, talk = TALKS[name]
    proxy = proxied(start, serve(handle=handle))
    with Client(proxy.port()) as client:
        for say, answer in talk:
            client.send(say)
            assert client.reader.take(len(answer)) == answer
        assert client.is_closed()


@pytest.mark.parametrize("name", TALKS)
def test_server_that_speaks_first_behind_inspectors(start, serve, name):
    """Where listener filters wait for the client, it is their timeout that lets the server speak."""
    handle, talk = TALKS[name]
    types = "type.googleapis.com/envoy.extensions.filters.listener."
    filters = [{"name": "tls", "typed_config": {
        "@type": types + "tls_inspector.v3.TlsInspector"}},
               {"name": "http", "typed_config": {
                   "@type": types + "http_inspector.v3.HttpInspector"}}]
    proxy = proxied(start, serve(handle=handle), listener_fields={
        "listener_filters": filters, "listener_filters_timeout": "0.3s",
        "continue_on_listener_filters_timeout": True})
    with Client(proxy.port()) as client:
        for say, answer in talk:
            client.send(say)
            assert client.reader.take(len(answer)) == answer


def test_no_port_left_towards_a_host(start, serve):
    """One source port stands for all of them being taken: the second connection fails and says so,
    without a spin, and there is one again when the first has ended."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    proxy = proxied(start, serve(handle=echo), {"max_connect_attempts": 2},
                    upstream_bind_config={"source_address": {"address": "127.0.0.9",
                                                             "port_value": port}})
    with Client(proxy.port()) as first:
        first.send(b"x")
        assert first.reader.take(1) == b"x"
        with Client(proxy.port()) as second:
            assert second.is_closed()
        entry = proxy.wait_log(1)[0]
        assert entry["flags"] == ("URX" if proxy.is_envoy else "UF,URX")
        assert proxy.stat("cluster.up.upstream_cx_connect_fail") == 2
        first.send(b"y")
        assert first.reader.take(1) == b"y"
        # ends with a reset, which leaves no TIME_WAIT that would hold the port
        first.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    proxy.wait(lambda: proxy.stat("cluster.up.upstream_cx_active") == 0, 5, "no connection")
    with Client(proxy.port()) as third:
        third.send(b"z")
        assert third.reader.take(1) == b"z"


def test_out_of_file_descriptors_under_load(start, serve):
    """256 descriptors, and clients that keep coming: accepting pauses, connections to hosts fail,
    nothing ends the process, and it serves all when the load is gone."""
    upstream = serve(handle=echo)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        proxy = proxied(start, upstream, concurrency=2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if proxy.is_envoy:
        pytest.skip("Envoy ends the process here")
    port, stop, served = proxy.port(), threading.Event(), []

    def hold():
        while not stop.is_set():
            try:
                with Client(port, timeout=3) as client:
                    client.send(b"x")
                    served.append(client.reader.take(1))
                    stop.wait(0.2)
            except (OSError, Closed):
                pass
    threads = [threading.Thread(target=hold) for _ in range(200)]
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    stop.set()
    for thread in threads:
        thread.join()
    for sock in idle:
        sock.close()
    assert served and proxy.process.poll() is None

    def works():
        try:
            with Client(port) as client:
                client.send(b"ok")
                return client.reader.take(2) == b"ok"
        except (OSError, Closed):
            return False
    proxy.wait(works, 15, "recovery")
    proxy.wait(lambda: proxy.stat("cluster.up.upstream_cx_active") == 0, 15, "no connection")
    for _ in range(20):
        assert works()


def test_connect_attempts_are_spaced(start):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()
    proxy = proxied(start, nobody, {"max_connect_attempts": 4, "backoff_options": {
        "base_interval": "0.1s", "max_interval": "0.2s"}})
    with Client(proxy.port()) as client:
        assert client.is_closed()
    assert proxy.stat("cluster.up.upstream_cx_connect_fail") == 4
    assert proxy.stat("cluster.up.upstream_cx_connect_attempts_exceeded") == 1
    assert proxy.wait_log()[0]["flags"] == "UF,URX"


def test_upstream_begins_with_the_first_bytes(start, serve):
    upstream = serve(handle=echo)
    proxy = proxied(start, upstream, {"upstream_connect_mode": "ON_DOWNSTREAM_DATA",
                                      "max_early_data_bytes": 1024})
    with Client(proxy.port()) as client:
        time.sleep(0.3)
        assert upstream.connections == 0
        client.send(b"a" * 5000)
        assert client.reader.take(5000) == b"a" * 5000
    assert upstream.connections == 1
    assert proxy.stat("tcp.tcp.early_data_received_count_total") == 1


def test_maximum_duration(start, serve):
    proxy = proxied(start, serve(handle=echo), {
        "max_downstream_connection_duration": "0.5s",
        "max_downstream_connection_duration_jitter_percentage": {"value": 50}})
    with Client(proxy.port()) as client:
        begin = time.monotonic()
        assert client.is_closed()
        assert 0.4 < time.monotonic() - begin < 5
    assert proxy.stat("tcp.tcp.max_downstream_connection_duration") == 1


def test_what_remains(start, serve):
    proxy = proxied(start, serve(handle=echo), circuit_breakers={"thresholds": [
        {"max_connections": 5, "max_connection_pools": 1, "track_remaining": True}]}, concurrency=1)
    breaker = "cluster.up.circuit_breakers.default."
    assert proxy.stat(breaker + "remaining_cx") == 5
    assert proxy.stat(breaker + "remaining_cx_pools") == 1
    with Client(proxy.port()) as client:
        client.send(b"x")
        assert client.reader.take(1) == b"x"
        assert proxy.stat(breaker + "remaining_cx") == 4
        assert proxy.stat(breaker + "remaining_cx_pools") == 1  # TCP has none that count
        assert proxy.stat(breaker + "cx_pool_open") == 0


def test_limit_of_connection_pools(start, serve):
    """HTTP: a pool for one host is all that there may be; the next host's request fails."""
    proxy = start(static([http_listener([mesh.route("up")], log="access.log")],
                         [cluster("up", serve(), serve(), circuit_breakers={"thresholds": [
                             {"max_connection_pools": 1}]})]), concurrency=1)
    with Client(proxy.port()) as client:
        got = [client.ask().status for _ in range(4)]
    assert sorted(got) == [200, 200, 503, 503]
    assert proxy.stat("cluster.up.upstream_cx_pool_overflow") == 2
    assert proxy.stat("cluster.up.circuit_breakers.default.cx_pool_open") == 1
    flag = "UH" if proxy.is_envoy else "UO"
    assert sorted(e["flags"] for e in proxy.wait_log(4)) == ["-", "-", flag, flag]
