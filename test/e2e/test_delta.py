"""What only incremental discovery has; the names of the tests carry the number of the rule. What it
shares with state of the world is in test_xds.py, which runs with both."""

import json
import time

import pytest
from google.protobuf import duration_pb2

from controlplane import mesh, xds
from controlplane.server import ADS_DELTA_METHOD
from harness import tls
from harness.http1 import ask
from harness.proxy import cluster, dynamic, listener
from test_xds import assignment, clusters, eds, http_inline, http_rds, routes


@pytest.fixture
def running(start, serve, control_plane):
    upstream = serve(name="up")
    control_plane.set_all({
        "Cluster": clusters(eds()), "ClusterLoadAssignment": [assignment("up", upstream)],
        "Listener": [http_rds()], "RouteConfiguration": [routes("up")]})
    proxy = start(dynamic(control_plane, delta=True))
    return proxy, control_plane, upstream


def wrapped(message, name=None, version="w", ttl=None):
    """A whole envoy.service.discovery.v3.Resource; without a message a heartbeat."""
    out = xds.message_class("envoy.service.discovery.v3.Resource")(
        name=name or xds.name_of(message), version=version)
    if message is not None:
        out.resource.CopyFrom(xds.pack(message))
    if ttl:
        out.ttl.CopyFrom(duration_pb2.Duration(seconds=ttl))
    return out


def answered(server, nonces):
    """Waits for the answers to these responses, and returns them."""
    return [server.wait_request(None, nonce=nonce) for nonce in nonces]


def acked(server, nonces):
    assert all(r.ack for r in answered(server, nonces))


def names(proxy):
    return {line.split("::")[0] for line in proxy.admin("/clusters")[1].splitlines()}


def test_rule_1_2_10_21_first_requests(running):
    proxy, server, _ = running
    assert ask(proxy.port()).body == b"up"
    first = server.requests()[0]
    assert first.method == ADS_DELTA_METHOD
    assert (first.kind, first.node, first.message.node.cluster) == ("Cluster", "test-node", "test")
    assert all(not r.message.HasField("node") for r in server.requests()[1:])
    assert not any(r.initial for r in server.requests())
    asked = {}
    for request in server.requests():
        asked.setdefault(request.kind, request)
    assert list(asked) == ["Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration"]
    assert [r.nonce for r in asked.values()] == [""] * 4
    assert [r.names for r in asked.values()] == [(), ("up",), (), ("routes",)]


def own(server, timeout="0s"):
    """A source with a stream of its own."""
    return {"resource_api_version": "V3", "initial_fetch_timeout": timeout, "api_config_source": {
        "api_type": "DELTA_GRPC", "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]}}


def test_rule_1_streams_of_their_own(start, serve, control_plane):
    upstream, second = serve(name="up"), serve(name="second")
    source = own(control_plane)
    hcm = mesh.hcm("test", rds="routes")
    hcm["typed_config"]["rds"]["config_source"] = source
    control_plane.set_all({
        "Cluster": clusters(eds(eds_cluster_config={"service_name": "svc", "eds_config": source})),
        "ClusterLoadAssignment": [assignment("svc", upstream)],
        "Listener": [xds.message("Listener", listener([hcm], "main"))],
        "RouteConfiguration": [routes("up")]})
    bootstrap = dynamic(control_plane)
    bootstrap["dynamic_resources"] = {"lds_config": source, "cds_config": source}
    proxy = start(bootstrap)
    assert ask(proxy.port()).body == b"up"
    methods = {r.method.rpartition("/")[2]: r.kind for r in control_plane.requests()}
    assert methods == {"DeltaClusters": "Cluster", "DeltaEndpoints": "ClusterLoadAssignment",
                       "DeltaListeners": "Listener", "DeltaRoutes": "RouteConfiguration"}
    version = control_plane.set("ClusterLoadAssignment", [assignment("svc", second)])
    control_plane.wait_ack("ClusterLoadAssignment", version)
    proxy.wait(lambda: ask(proxy.port()).body == b"second", 5, "the new endpoint")
    control_plane.wait_ack("Listener", control_plane.set("Listener", []))
    proxy.wait(lambda: not proxy.listener_ports(), 10, "removal of the listener")


def test_rule_5_6_good_ones_of_a_refused_response(running):
    """Envoy checks the fields of all first, and then uses none if one breaks a rule of those."""
    proxy, server, _ = running
    bad = eds("bad", lb_policy="CLUSTER_PROVIDED")
    nonces = server.send_delta("Cluster", clusters(bad, cluster("good", ("127.0.0.1", 9)),
                                                   eds("up", lb_policy="CLUSTER_PROVIDED")))
    [nack] = answered(server, nonces)
    assert "bad" in nack.error and "up" in nack.error and "good" not in nack.error
    proxy.wait(lambda: "good" in names(proxy), 5, "the good one")
    assert "bad" not in names(proxy)
    assert ask(proxy.port()).status == 200
    assert proxy.stat("cluster_manager.cds.update_rejected") == 1


def test_rule_9_names_come_and_go(running, serve):
    """One at a time, as changes, in requests that answer nothing."""
    proxy, server, upstream = running
    mark = server.mark()
    server.set("ClusterLoadAssignment", [assignment("up", upstream),
                                         assignment("other", serve(name="other"))])
    server.set("Cluster", clusters(eds(), eds("other")))
    asked = server.wait_request("ClusterLoadAssignment", since=mark, names=("other",))
    assert (asked.nonce, asked.unsubscribed, asked.initial) == ("", (), {})
    proxy.wait(lambda: "other" in names(proxy), 10, "the new cluster")
    mark = server.mark()
    server.set("Cluster", clusters(eds()))
    gone = server.wait_request("ClusterLoadAssignment", since=mark, unsubscribed=("other",))
    assert (gone.nonce, gone.names) == ("", ())
    assert all(not (r.nonce and (r.names or r.unsubscribed)) for r in server.requests())
    assert ask(proxy.port()).status == 200


def test_rule_12_only_what_is_named_is_removed(running):
    proxy, server, _ = running
    port = proxy.port()
    acked(server, server.send_delta("Cluster", clusters(cluster("a", ("127.0.0.1", 9)),
                                                        cluster("b", ("127.0.0.1", 9)))))
    acked(server, server.send_delta("Cluster"))
    acked(server, server.send_delta("Cluster", removed=["a", "nonesuch"]))
    proxy.wait(lambda: "a" not in names(proxy), 10, "removal of a cluster")
    assert {"b", "up"} <= names(proxy)
    acked(server, server.send_delta("Listener", [http_inline("up", "more")]))
    assert ask(proxy.port("more")).status == 200
    acked(server, server.send_delta("Listener", removed=["more", "nonesuch"]))
    proxy.wait(lambda: "more" not in proxy.listener_ports(), 10, "removal of the listener")
    assert ask(port).status == 200


def test_rule_12_17_removed_endpoints_stay_until_new_ones_come(running, serve):
    proxy, server, _ = running
    port = proxy.port()
    assert ask(port).status == 200
    acked(server, server.send_delta("ClusterLoadAssignment", removed=["up"]))
    time.sleep(0.2)
    assert ask(port).body == b"up"
    acked(server, server.send_delta("ClusterLoadAssignment",
                                    [assignment("up", serve(name="back"))]))
    proxy.wait(lambda: ask(port).body == b"back", 5, "the return")


def test_rule_12_removed_routes_stay_in_use(running):
    """Also for a listener that comes later."""
    proxy, server, _ = running
    port = proxy.port()
    assert ask(port).status == 200
    acked(server, server.send_delta("RouteConfiguration", removed=["routes"]))
    time.sleep(0.2)
    assert ask(port).status == 200
    acked(server, server.send_delta("Listener", [http_rds("late")]))
    assert ask(proxy.port("late")).status == 200


def test_rule_14_added_and_removed_at_once_is_refused(running):
    proxy, server, _ = running
    nonces = server.send_delta("Cluster", clusters(eds(connect_timeout="4s")), removed=["up"])
    [nack] = answered(server, nonces)
    assert "up" in nack.error
    assert ask(proxy.port()).status == 200


def test_rule_15_what_nobody_asked_for_is_acked(running, serve):
    proxy, server, _ = running
    acked(server, server.send_delta("ClusterLoadAssignment", [assignment("stranger", serve())]))
    assert ask(proxy.port()).status == 200


def waiting(name, timeout):
    """A cluster that waits for its endpoints as long as it may."""
    return eds(name, eds_cluster_config={"eds_config": {**xds.ADS,
                                                        "initial_fetch_timeout": timeout}})


def test_rule_16_endpoints_that_do_not_come(running):
    proxy, server, _ = running
    server.set("Cluster", clusters(eds(), waiting("late", "1s"), waiting("ever", "0s")))
    proxy.wait(lambda: "late" in names(proxy), 10, "the end of the wait")
    assert "ever" not in names(proxy)
    assert proxy.stat("cluster.late.init_fetch_timeout") == 1


def test_rule_16_endpoints_that_do_not_exist(running):
    """The server says so at once: nothing waits."""
    proxy, server, _ = running
    server.says_absent = True
    server.set("Cluster", clusters(eds(), waiting("none", "0s")))
    proxy.wait(lambda: "none" in names(proxy), 10, "the answer")
    assert ask(proxy.port()).status == 200


def test_rule_19_a_changed_cluster_uses_the_endpoints_that_are_there(running):
    """The server does not say them again. Envoy waits for that, for ever if it may."""
    proxy, server, _ = running
    server.follows = False
    mark = server.mark()
    server.set("Cluster", clusters(eds(connect_timeout="3s")))
    if proxy.is_envoy:
        time.sleep(1)
        assert proxy.stat("cluster_manager.warming_clusters") == 1
        acked(server, server.send_delta("ClusterLoadAssignment",
                                        server.resources("ClusterLoadAssignment")[1].values()))
    proxy.wait(lambda: proxy.stat("cluster_manager.cluster_modified") == 1, 10, "the change")
    proxy.wait(lambda: proxy.stat("cluster_manager.warming_clusters") == 0, 10, "the warming")
    assert not any(r.names for r in server.requests("ClusterLoadAssignment", since=mark))
    assert ask(proxy.port()).status == 200


def test_rule_21_22_a_new_stream_says_what_is_there(running):
    proxy, server, upstream = running
    server.set("ClusterLoadAssignment", [assignment("up", upstream),
                                         assignment("two", upstream)])
    server.wait_ack("Cluster", server.set("Cluster", clusters(eds(), eds("two"))))
    proxy.wait(lambda: "two" in names(proxy), 10, "the second cluster")
    versions = {kind: server._changed[kind, "*"] for kind in (
        "Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration")}
    mark = server.mark()
    server.close_streams()
    first = {kind: server.wait_request(kind, since=mark, nonce="", timeout=35)
             for kind in versions}
    for kind, request in first.items():
        assert request.initial == versions[kind], kind
        assert not request.unsubscribed
    assert first["Cluster"].names == first["Listener"].names == ()
    assert sorted(first["ClusterLoadAssignment"].names) == ["two", "up"]
    assert first["RouteConfiguration"].names == ("routes",)
    assert first["Cluster"].message.node.id == "test-node"
    # What went away meanwhile is said by its name.
    mark = server.mark()
    server.stop()
    proxy.wait(lambda: proxy.stat("control_plane.connected_state") == 0, 10, "the loss")
    server.set("Cluster", clusters(eds()))
    server.start()
    server.wait_request("Cluster", since=mark, timeout=35)
    proxy.wait(lambda: "two" not in names(proxy), 10, "the removal")
    assert ask(proxy.port()).status == 200


@pytest.mark.parametrize("garbage", [b"\x0a\x7f", b"\xff\xff\xff\xff", b"\x32\x01\xff"],
                         ids=["truncated", "noise", "not-utf-8"])
def test_rule_23_garbage_costs_the_stream_and_nothing_else(running, garbage):
    proxy, server, _ = running
    port = proxy.port()
    mark = server.mark()
    server.send_bytes(garbage)
    again = server.wait_request("Cluster", since=mark, nonce="", timeout=35)
    assert again.initial == {"up": server.resources("Cluster")[0]}
    assert ask(port).status == 200
    acked(server, server.send_delta("Cluster", clusters(cluster("later", ("127.0.0.1", 9)))))
    proxy.wait(lambda: "later" in names(proxy), 10, "the next update")


def test_rule_25_an_empty_server_takes_nothing_away(running):
    proxy, server, _ = running
    port = proxy.port()
    server.stop()
    kept = dict(server._sets)
    server._sets.clear()
    mark = server.mark()
    server.start()
    server.wait_request("RouteConfiguration", since=mark, timeout=35)
    assert ask(port).status == 200 and "up" in names(proxy)
    server._sets.update(kept)


def test_rule_26_time_to_live(running):
    proxy, server, _ = running
    message = clusters(cluster("mayfly", ("127.0.0.1", 9)))[0]
    acked(server, server.send_delta("Cluster", [wrapped(message, ttl=3)]))
    for _ in range(4):  # heartbeats, for longer than it would live
        time.sleep(1)
        acked(server, server.send_delta("Cluster", [wrapped(None, "mayfly", ttl=3)]))
        assert "mayfly" in names(proxy)
    proxy.wait(lambda: "mayfly" not in names(proxy), 15, "its end")
    acked(server, server.send_delta("Cluster", [wrapped(message, ttl=1)]))
    acked(server, server.send_delta("Cluster", [wrapped(message)]))
    time.sleep(1.5)
    assert "mayfly" in names(proxy)
    assert ask(proxy.port()).status == 200


def test_rule_37_versions_of_resources(running):
    """/config_dump has the version of each, the stats and the list that of the response."""
    proxy, server, upstream = running
    acked(server, server.send_delta(
        "Cluster", [wrapped(clusters(cluster("x", ("127.0.0.1", 9)))[0], version="x-7")],
        version="system"))
    acked(server, server.send_delta(
        "ClusterLoadAssignment", [wrapped(assignment("up", upstream), version="e-3")],
        version="later"))
    dump = json.loads(proxy.admin("/config_dump")[1])["configs"]
    found = next(c for c in dump if c["@type"].endswith("ClustersConfigDump"))
    assert found["version_info"] == "system"
    versions = {c["cluster"]["name"]: c["version_info"] for c in found["dynamic_active_clusters"]}
    assert versions == {"up": "1", "x": "x-7"}
    text = proxy.admin("/stats?filter=version_text")[1]
    assert 'cluster_manager.cds.version_text: "system"\n' in text
    assert 'cluster.up.version_text: "later"\n' in text


def tls_chain(authority, sds_cluster):
    made = listener([mesh.hcm("test", route_config=mesh.route_config("r", [mesh.route("up")]))])
    made["filter_chains"][0]["transport_socket"] = mesh.downstream_tls(sds_cluster=sds_cluster)
    text = json.dumps(made).replace('"GRPC"', '"DELTA_GRPC"')
    return xds.message("Listener", json.loads(text))


@pytest.mark.parametrize("sds", ["ads", "own-stream"])
def test_rule_29_secrets_rotate_and_outlive_removal(start, serve, control_plane, authority, sds):
    def give():
        identity = authority.issue(authority.spiffe("server"))
        control_plane.set("Secret", [authority.secret_identity(identity),
                                     authority.secret_roots()])
        return identity

    def shown():
        with tls.connect(proxy.port(), caller) as client:
            assert client.ask().status == 200
            return f"{tls.peer(client).serial_number:x}"

    first = give()
    control_plane.set_all({
        "Cluster": clusters(cluster("up", serve())),
        "Listener": [tls_chain(authority, None if sds == "ads" else "xds-grpc")]})
    proxy = start(dynamic(control_plane, delta=True))
    caller = tls.context(authority, authority.issue(authority.spiffe("client")))
    assert shown() == first.serial
    methods = {r.method.rpartition("/")[2] for r in control_plane.requests("Secret")}
    assert methods == {"DeltaAggregatedResources" if sds == "ads" else "DeltaSecrets"}
    second = give()
    proxy.wait(lambda: shown() == second.serial, 5, "the new certificate")
    acked(control_plane, control_plane.send_delta("Secret", removed=["default"]))
    time.sleep(0.2)
    assert shown() == second.serial
