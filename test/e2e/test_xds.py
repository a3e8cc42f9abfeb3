"""Aggregated discovery, state of the world and incremental: subscription, ACK and NACK, what is
kept, warming, loss of the server."""

import json
import time

import pytest

from controlplane import ControlPlane, Raw, mesh, xds
from harness.http1 import Client, ask
from harness.proxy import cluster, dynamic, listener


def clusters(*dicts):
    return [xds.message("Cluster", d) for d in dicts]


def eds(name="up", **more):
    return mesh.eds_cluster(name, **{"connect_timeout": "1s", **more})


def assignment(name, *servers):
    return xds.message("ClusterLoadAssignment",
                       xds.load_assignment(name, [s.endpoint for s in servers]))


def http_rds(name="main", rds="routes"):
    return xds.message("Listener", listener([mesh.hcm("test", rds=rds)], name))


def http_inline(to, name="main"):
    return xds.message("Listener", listener(
        [mesh.hcm("test", route_config=mesh.route_config("r", [mesh.route(to)]))], name))


def routes(to, name="routes"):
    return xds.message("RouteConfiguration", mesh.route_config(name, [mesh.route(to)]))


@pytest.fixture(params=["sotw", "delta"])
def delta(request):
    return request.param == "delta"


def check_refused(nack, good):
    """An incremental NACK names no version."""
    assert nack.delta or nack.version == good


@pytest.fixture
def running(start, serve, control_plane, delta):
    """A proxy whose listener, route, cluster and endpoint all come from the control plane."""
    upstream = serve(name="up")
    control_plane.set_all({
        "Cluster": clusters(eds()), "ClusterLoadAssignment": [assignment("up", upstream)],
        "Listener": [http_rds()], "RouteConfiguration": [routes("up")]})
    proxy = start(dynamic(control_plane, delta=delta))
    return proxy, control_plane, upstream


def test_first_requests(running):
    proxy, server, _ = running
    assert ask(proxy.port()).body == b"up"
    first = server.requests()[0]
    assert first.kind == "Cluster" and first.node == "test-node"
    assert (first.version, first.nonce, first.names) == ("", "", ())
    assert first.message.node.cluster == "test"
    assert first.message.node.user_agent_name
    assert all(not r.message.HasField("node") for r in server.requests()[1:])
    asked = []
    for request in server.requests():
        if request.kind not in asked:
            asked.append(request.kind)
    assert asked == ["Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration"]
    assert server.requests("ClusterLoadAssignment")[0].names == ("up",)
    assert server.requests("RouteConfiguration")[0].names == ("routes",)


def test_every_response_gets_one_answer_with_its_nonce(running):
    proxy, server, upstream = running
    for i in range(5):
        version = server.set("Cluster", clusters(eds(connect_timeout=f"{i + 2}s")))
        server.wait_ack("Cluster", version)
    time.sleep(0.3)
    sent = [e.nonce for e in server.transcript if type(e).__name__ == "Response"]
    acked = [r.nonce for r in server.requests() if r.ack and r.kind in ("Cluster", "Listener")]
    answered = {r.nonce for r in server.requests() if r.nonce}
    assert set(sent) == answered
    assert len(acked) == len(set(acked))


def test_update_of_each_type(running, serve):
    proxy, server, _ = running
    port = proxy.port()
    second, third = serve(name="second"), serve(name="third")
    assert ask(port).body == b"up"
    version = server.set("ClusterLoadAssignment", [assignment("up", second)])
    server.wait_ack("ClusterLoadAssignment", version)
    proxy.wait(lambda: ask(port).body == b"second", 5, "the new endpoint")
    server.set_all({"Cluster": clusters(eds(), eds("other")),
                    "ClusterLoadAssignment": [assignment("up", second),
                                              assignment("other", third)]})
    version = server.set("RouteConfiguration", [routes("other")])
    server.wait_ack("RouteConfiguration", version)
    proxy.wait(lambda: ask(port).body == b"third", 5, "the new route")
    version = server.set("Listener", [http_rds(), http_inline("up", "more")])
    server.wait_ack("Listener", version)
    assert ask(proxy.port("more")).body == b"second"
    assert ask(port).body == b"third"


def test_absent_from_a_response_is_removed(running):
    proxy, server, _ = running
    server.wait_ack("Listener", server.set("Listener", [http_rds(), http_rds("more")]))
    port, more = proxy.port(), proxy.port("more")
    assert ask(more).status == 200
    server.wait_ack("Listener", server.set("Listener", [http_rds()]))
    proxy.wait(lambda: "more" not in proxy.listener_ports(), 10, "removal of the listener")
    assert ask(port).status == 200
    server.wait_ack("Cluster", server.set("Cluster", []))
    proxy.wait(lambda: ask(port).status == 503, 10, "removal of the cluster")
    assert "up::" not in proxy.admin("/clusters")[1]


# fields, the path in the NACK, and whether Envoy refuses the whole response (its field rules are
# checked for all of it first)
BAD = {
    "connect_timeout": ({"connect_timeout": "-1s"}, "connect_timeout", True),
    "no-eds-config": ({"eds_cluster_config": None}, "eds_cluster_config", False),
    "lb_policy": ({"lb_policy": "CLUSTER_PROVIDED"}, "lb_policy", False),
    "percent": ({"outlier_detection": {"max_ejection_percent": 101}}, "max_ejection_percent",
                True),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_cluster_is_refused_alone(running, serve, kind):
    """The others of the same response are applied; the NACK names the field; what was there
    before stays; a good push recovers."""
    fields, path, envoy_takes_none = BAD[kind]
    proxy, server, _ = running
    port = proxy.port()
    good = server.resources("Cluster")[0]
    mark = server.mark()
    bad = {k: v for k, v in {**eds("bad"), **fields}.items() if v is not None}
    bad_update = {k: v for k, v in {**eds("up"), **fields}.items() if v is not None}
    server.set_all({"Cluster": clusters(bad_update, bad, eds("added")),
                    "ClusterLoadAssignment": [assignment("up", serve(name="up2")),
                                              assignment("added", serve())]})
    nack = server.wait_nack("Cluster", since=mark)
    check_refused(nack, good)
    if not proxy.is_envoy:
        assert path in nack.error and "bad" in nack.error and "up" in nack.error
    assert ask(port).status == 200
    proxy.wait_stat("cluster_manager.cds.update_rejected")
    if not (proxy.is_envoy and envoy_takes_none):
        proxy.wait(lambda: "added::" in proxy.admin("/clusters")[1], 10,
                   "the good one of the response")
    assert "bad::" not in proxy.admin("/clusters")[1]
    version = server.set("Cluster", clusters(eds()))
    server.wait_ack("Cluster", version)
    assert ask(port).status == 200


def test_bad_listener_and_route_are_refused(running):
    proxy, server, _ = running
    port = proxy.port()
    good = server.resources("Listener")[0]
    bad = xds.message("Listener", {
        "name": "bad", "address": xds.socket_address("127.0.0.1", 0), "filter_chains": [
            {"filters": [{"name": "x", "typed_config": {
                "@type": "type.googleapis.com/google.protobuf.Struct", "value": {}}}]}]})
    mark = server.mark()
    server.set("Listener", [http_rds(), bad])
    nack = server.wait_nack("Listener", since=mark)
    check_refused(nack, good)
    assert "bad" in nack.error
    assert ask(port).status == 200
    mark = server.mark()
    good = server.resources("RouteConfiguration")[0]
    server.set("RouteConfiguration", [xds.message("RouteConfiguration", mesh.route_config(
        "routes", [{"match": {"safe_regex": {"regex": "(unclosed"}}, "route": {"cluster": "up"}}]))])
    nack = server.wait_nack("RouteConfiguration", since=mark)
    check_refused(nack, good)
    if not proxy.is_envoy:
        assert "virtual_hosts[0].routes[0].match.safe_regex" in nack.error
    assert ask(port).status == 200


def test_all_errors_of_a_response_are_named(running):
    proxy, server, _ = running
    mark = server.mark()
    server.set("Cluster", clusters(eds(), eds("bad-one", lb_policy="CLUSTER_PROVIDED"),
                                   eds("bad-two", lb_policy="CLUSTER_PROVIDED")))
    nack = server.wait_nack("Cluster", since=mark)
    assert "bad-one" in nack.error and "bad-two" in nack.error
    server.wait_ack("Cluster", server.set("Cluster", clusters(eds())))


def test_duplicate_names_are_refused(running, delta):
    proxy, server, _ = running
    mark = server.mark()
    same = clusters(cluster("twice", ("127.0.0.1", 9)))[0].SerializeToString()
    if delta:
        server.send_delta("Cluster", [Raw("twice", "Cluster", same)] * 2)
    else:
        server.send("Cluster", [*clusters(eds()), Raw("a", "Cluster", same),
                                Raw("b", "Cluster", same)])
    assert "twice" in server.wait_nack("Cluster", since=mark).error
    assert ask(proxy.port()).status == 200


HOSTILE = {
    "noise": b"\xff\xff\xff\xff\xff",
    "truncated": clusters(eds("x"))[0].SerializeToString()[:-3],
    "wrong-wire-type": b"\x0d\x01\x02\x03\x04",  # name as a fixed32
    "group": b"\x0b\x08\x01",                     # a group that never ends
    "nested": None,                                # made below
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_bytes_get_a_nack(running, kind):
    proxy, server, _ = running
    data = HOSTILE[kind]
    if kind == "nested":
        data = b""
        for _ in range(20000):  # Struct in Value in Struct: metadata that never ends
            length, prefix = len(data), bytearray()
            while length >= 128:
                prefix.append(length & 127 | 128)
                length >>= 7
            prefix.append(length)
            data = b"\x0a" + bytes(prefix) + data
            if len(data) > 100000:
                break
        data = b"\xca\x01" + _varint(len(data)) + data  # Cluster.metadata, 25
    mark = server.mark()
    server.send("Cluster", [Raw("hostile", "Cluster", data)])
    assert server.wait_nack("Cluster", since=mark).error
    assert ask(proxy.port()).status == 200


def _varint(number):
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def test_wrong_type_in_a_response_is_refused(running):
    proxy, server, _ = running
    mark = server.mark()
    server.send("Cluster", [Raw("x", "Listener", http_rds("x").SerializeToString())])
    assert server.wait_nack("Cluster", since=mark).error
    assert ask(proxy.port()).status == 200


def test_changed_cluster_warms_before_it_serves(running, serve):
    """Make before break: the old one serves until the new one has its endpoints."""
    proxy, server, _ = running
    port = proxy.port()
    server.hold("ClusterLoadAssignment")
    mark = server.mark()
    # The ACK is held back until nothing warms.
    server.set("Cluster", clusters(
        mesh.eds_cluster("up", service_name="elsewhere"), eds("fresh")))
    server.wait_for(lambda: any({"elsewhere", "fresh"} <= set(r.names) for r in server.requests(
        "ClusterLoadAssignment", since=mark)), what="a request for the new endpoints")
    for _ in range(20):
        assert ask(port).body == b"up"
        time.sleep(0.01)
    assert "fresh::" not in proxy.admin("/clusters")[1]
    assert proxy.stat("cluster_manager.warming_clusters") == 2
    server.set("ClusterLoadAssignment", [assignment("elsewhere", serve(name="warm")),
                                         assignment("fresh", serve())])
    server.release("ClusterLoadAssignment")
    proxy.wait(lambda: ask(port).body == b"warm", 10, "the warmed cluster")
    assert proxy.stat("cluster_manager.warming_clusters") == 0


def test_listener_waits_for_its_routes(running):
    proxy, server, _ = running
    server.hold("RouteConfiguration")
    mark = server.mark()
    version = server.set("Listener", [http_rds(), http_rds("second", "other-routes")])
    server.wait_ack("Listener", version)
    server.wait_for(lambda: any("other-routes" in r.names
                                for r in server.requests("RouteConfiguration", since=mark)),
                    what="a request for the new routes")
    assert proxy.stat("listener_manager.total_listeners_warming") == 1
    assert ask(proxy.port()).status == 200
    server.set("RouteConfiguration", [routes("up"), routes("up", "other-routes")])
    server.release("RouteConfiguration")
    assert ask(proxy.port("second")).status == 200
    assert proxy.stat("listener_manager.total_listeners_warming") == 0


def test_not_ready_until_the_first_configuration(start, serve, control_plane, delta):
    control_plane.hold("Listener")
    upstream = serve()
    control_plane.set_all({"Cluster": clusters(cluster("up", upstream)),
                           "Listener": [http_inline("up")]})
    proxy = start(dynamic(control_plane, delta=delta), ready=False)
    control_plane.wait_request("Listener")
    time.sleep(0.3)
    assert proxy.admin("/ready")[0] == 503
    assert json.loads(proxy.admin("/server_info")[1])["state"] in ("PRE_INITIALIZING",
                                                                   "INITIALIZING")
    control_plane.release("Listener")
    proxy.wait(proxy.is_ready, 10, "/ready")
    assert ask(proxy.port()).status == 200


def test_control_plane_comes_late(start, serve, delta):
    with ControlPlane() as probe:
        port = probe.port
    server = ControlPlane(f"127.0.0.1:{port}")
    server.port = port
    server.set_all({"Cluster": clusters(cluster("up", serve())), "Listener": [http_inline("up")]})
    proxy = start(dynamic(server, delta=delta), ready=False)
    proxy.wait_stat("cluster_manager.cds.update_failure")
    server.start()
    try:
        proxy.wait(proxy.is_ready, 35, "/ready")
        assert ask(proxy.port()).status == 200
    finally:
        server.stop()


def test_loss_and_return_of_the_control_plane(running, serve):
    proxy, server, _ = running
    port = proxy.port()
    accepted = server.resources("Cluster")[0]
    with Client(port) as client:
        assert client.ask().status == 200
        server.stop()
        proxy.wait(lambda: proxy.stat("control_plane.connected_state") == 0, 10, "the loss")
        for _ in range(30):
            assert client.ask().status == 200
            assert ask(port).status == 200
            time.sleep(0.01)
        mark = server.mark()
        server.set("ClusterLoadAssignment", [assignment("up", serve(name="after"))])
        server.start()
        again = server.wait_request("Cluster", since=mark, timeout=35)
        assert (again.nonce, again.node) == ("", "test-node")
        if again.delta:
            assert again.initial == {"up": accepted}
        else:
            assert again.version == accepted
        proxy.wait(lambda: client.ask().body == b"after", 10, "the change")
    assert proxy.stat("control_plane.connected_state") == 1


def test_stream_that_ends_is_opened_again(running):
    proxy, server, _ = running
    for _ in range(3):
        mark = server.mark()
        server.close_streams()
        server.wait_request("Cluster", since=mark, nonce="", timeout=35)
    assert ask(proxy.port()).status == 200


def test_identical_resend_changes_nothing(running):
    proxy, server, _ = running
    with Client(proxy.port()) as client:
        assert client.ask().status == 200
        updates = proxy.stat("listener_manager.listener_modified")
        for kind in ("Cluster", "Listener", "RouteConfiguration"):
            version = server.set(kind, list(server.resources(kind)[1].values()))
            server.wait_ack(kind, version)
        assert client.ask().status == 200
        assert client.ask().get("connection") is None
        assert proxy.stat("listener_manager.listener_modified") == updates
        assert proxy.stat("cluster_manager.cluster_modified") == 0


def test_stats_of_subscriptions(running):
    proxy, server, _ = running
    assert proxy.stat("cluster_manager.cds.update_success") == 1
    assert proxy.stat("listener_manager.lds.update_success") == 1
    assert proxy.stat("cluster.up.update_success") == 1
    assert proxy.stat("http.test.rds.routes.update_success") == 1
    assert proxy.stat("cluster_manager.cds.update_rejected") == 0
    text = proxy.admin("/stats?usedonly&filter=^(cluster_manager\\.cds|listener_manager\\.lds)"
                       "\\.(update_success|update_rejected)$")[1]
    assert "cluster_manager.cds.update_success: 1\n" in text
    assert "listener_manager.lds.update_success: 1\n" in text


def test_many_clusters_in_one_response(start, serve, control_plane, delta):
    """5000 clusters, over 4 MiB: applied, and changed again, while requests are served."""
    upstream = serve()
    names = [f"cluster-{i}-{'x' * 700}" for i in range(5000)]
    control_plane.set_all({
        "Cluster": clusters(cluster("up", upstream), *(eds(n) for n in names)),
        "ClusterLoadAssignment": [assignment(n, upstream) for n in names],
        "Listener": [http_inline("up")]})
    proxy = start(dynamic(control_plane, delta=delta))
    port = proxy.port()
    assert ask(port).status == 200
    begin = time.monotonic()
    version = control_plane.set("Cluster", clusters(
        cluster("up", upstream), *(eds(n, connect_timeout="9s") for n in names)))
    with Client(port) as client:
        slowest = 0
        while not any(r.ack and r.version == version for r in control_plane.requests("Cluster")):
            sent = time.monotonic()
            assert client.ask().status == 200
            slowest = max(slowest, time.monotonic() - sent)
            assert time.monotonic() - begin < 60
    assert slowest < 1
    assert ask(port).status == 200
