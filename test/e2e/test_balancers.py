"""Which host a request goes to. That hashes give Envoy's hosts is test/conformance/balancers.py."""

import re

from controlplane import mesh, xds
from harness.http1 import Client, ask
from harness.proxy import cluster, dynamic, http_listener, listener, static

KEYS = [f"key-{i}" for i in range(60)]
COOKIE = {"cookie": {"name": "session", "ttl": "3600s", "path": "/", "attributes": [
    {"name": "SameSite", "value": "Lax"}]}}
HEADER = {"header": {"header_name": "x-key"}}


def hosts(proxy, keys=KEYS, **headers):
    """Which server each key goes to."""
    with Client(proxy.port()) as client:
        return [client.ask(headers={"x-key": key, **headers}).body.decode() for key in keys]


def servers(serve, number):
    return [serve(name=f"s{i}") for i in range(number)]


def test_a_key_has_one_host(start, serve):
    for policy in ("RING_HASH", "MAGLEV"):
        proxy = start(static([http_listener([mesh.route("up", hash_policy=[HEADER])])],
                             [cluster("up", *servers(serve, 5), lb_policy=policy)]))
        first = hosts(proxy)
        assert len(set(first)) == 5
        assert hosts(proxy) == first
        scope = {"RING_HASH": "ring_hash_lb.min_hashes", "MAGLEV": "maglev_lb.min_entries"}[policy]
        least = proxy.stat(f"cluster.up.{scope}_per_host")
        most = proxy.stat(f"cluster.up.{scope.replace('min', 'max')}_per_host")
        assert 200 < least <= most < 14000
        if policy == "RING_HASH":
            assert proxy.stat("cluster.up.ring_hash_lb.size") == 1025
        without = hosts(proxy, ["same"] * 60, **{"x-key": ""})
        assert len(set(without)) == 1  # an empty key is a key


def test_without_a_key_any_host(start, serve):
    proxy = start(static([http_listener([mesh.route("up", hash_policy=[
        {"header": {"header_name": "x-other"}}])])],
                         [cluster("up", *servers(serve, 3), lb_policy="RING_HASH")]))
    assert len(set(hosts(proxy, ["same"] * 60))) == 3


def test_a_cookie_is_made_and_keeps_its_host(start, serve):
    up = servers(serve, 4)
    proxy = start(static([http_listener([mesh.route("plain", prefix="/plain", hash_policy=[COOKIE]),
                                         mesh.route("up", hash_policy=[COOKIE])])],
                         [cluster("up", *up, lb_policy="MAGLEV"), cluster("plain", *up)]))
    for _ in range(5):
        with Client(proxy.port()) as client:
            first = client.ask()
            again = client.ask()  # the same connection gets the same one
        made = first.get("set-cookie")
        assert re.fullmatch(r'session="[0-9a-f]{16}"; Max-Age=3600; Path=/; SameSite=Lax; HttpOnly',
                            made) or re.fullmatch(
            r'session="[0-9a-f]{16}"; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax', made)
        assert again.get("set-cookie") == made and again.body == first.body
        value = made.split(";")[0].replace('"', "")
        for _ in range(3):
            kept = ask(proxy.port(), headers={"Cookie": value})
            assert kept.body == first.body and not kept.get("set-cookie")
    assert ask(proxy.port(), "/plain").get("set-cookie") is None  # nobody wanted to know the hash


def test_hosts_come_and_go(start, serve, control_plane):
    """What a ring's hosts have, they keep while others come and go."""
    up = servers(serve, 6)

    def assignment(chosen, **health):
        found = xds.load_assignment("up", [s.endpoint for s in chosen])
        for one in found["endpoints"][0]["lb_endpoints"]:
            port = one["endpoint"]["address"]["socket_address"]["port_value"]
            if port in health.get("ill", ()):
                one["health_status"] = "UNHEALTHY"
        return [xds.message("ClusterLoadAssignment", found)]

    control_plane.set_all({
        "Cluster": [xds.message("Cluster", mesh.eds_cluster("up", lb_policy="RING_HASH"))],
        "ClusterLoadAssignment": assignment(up[:5]),
        "Listener": [xds.message("Listener", listener([mesh.hcm("test", route_config=mesh.route_config(
            "r", [mesh.route("up", hash_policy=[HEADER])]))]))]})
    proxy = start(dynamic(control_plane))
    with_five = hosts(proxy)

    control_plane.set("ClusterLoadAssignment", assignment(up))
    proxy.wait(lambda: proxy.stat("cluster.up.membership_total") == 6)
    proxy.wait(lambda: "s5" in hosts(proxy))
    with_six = hosts(proxy)
    moved = [(a, b) for a, b in zip(with_five, with_six) if a != b]
    assert sum(b != "s5" for _, b in moved) < 25 and len(moved) < 40  # all would move by modulo

    control_plane.set("ClusterLoadAssignment", assignment(up, ill=(up[2].port,)))
    proxy.wait(lambda: proxy.stat("cluster.up.membership_healthy") == 5)
    proxy.wait(lambda: "s2" not in hosts(proxy))
    without = hosts(proxy)
    assert sum(a != b for a, b in zip(with_six, without) if a != "s2") < 25

    control_plane.set("ClusterLoadAssignment", assignment(up[:5]))
    proxy.wait(lambda: proxy.stat("cluster.up.membership_total") == 5)
    proxy.wait(lambda: hosts(proxy) == with_five)


def test_the_first_policy_that_is_known(start, serve):
    """load_balancing_policy, here with another table for each of two clusters."""
    up = servers(serve, 3)

    def policies(*configs):
        return {"policies": [{"typed_extension_config": {"name": f"p{i}", "typed_config": {
            "@type": f"type.googleapis.com/envoy.extensions.load_balancing_policies.{name}", **more}}}
            for i, (name, more) in enumerate(configs)]}

    hashed = policies(("maglev.v3.Maglev", {"table_size": 31}), ("random.v3.Random", {}))
    turns = policies(("round_robin.v3.RoundRobin", {"locality_lb_config": {
        "locality_weighted_lb_config": {}}}))
    second = cluster("turns", *up, load_balancing_policy=turns)
    second["load_assignment"]["endpoints"][0]["load_balancing_weight"] = 1
    second["load_assignment"]["endpoints"][0]["locality"] = {"zone": "a"}
    proxy = start(static([http_listener([mesh.route("turns", prefix="/turns"),
                                         mesh.route("up", hash_policy=[HEADER])])],
                         [cluster("up", *up, load_balancing_policy=hashed), second]), concurrency=1)
    assert len(set(hosts(proxy, ["one"] * 20))) == 1
    with Client(proxy.port()) as client:
        order = [client.ask(target="/turns").body for _ in range(9)]
    assert order[:3] * 3 == order and len(set(order)) == 3
