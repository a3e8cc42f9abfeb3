"""Listeners that come, change and go: who is served meanwhile, and who is refused."""

import json
import socket
import subprocess

import pytest

from controlplane import mesh, xds
from harness.http1 import Client, ask
from harness.proxy import cluster, dynamic, http_listener, static


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
