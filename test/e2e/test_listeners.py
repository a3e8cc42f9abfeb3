"""Listeners that come, change and go: who is served meanwhile, and who is refused."""

import json
import os
import socket
import stat
import subprocess

import pytest

from controlplane import mesh, xds
from harness.http1 import Client, ask
from harness.proxy import cluster, dynamic, http_listener, listener, static


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def on_port(port, to, name="main", **more):
    """An HTTP listener on that port whose routes lead to the cluster `to`."""
    return xds.message("Listener", {
        "name": name, "address": xds.socket_address("127.0.0.1", port), **more,
        "filter_chains": [{"filters": [
            mesh.hcm("test", route_config=mesh.route_config("r", [mesh.route(to)]))]}]})


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
        return False
    except ConnectionRefusedError:
        return True


@pytest.fixture
def two(start, serve, control_plane, free_port):
    """A proxy with the clusters a and b, and a listener that leads to a."""
    servers = [serve(name=n) for n in "ab"]
    control_plane.set_all({
        "Cluster": [xds.message("Cluster", cluster(s.name, s)) for s in servers],
        "Listener": [on_port(free_port, "a")]})
    proxy = start(dynamic(control_plane), args=("--drain-time-s", "30"))
    return proxy, control_plane, free_port


def test_removed_listener_refuses_at_once(two):
    """Its connections go on; what is new must not wait in a queue that nobody empties."""
    proxy, server, port = two
    with Client(port) as old:
        assert old.ask().body == b"a"
        server.wait_ack("Listener", server.set("Listener", []))
        proxy.wait(lambda: refused(port), 5, "a refusal")
        assert old.ask().body == b"a"


def test_address_moves_to_another_name(two):
    proxy, server, port = two
    with Client(port) as old:
        assert old.ask().body == b"a"
        server.wait_ack("Listener", server.set("Listener", [on_port(port, "b", "other")]))
        proxy.wait(lambda: ask(port).body == b"b", 5, "the new listener")
        for _ in range(40):  # none lands on the sockets of the one before
            assert ask(port).body == b"b"


def test_update_in_place_refuses_nobody(two):
    proxy, server, port = two
    for i in range(10):
        server.set("Listener", [on_port(port, "ba"[i % 2], stat_prefix=f"s{i}")])
        for _ in range(20):
            assert ask(port).body in (b"a", b"b")
    proxy.wait(lambda: ask(port).body == b"a", 5, "the last update")


def test_stopped_stays_stopped(two):
    proxy, server, port = two
    assert proxy.admin("/drain_listeners", "POST")[0] == 200
    proxy.wait(lambda: refused(port), 5, "a refusal")
    server.wait_ack("Listener", server.set("Listener", [on_port(port, "b")]))
    assert refused(port)


def test_one_address_two_listeners(binary, tmp_path, free_port):
    """In a bootstrap it is a mistake: connections would go to either."""
    one = {**http_listener([mesh.route("up")]), "address": xds.socket_address("127.0.0.1",
                                                                             free_port)}
    bad = static([one, {**one, "name": "two"}], [cluster("up", ("127.0.0.1", 9))])
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(xds._expand(bad)))
    for mode in ("validate", "serve"):
        done = subprocess.run([binary[0], "-c", str(path), "--mode", mode,
                               "--disable-hot-restart"], capture_output=True, text=True,
                              timeout=30)
        assert done.returncode != 0
        assert "duplicate address" in done.stderr
        assert binary[1] or "static_resources.listeners[1]" in done.stderr


def test_taken_address_is_refused(two):
    """A second listener on an address that one has, bound or not, is refused with its name; the
    others of the response are used."""
    proxy, server, port = two
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    server.set("Listener", [on_port(port, "a"), on_port(port, "b", "second"),
                            on_port(port, "b", "third", bind_to_port=False),
                            on_port(free, "b", "other")])
    nack = server.wait_nack("Listener").error
    for name in ("second", "third"):
        assert name in nack and "duplicate address" in nack
    proxy.wait(lambda: not refused(free), 5, "the good one")
    for _ in range(10):
        assert ask(port).body == b"a" and ask(free).body == b"b"


@pytest.fixture
def on(start, serve):
    """on(**fields) starts a proxy whose listener has these fields and leads to an echo server."""
    def starter(concurrency=2, **fields):
        one = listener([mesh.tcp_proxy("up", "tcp")], **fields)
        up = serve(handle=lambda sock: sock.sendall(sock.recv(100)))
        return start(static([one], [cluster("up", up)]), concurrency=concurrency)
    return starter


def echoes(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(address)
        sock.sendall(b"hi")
        return sock.recv(100) == b"hi"


def test_additional_addresses(on, free_port, tmp_path):
    """All are one listener: its chains, its statistics, its line in /listeners."""
    path = str(tmp_path / "s")
    proxy = on(additional_addresses=[
        {"address": xds.socket_address("127.0.0.2", free_port)},
        {"address": {"pipe": {"path": path, "mode": 0o620}}}])
    port = proxy.port()
    assert echoes(socket.AF_INET, ("127.0.0.1", port))
    assert echoes(socket.AF_INET, ("127.0.0.2", free_port))
    assert echoes(socket.AF_UNIX, path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o620
    status = json.loads(proxy.admin("/listeners?format=json")[1])["listener_statuses"][0]
    more = [a["socket_address"]["port_value"] if "socket_address" in a else a["pipe"]["path"]
            for a in status["additional_local_addresses"]]
    assert more == [free_port, path]
    assert proxy.stat("tcp.tcp.downstream_cx_total") == 3


@pytest.mark.parametrize("abstract", [False, True])
def test_unix_socket(on, tmp_path, abstract):
    path = ("@" if abstract else "") + str(tmp_path / "s")
    proxy = on(address={"pipe": {"path": path}})
    where = "\0" + path[1:] if abstract else path
    proxy.wait(lambda: echoes(socket.AF_UNIX, where), 5, "an echo")


def test_exact_balance(on):
    """Each worker has as many connections as any other, whatever the kernel would do."""
    proxy = on(concurrency=4, connection_balance_config={"exact_balance": {}}, stat_prefix="main")
    port = proxy.port()
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    name = "listener.main.worker_%d.downstream_cx_active"
    proxy.wait(lambda: [proxy.stat(name % i) for i in range(4)] == [5] * 4, 5, "5 each")
    for client in clients[:10]:
        client.close()
    proxy.wait_stat("listener.main.downstream_cx_destroy", 10)
    clients += [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
    proxy.wait(lambda: [proxy.stat(name % i) for i in range(4)] == [5] * 4, 5, "5 each again")
    for client in clients:
        client.close()


def test_socket_options(on, free_port):
    """Each is set at its moment, with a number or with bytes."""
    options = [{"level": socket.SOL_SOCKET, "name": socket.SO_KEEPALIVE, "int_value": 1,
                "state": "STATE_PREBIND"},
               {"level": socket.IPPROTO_TCP, "name": socket.TCP_DEFER_ACCEPT, "int_value": 1,
                "state": "STATE_LISTENING"},
               {"level": socket.SOL_SOCKET, "name": socket.SO_PRIORITY,
                "buf_value": "AwAAAA==", "state": "STATE_BOUND"}]
    proxy = on(socket_options=options, tcp_fast_open_queue_length=5, tcp_backlog_size=7)
    port = proxy.port()
    assert echoes(socket.AF_INET, ("127.0.0.1", port))
    seen = subprocess.run(["ss", "-tlno", f"sport = :{port}"], capture_output=True, text=True)
    if seen.returncode == 0:  # the backlog of a listening socket is its send queue
        assert " 7 " in " ".join(seen.stdout.split())


def test_socket_option_that_fails(two, free_port):
    proxy, server, port = two
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other = taken.getsockname()[1]
    server.set("Listener", [on_port(port, "a"), on_port(
        other, "b", "bad", socket_options=[{"level": 9999, "name": 1, "int_value": 1,
                                            "state": "STATE_PREBIND"}])])
    assert "bad" in server.wait_nack("Listener").error
    assert refused(other) and ask(port).body == b"a"


def test_freebind(on, free_port):
    """An address that the machine does not have (yet) can be bound."""
    proxy = on(address=xds.socket_address("192.0.2.1", free_port), freebind=True)
    assert proxy.port() == free_port


def test_listener_log(start, serve):
    """A line a connection: of one that is served at its end, of one without a chain with its
    reason."""
    up = serve(handle=lambda sock: sock.sendall(sock.recv(100)))
    fields = {"flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%",
              "received": "%BYTES_RECEIVED%", "sent": "%BYTES_SENT%",
              "remote": "%DOWNSTREAM_REMOTE_ADDRESS%", "cluster": "%UPSTREAM_CLUSTER%"}
    one = listener([mesh.tcp_proxy("up", "tcp")], access_log=mesh.access_log("listener.log",
                                                                             fields))
    one["filter_chains"][0]["filter_chain_match"] = {"source_prefix_ranges": [
        {"address_prefix": "127.0.0.1", "prefix_len": 32}]}
    proxy = start(static([one], [cluster("up", up)]))
    port = proxy.port()
    assert echoes(socket.AF_INET, ("127.0.0.1", port))
    served = proxy.wait_log(1, "listener.log")[0]
    assert served["flags"] == "-" and served["cluster"] == "up"
    assert int(served["received"]) == int(served["sent"]) == 2
    with socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.3", 0)) as sock:
        assert sock.recv(1) == b""
    refused_one = proxy.wait_log(2, "listener.log")[1]
    assert refused_one["flags"] == "NR" and refused_one["remote"].startswith("127.0.0.3:")
    assert refused_one["details"] == "filter_chain_not_found"
    name = next(n for n in proxy.stats("no_filter_chain_match"))
    assert proxy.stat(name) == 1
