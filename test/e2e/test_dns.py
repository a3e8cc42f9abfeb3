"""Clusters whose endpoints are names (STRICT_DNS, LOGICAL_DNS): what a DNS server says, and fails to
say, becomes hosts."""

import re
import socket
import struct
import subprocess
import threading
import time

import pytest
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2  # noqa: F401
from controlplane import mesh, xds
from harness.dns import A, AAAA, NXDOMAIN, REFUSED, SERVFAIL, DnsServer, message, question, record
from harness.http1 import Client, ask
from harness.proxy import Proxy, dynamic, http_listener, static
from harness.upstream import response

CARES = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
DNS_CLUSTER = "envoy.extensions.clusters.dns.v3.DnsCluster"


@pytest.fixture
def name_server():
    """name_server(zone) starts a DNS server."""
    servers = []

    def starter(zone=None):
        servers.append(DnsServer(zone))
        return servers[-1]
    yield starter
    for server in servers:
        server.close()


def resolver(server, **more):
    options = {"no_default_search_domain": True, **more.pop("dns_resolver_options", {})}
    return {"name": "envoy.network.dns_resolver.cares", "typed_config": {
        "@type": "type.googleapis.com/" + CARES,
        "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": server.port}}],
        "dns_resolver_options": options, "query_timeout_seconds": 1, "query_tries": 2, **more}}


def endpoint(host, port, **more):
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}, **more}


def dns_cluster(name, server, *hosts, port=1, kind="STRICT_DNS", **more):
    """dns_cluster asks once a second for the names of `hosts`, endpoints or their names."""
    endpoints = [h if isinstance(h, dict) else endpoint(h, port) for h in hosts]
    return {"name": name, "type": kind, "connect_timeout": "2s", "dns_refresh_rate": "1s",
            "dns_lookup_family": "V4_ONLY", "typed_dns_resolver_config": resolver(server),
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
            **more}


def hosts(proxy, name):
    """hosts are the addresses of a cluster, without ports."""
    lines = re.findall(rf"(?m)^{name}::(.*):\d+::weight::", proxy.admin("/clusters")[1])
    return sorted(lines)


def wait_hosts(proxy, name, expected):
    proxy.wait(lambda: hosts(proxy, name) == expected, 15, f"{name}: {expected}")


def test_an_answer_becomes_hosts(start, serve, name_server):
    one = serve(name="one")
    two = serve(name="two", host="127.0.0.2", port=one.port)
    server = name_server({"up.test": (60, ["127.0.0.1", "127.0.0.2"])})
    proxy = start(static([http_listener([mesh.route("up")])],
                         [dns_cluster("up", server, "up.test", port=one.port)]))
    assert hosts(proxy, "up") == ["127.0.0.1", "127.0.0.2"]
    assert {ask(proxy.port()).body for _ in range(20)} == {b"one", b"two"}
    server.zone["up.test"] = (60, ["127.0.0.2"])
    wait_hosts(proxy, "up", ["127.0.0.2"])
    assert {ask(proxy.port()).body for _ in range(6)} == {b"two"}
    total = proxy.stats("^cluster.up.update_")
    assert total["cluster.up.update_attempt"] >= 2 and total["cluster.up.update_failure"] == 0
    assert total["cluster.up.update_success"] >= 2
    assert proxy.stat("cluster.up.membership_change") == 2
    assert two.connections > 0


def test_a_host_that_stays_keeps_its_state(start, serve, name_server):
    up = serve()
    server = name_server({"up.test": (60, ["127.0.0.1"])})
    proxy = start(static([http_listener([mesh.route("up")])],
                         [dns_cluster("up", server, "up.test", port=up.port)]))
    assert ask(proxy.port()).status == 200
    server.zone["up.test"] = (60, ["127.0.0.3", "127.0.0.1"])
    wait_hosts(proxy, "up", ["127.0.0.1", "127.0.0.3"])
    lines = proxy.admin("/clusters")[1].splitlines()
    assert f"up::127.0.0.1:{up.port}::rq_total::1" in lines


def test_weights_localities_and_health(start, serve, name_server):
    server = name_server({"a.test": (60, ["127.0.0.1", "127.0.0.2"]), "b.test": (60, ["127.0.0.3"])})
    cluster = dns_cluster("up", server)
    cluster["load_assignment"]["endpoints"] = [
        {"locality": {"region": "near"},
         "lb_endpoints": [endpoint("a.test", 80, load_balancing_weight=7)]},
        {"locality": {"region": "far"}, "priority": 1,
         "lb_endpoints": [endpoint("b.test", 81, health_status="UNHEALTHY"),
                          endpoint("127.0.0.9", 82)]}]
    proxy = start(static([http_listener([mesh.route("up")])], [cluster]))
    wait_hosts(proxy, "up", ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.9"])
    lines = set(proxy.admin("/clusters")[1].splitlines())
    for line in ("127.0.0.1:80::weight::7", "127.0.0.2:80::weight::7", "127.0.0.2:80::region::near",
                 "127.0.0.3:81::priority::1", "127.0.0.3:81::region::far",
                 "127.0.0.3:81::hostname::b.test", "127.0.0.9:82::hostname::127.0.0.9"):
        assert "up::" + line in lines
    assert proxy.stat("cluster.up.membership_healthy") == 3


def test_the_name_is_the_host_of_auto_host_rewrite(start, serve, name_server):
    up = serve()
    server = name_server({"up.test": (60, ["127.0.0.1"])})
    named = endpoint("up.test", up.port)
    named["endpoint"]["hostname"] = "called.test"
    routes = [mesh.route("named", prefix="/named"), mesh.route("up")]
    for route in routes:
        route["route"]["auto_host_rewrite"] = True
    proxy = start(static([http_listener(routes)], [
        dns_cluster("up", server, "up.test", port=up.port), dns_cluster("named", server, named)]))
    assert ask(proxy.port()).status == 200 and ask(proxy.port(), target="/named").status == 200
    assert [r.get("host") for r in up.requests] == ["up.test", "called.test"]


def test_ttl_and_refresh_rate(start, name_server):
    server = name_server({"ttl.test": (1, ["127.0.0.1"]), "rate.test": (1, ["127.0.0.1"]),
                          "long.test": (300, ["127.0.0.1"])})
    slow = {"dns_refresh_rate": "300s"}
    proxy = start(static([], [
        dns_cluster("ttl", server, "ttl.test", respect_dns_ttl=True, **slow),
        dns_cluster("rate", server, "rate.test", **slow),
        dns_cluster("long", server, "long.test", respect_dns_ttl=True)]))
    proxy.wait(lambda: server.count("ttl.test") >= 3, 20, "the TTL to end twice")
    assert server.count("rate.test") == 1 and server.count("long.test") == 1


def test_a_resolver_that_fails_takes_nothing_away(start, serve, name_server):
    up = serve()
    server = name_server({"up.test": (60, ["127.0.0.1"])})
    proxy = start(static([http_listener([mesh.route("up")])],
                         [dns_cluster("up", server, "up.test", port=up.port)]))
    for code in (SERVFAIL, REFUSED):
        server.zone["up.test"] = code
        proxy.wait_stat("cluster.up.update_failure", proxy.stat("cluster.up.update_failure") + 2, 30)
        assert hosts(proxy, "up") == ["127.0.0.1"] and ask(proxy.port()).status == 200
    server.zone["up.test"] = (60, ["127.0.0.2"])
    wait_hosts(proxy, "up", ["127.0.0.2"])


def other_id(query, tcp):
    return message(query, [record(None, A, 60, socket.inet_aton("127.0.0.9"))],
                   ident=struct.unpack("!H", query[:2])[0] ^ 1)


def other_question(query, tcp):
    return message(query, [record(None, A, 60, socket.inet_aton("127.0.0.9"))]).replace(b"up", b"xx")


def other_owner(query, tcp):
    return message(query, [record("evil.test", A, 60, socket.inet_aton("127.0.0.9"))], code=SERVFAIL)


def garbage(query, tcp):
    return query[:2] + b"\x81\x80" + b"\xff" * 400


def cut(query, tcp):
    return message(query, [record(None, A, 60, socket.inet_aton("127.0.0.9"))])[:-2]


def truncated_for_ever(query, tcp):
    return message(query, truncated=True) if not tcp else b"\0"


def compression_loop(query, tcp):
    at = 12 + len(question(query)[2])
    data = message(query, [record(None, A, 60, socket.inet_aton("127.0.0.9"))])
    return data[:at] + struct.pack("!H", 0xc000 | at) + data[at + 2:]


def silence(query, tcp):
    return None


LIES = [other_id, other_question, other_owner, garbage, cut, truncated_for_ever, compression_loop,
        silence]


@pytest.mark.parametrize("kind", ["STRICT_DNS", "LOGICAL_DNS"])
def test_a_resolver_that_lies_takes_nothing_away(start, serve, name_server, kind):
    up = serve()
    servers = [name_server({"up.test": (60, ["127.0.0.1"])}) for _ in LIES]
    names = [lie.__name__ for lie in LIES]
    proxy = start(static(
        [http_listener([mesh.route(name, prefix="/" + name) for name in names])],
        [dns_cluster(name, server, "up.test", port=up.port, kind=kind)
         for name, server in zip(names, servers)]))
    for server, lie in zip(servers, LIES):
        server.lie = lie
    for name in names:
        proxy.wait_stat(f"cluster.{name}.update_failure", 1, 30)
        assert hosts(proxy, name) == ["127.0.0.1"], name
        assert ask(proxy.port(), target="/" + name).status == 200
    for server in servers:
        server.lie = None
        server.zone["up.test"] = (60, ["127.0.0.2"])
    for name in names:
        wait_hosts(proxy, name, ["127.0.0.2"])


def test_no_such_name(start, serve, name_server):
    """That a name is gone is an answer: STRICT_DNS has no hosts then, LOGICAL_DNS keeps its own."""
    server = name_server({"up.test": (60, ["127.0.0.1"])})
    proxy = start(static([], [dns_cluster("strict", server, "up.test"),
                              dns_cluster("logical", server, "up.test", kind="LOGICAL_DNS")]))
    for gone in (NXDOMAIN, (60, [])):
        server.zone["up.test"] = gone
        wait_hosts(proxy, "strict", [])
        before = proxy.stat("cluster.logical.update_failure")
        proxy.wait_stat("cluster.logical.update_failure", before + 1)
        assert hosts(proxy, "logical") == ["127.0.0.1"]
        server.zone["up.test"] = (60, ["127.0.0.1"])
        wait_hosts(proxy, "strict", ["127.0.0.1"])


def test_large_answers_come_over_tcp(start, name_server):
    addresses = [f"127.0.1.{i}" for i in range(1, 101)]
    server = name_server({"up.test": (60, addresses)})
    proxy = start(static([], [dns_cluster("up", server, "up.test")]))
    assert hosts(proxy, "up") == sorted(addresses) and server.over_tcp >= 1


def test_always_over_tcp(start, name_server):
    server = name_server({"up.test": (60, ["127.0.0.1"])})
    cluster = dns_cluster("up", server, "up.test", typed_dns_resolver_config=resolver(
        server, dns_resolver_options={"use_tcp_for_dns_lookups": True}))
    proxy = start(static([], [cluster]))
    assert hosts(proxy, "up") == ["127.0.0.1"]
    assert server.over_tcp == server.count("up.test")


@pytest.mark.parametrize("family, expected, asked", [
    ("AUTO", ["[::1]"], {AAAA}), ("V4_ONLY", ["127.0.0.1"], {A}), ("V6_ONLY", ["[::1]"], {AAAA}),
    ("V4_PREFERRED", ["127.0.0.1"], {A}), ("ALL", ["127.0.0.1", "[::1]"], {A, AAAA})])
def test_families(start, name_server, family, expected, asked):
    server = name_server({"up.test": (60, ["127.0.0.1", "::1"])})
    proxy = start(static([], [dns_cluster("up", server, "up.test", dns_lookup_family=family)]))
    assert hosts(proxy, "up") == expected
    assert {kind for _, kind in server.asked} == asked


def test_logical_dns_follows_the_first_address(start, serve, name_server):
    one = serve(name="one")
    serve(name="two", host="127.0.0.2", port=one.port)
    server = name_server({"up.test": (60, ["127.0.0.1", "127.0.0.2"])})
    proxy = start(static([http_listener([mesh.route("up")])],
                         [dns_cluster("up", server, "up.test", port=one.port, kind="LOGICAL_DNS")]))
    assert hosts(proxy, "up") == ["127.0.0.1"]
    assert {ask(proxy.port()).body for _ in range(4)} == {b"one"}
    server.zone["up.test"] = (60, ["127.0.0.2", "127.0.0.1"])
    wait_hosts(proxy, "up", ["127.0.0.2"])


def test_the_newer_form(start, serve, name_server):
    up = serve()
    server = name_server({"up.test": (60, ["127.0.0.1", "127.0.0.2"])})
    clusters = []
    for name, single in (("strict", False), ("logical", True)):
        cluster = dns_cluster(name, server, "up.test", port=up.port)
        for old in ("type", "dns_refresh_rate", "dns_lookup_family", "typed_dns_resolver_config"):
            del cluster[old]
        clusters.append({**cluster, "cluster_type": {"name": "envoy.cluster.dns", "typed_config": {
            "@type": "type.googleapis.com/" + DNS_CLUSTER, "dns_refresh_rate": "1s",
            "dns_lookup_family": "V4_ONLY", "typed_dns_resolver_config": resolver(server),
            "all_addresses_in_single_endpoint": single}}})
    proxy = start(static([http_listener([mesh.route("strict")])], clusters))
    assert hosts(proxy, "strict") == ["127.0.0.1", "127.0.0.2"]
    assert hosts(proxy, "logical") == ["127.0.0.1"]


def test_the_resolver_of_the_bootstrap(start, name_server):
    server = name_server({"up.test": (60, ["127.0.0.7"])})
    cluster = dns_cluster("up", server, "up.test")
    del cluster["typed_dns_resolver_config"]
    typed = resolver(server)["typed_config"]
    for config in ({"typed_dns_resolver_config": resolver(server)},
                   {"dns_resolution_config": {"resolvers": typed["resolvers"]}}):
        proxy = start({**static([], [cluster]), **config})
        assert hosts(proxy, "up") == ["127.0.0.7"]


def test_warming_waits_for_the_first_answer(start, name_server):
    silent = name_server({"up.test": (60, ["127.0.0.1"])})
    silent.lie = silence
    proxy = start(static([], [dns_cluster("up", silent, "up.test")]), ready=False)
    assert not proxy.is_ready()
    proxy.wait(proxy.is_ready, 30, "giving up")
    assert hosts(proxy, "up") == [] and proxy.stat("cluster.up.update_failure") >= 1
    silent.lie = None
    wait_hosts(proxy, "up", ["127.0.0.1"])


def test_warming_that_does_not_wait(start, name_server):
    silent = name_server()
    silent.lie = silence
    proxy = start(static([], [dns_cluster("up", silent, "up.test", wait_for_warm_on_init=False,
                                          typed_dns_resolver_config=resolver(
                                              silent, query_timeout_seconds=100))]))
    assert proxy.stat("cluster.up.update_failure") == 0  # it is ready all the same


def test_an_update_while_the_resolver_fails(start, serve, name_server, control_plane):
    """A cluster that is sent again keeps its hosts, whatever its resolver says by then."""
    up = serve()
    server = name_server({"up.test": (60, ["127.0.0.1"])})
    cluster = dns_cluster("up", server, "up.test", port=up.port)
    control_plane.set_all({"Cluster": [xds.message("Cluster", cluster)], "Listener": [
        xds.message("Listener", http_listener([mesh.route("up")]))]})
    proxy = start(dynamic(control_plane))
    assert ask(proxy.port()).status == 200
    server.zone["up.test"] = SERVFAIL
    for timeout in ("3s", "4s"):
        control_plane.set("Cluster", [
            xds.message("Cluster", {**cluster, "connect_timeout": timeout})])
        time.sleep(2.5)
        if not proxy.is_envoy:  # which has none left then
            assert hosts(proxy, "up") == ["127.0.0.1"] and ask(proxy.port()).status == 200
    server.zone["up.test"] = (60, ["127.0.0.2"])
    wait_hosts(proxy, "up", ["127.0.0.2"])


def test_one_question_a_name_for_many_clusters(start, name_server):
    """5,000 clusters over 340 names ask for each name once in each TTL."""
    names = [f"n{i}.test" for i in range(340)]
    server = name_server({name: (15, ["127.0.0.1"]) for name in names})
    begin = time.monotonic()
    proxy = start(static([], [dns_cluster(f"c{i}", server, names[i % 340], respect_dns_ttl=True,
                                          dns_jitter="0.5s") for i in range(5000)]))
    assert proxy.stat("cluster.c4999.membership_total") == 1
    if proxy.is_envoy:
        assert sum(server.asked.values()) >= 5000  # it asks for each cluster
        return
    proxy.wait(lambda: min(server.asked.values()) >= 2, 60, "the next TTL")
    ended = (time.monotonic() - begin) // 15
    assert len(server.asked) == 340 and max(server.asked.values()) <= 1 + ended
    attempts = proxy.stats("^cluster.c[0-9]*.update_attempt")
    assert len(attempts) == 5000 and sum(attempts.values()) >= 5000


@pytest.mark.parametrize("kind", ["STRICT_DNS", "LOGICAL_DNS"])
def test_a_request_outlives_its_address(start, serve, name_server, kind):
    """What is under way on a host that an answer takes away is answered."""
    gate = threading.Event()

    def slow(request):
        gate.wait(30)
        return response(body=b"late")
    old = serve(slow)
    new = serve(name="new", host="127.0.0.2", port=old.port)
    server = name_server({"up.test": (60, ["127.0.0.1"])})
    proxy = start(static([http_listener([mesh.route("up")])],
                         [dns_cluster("up", server, "up.test", port=old.port, kind=kind)]),
                  concurrency=1)
    with Client(proxy.port(), timeout=30) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        proxy.wait(lambda: old.requests, 10, "the request")
        server.zone["up.test"] = (60, ["127.0.0.2"])
        wait_hosts(proxy, "up", ["127.0.0.2"])
        gate.set()
        assert client.response().body == b"late"
    assert ask(proxy.port()).body == b"new" and new.connections == 1
    assert proxy.stat("cluster.up.membership_change") == 2
    proxy.wait_stat("cluster.up.upstream_cx_destroy_local")


def test_questions_of_a_ttl_are_shared_again_and_again(start, name_server):
    server = name_server({"up.test": (2, ["127.0.0.1"])})
    proxy = start(static([], [dns_cluster(f"c{i}", server, "up.test", respect_dns_ttl=True,
                                          dns_jitter="0.2s") for i in range(100)]))
    if proxy.is_envoy:
        return  # it asks for each cluster
    begin, before = time.monotonic(), server.count("up.test")
    proxy.wait(lambda: server.count("up.test") >= before + 3, 30, "three more questions")
    assert time.monotonic() - begin >= 3.5  # and not a hundred of them at once
    assert proxy.stat("cluster.c99.update_attempt") >= 3


REFUSED_CONFIGS = [
    {"kind": "LOGICAL_DNS", "hosts": ["a.test", "b.test"]},
    {"kind": "LOGICAL_DNS", "hosts": []},
    {"hosts": ["a.test"], "dns_failure_refresh_rate": {"base_interval": "2s", "max_interval": "1s"}},
    {"hosts": ["a.test"], "dns_refresh_rate": "0s"},
    {"hosts": [{"endpoint": {"address": {"pipe": {"path": "/tmp/x"}}}}]},
]


@pytest.mark.parametrize("number", range(len(REFUSED_CONFIGS)))
def test_refused(binary, tmp_path, name_server, number):
    more = dict(REFUSED_CONFIGS[number])
    path, is_envoy = binary
    cluster = dns_cluster("up", name_server(), *more.pop("hosts"), **more)
    proxy = Proxy(path, tmp_path, static([], [cluster]), is_envoy=is_envoy)
    done = subprocess.run([path, "-c", proxy.config, "--mode", "validate"], capture_output=True,
                          timeout=60, check=False)
    pipe = number == len(REFUSED_CONFIGS) - 1
    assert done.returncode == (0 if is_envoy and pipe else 1), done
