"""The consistent-hashing balancers: for the same key and endpoints the same host as in Envoy.

`SCENARIOS` are clusters: what is said of the balancer, and the endpoints. `play(name, ...)` sends each
cluster the same keys through a proxy and returns which endpoint each of them went to.
"""

import queue
import random
import socket

import peers
from controlplane import mesh
from harness.proxy import http_listener, static
from harness.upstream import Server

KEYS = 10000
BATCH = 50
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
RING = {"lb_policy": "RING_HASH"}
MAGLEV = {"lb_policy": "MAGLEV"}
TYPE = "type.googleapis.com/envoy.extensions.load_balancing_policies."


def _lb(number, **more):
    """One endpoint: 127.0.NUMBER.1, so that which of them answered can be told apart."""
    return {"number": number, **more}


def _all(number, **more):
    return [_lb(i, **more) for i in range(1, number + 1)]


def _policy(name, kind, **fields):
    return {"load_balancing_policy": {"policies": [
        {"typed_extension_config": {"name": "unknown", "typed_config": {
            "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
            "type_url": "type.googleapis.com/nobody.knows.This", "value": {}}}},
        {"typed_extension_config": {"name": name, "typed_config": {
            "@type": f"{TYPE}{name}.v3.{kind}", **fields}}}]}}


def _localities(*groups):
    return [{"hosts": hosts, **more} for hosts, more in groups]


def _scenarios():
    weighted = [_lb(i, weight=1 + i * i % 7) for i in range(1, 12)]
    keyed = [_lb(i, metadata={"envoy.lb": {"hash_key": f"shard-{i * 7 % 9}"}}) for i in range(1, 9)]
    named = [_lb(i, hostname=f"host{i}.test") for i in range(1, 6)]
    ill = [_lb(i, health="UNHEALTHY" if i in (2, 5) else "DEGRADED" if i == 7 else "HEALTHY")
           for i in range(1, 11)]
    panic = [_lb(i, health="UNHEALTHY" if i < 9 else "HEALTHY") for i in range(1, 11)]
    places = _localities(
        (_all(3), {"zone": "b", "weight": 3}),
        ([_lb(4), _lb(5, weight=4)], {"zone": "a", "weight": 1}),
        ([_lb(6, health="UNHEALTHY"), _lb(7)], {"zone": "c", "weight": 2}),
        ([_lb(8)], {"zone": "d"}))
    levels = _localities(
        ([_lb(i, health="UNHEALTHY" if i < 4 else "HEALTHY") for i in range(1, 6)], {"zone": "a"}),
        ([_lb(i) for i in range(6, 10)], {"zone": "b", "priority": 1}))
    by_locality = {"common_lb_config": {"locality_weighted_lb_config": {}}}
    for name, base in (("ring", RING), ("maglev", MAGLEV)):
        yield f"{name}", base, _all(10)
        yield f"{name}, one host", base, _all(1)
        yield f"{name}, one more", base, _all(11)
        yield f"{name}, one less", base, [h for h in _all(10) if h["number"] != 4]
        yield f"{name}, listed backwards", base, _all(10)[::-1]
        yield f"{name}, weights", base, weighted
        yield f"{name}, unhealthy", base, ill
        yield f"{name}, panic", base, panic
        yield f"{name}, hash_key", base, keyed
        yield f"{name}, localities", {**base, **by_locality}, places
        yield f"{name}, localities flat", base, places
        yield f"{name}, priorities", base, levels
        yield f"{name}, bounded", {**base, "common_lb_config": {"consistent_hashing_lb_config": {
            "hash_balance_factor": 100}}}, weighted
    yield "ring, small", {**RING, "ring_hash_lb_config": {"minimum_ring_size": 1,
                                                         "maximum_ring_size": 7}}, weighted
    yield "ring, large", {**RING, "ring_hash_lb_config": {"minimum_ring_size": 200000}}, weighted
    yield "ring, murmur", {**RING, "ring_hash_lb_config": {"hash_function": "MURMUR_HASH_2"}}, weighted
    yield "maglev, small", {**MAGLEV, "maglev_lb_config": {"table_size": 31}}, weighted
    yield "maglev, large", {**MAGLEV, "maglev_lb_config": {"table_size": 1000003}}, weighted
    yield "ring, typed", _policy("ring_hash", "RingHash", minimum_ring_size=50,
                                 hash_function="MURMUR_HASH_2"), weighted
    yield "maglev, typed", _policy("maglev", "Maglev", table_size=101, consistent_hashing_lb_config={
        "use_hostname_for_hashing": True}), named
    yield "maglev, typed, localities", _policy("maglev", "Maglev", table_size=101,
                                               locality_weighted_lb_config={}), places


def _subset_hosts():
    """Versions 1 to 3 in stages prod and dev; some have a list, one has nothing."""
    found = []
    for i in range(1, 13):
        stage = "prod" if i % 2 else "dev"
        lb = {"version": str(1 + i % 3), "stage": stage, "weight": i % 2, "flags": {"b": 1, "a": [i % 2]}}
        if i % 5 == 0:
            lb["version"] = ["1", "9"]
        found.append(_lb(i, metadata={"envoy.lb": lb} if i != 12 else None,
                         health="UNHEALTHY" if i in (1, 4) else "HEALTHY", weight=1 + i % 2))
    return found


def _subsets():
    """What is asked for of the same hosts, with what configuration; the ring makes each choice the
    same in both proxies."""
    keys = [{"keys": ["version"]}, {"keys": ["stage", "version"]}, {"keys": ["weight"]},
            {"keys": ["flags"]}]
    base = {"subset_selectors": keys}

    def cluster(**more):
        return {**RING, "lb_subset_config": {**base, **more}}

    def keyed(**more):
        return cluster(subset_selectors=[{"keys": ["version", "stage"], **more},
                                         {"keys": ["stage"]}])
    asks = {
        "version": {"version": "2"}, "two keys": {"stage": "dev", "version": "1"},
        "number": {"weight": 1}, "object": {"flags": {"a": [1], "b": 1}},
        "nobody": {"version": "7"}, "no selector": {"stage": "prod"},
        "other type": {"version": 2}, "nothing": {}, "one of a list": {"version": "9"},
        "a list": {"version": ["1", "9"]}}
    for name, ask in asks.items():
        yield f"subset, {name}", cluster(), ask
        yield f"subset, any, {name}", cluster(fallback_policy="ANY_ENDPOINT", list_as_any=True), ask
        yield f"subset, default, {name}", cluster(fallback_policy="DEFAULT_SUBSET", default_subset={
            "stage": "dev"}), ask
    nowhere = {"version": "7", "stage": "prod"}
    yield "subset, panic", cluster(fallback_policy="DEFAULT_SUBSET", panic_mode_any=True,
                                   default_subset={"stage": "none"}), nowhere
    yield "subset, panic without fallback", cluster(panic_mode_any=True), nowhere
    for policy in ("NO_FALLBACK", "ANY_ENDPOINT", "DEFAULT_SUBSET"):
        yield f"subset, selector {policy}", {**keyed(fallback_policy=policy), **RING}, nowhere
    yield "subset, fewer keys", keyed(fallback_policy="KEYS_SUBSET",
                                      fallback_keys_subset=["stage"]), nowhere
    yield "subset, single", cluster(subset_selectors=[
        {"keys": ["version"], "single_host_per_subset": True}]), {"version": "2"}
    yield "subset, list of fallbacks", cluster(metadata_fallback_policy="FALLBACK_LIST"), {
        "fallback_list": [{"version": "7"}, {"version": "3"}], "stage": "prod"}
    yield "subset, no fallbacks", cluster(metadata_fallback_policy="FALLBACK_LIST"), {
        "fallback_list": [], "version": "3"}
    ring = {"policies": [{"typed_extension_config": {"name": "r", "typed_config": {
        "@type": f"{TYPE}ring_hash.v3.RingHash", "minimum_ring_size": 300}}}]}
    yield "subset, typed", _policy("subset", "Subset", subset_selectors=[{"keys": ["version"]}],
                                   allow_redundant_keys=True, subset_lb_policy=ring), {
        "version": "2", "stage": "prod", "other": True}


def _subset_scenarios():
    for title, policy, ask in _subsets():
        yield title, {**policy, "match": ask}, _subset_hosts()
    hosts = _subset_hosts()[:11]
    places = _localities((hosts[:3], {"zone": "b", "weight": 5}), (hosts[3:8], {"zone": "a", "weight": 2}),
                         (hosts[8:], {"zone": "c", "weight": 3}))
    for more in ({}, {"locality_weight_aware": True},
                 {"locality_weight_aware": True, "scale_locality_weight": True}):
        yield f"subset, localities {len(more)}", {
            **RING, "common_lb_config": {"locality_weighted_lb_config": {}}, "match": {"stage": "prod"},
            "lb_subset_config": {"subset_selectors": [{"keys": ["stage"]}], **more}}, places


SCENARIOS = [*_scenarios(), *_subset_scenarios()]
BOUNDED = [title for title, *_ in SCENARIOS].index("ring, bounded")
HELD = 14     # requests of a key at once
HOLDERS = 10  # keys


def _endpoint(port, number, weight=None, hostname="", health="HEALTHY", metadata=None):
    found = {"endpoint": {"address": {"socket_address": {
        "address": f"127.0.{number}.1", "port_value": port}}}, "health_status": health}
    if hostname:
        found["endpoint"]["hostname"] = hostname
    if weight:
        found["load_balancing_weight"] = weight
    if metadata:
        found["metadata"] = {"filter_metadata": metadata}
    return found


def _cluster(index, policy, hosts, port):
    groups = hosts if "hosts" in hosts[0] else [{"hosts": hosts}]
    endpoints = []
    for group in groups:
        one = {"lb_endpoints": [_endpoint(port, **host) for host in group["hosts"]]}
        if "zone" in group:
            one["locality"] = {"region": "r", "zone": group["zone"]}
        if "weight" in group:
            one["load_balancing_weight"] = group["weight"]
        if "priority" in group:
            one["priority"] = group["priority"]
        endpoints.append(one)
    return {"name": f"c{index}", "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {"cluster_name": f"c{index}", "endpoints": endpoints},
            **{name: value for name, value in policy.items() if name != "match"}}


def bootstrap(port, scenarios):
    """bootstrap routes /INDEX/ to the cluster of each scenario, by the hash of the header x-key."""
    routes = []
    for index in range(len(scenarios)):
        route = mesh.route(f"c{index}", prefix=f"/{index}/")
        route["route"]["hash_policy"] = [{"header": {"header_name": "x-key"}}]
        route["response_headers_to_add"] = [{"header": {"key": "x-host", "value": "%UPSTREAM_HOST%"}}]
        if scenarios[index][1].get("match") is not None:
            route["route"]["metadata_match"] = {"filter_metadata": {
                "envoy.lb": scenarios[index][1]["match"]}}
        routes.append(route)
    return static([http_listener(routes)], [_cluster(i, policy, hosts, port)
                                            for i, (_, policy, hosts) in enumerate(scenarios)])


class Upstream:
    """All endpoints at once: one port of every address of the loopback interface."""

    def __init__(self):
        self.held = queue.Queue()  # addresses that got a request with x-hold, which has no answer
        self.server = Server(self._handle, host="0.0.0.0")
        self.port = self.server.port

    def _handle(self, sock):
        left = b""
        while (data := sock.recv(65536)):
            *heads, left = (left + data).split(b"\r\n\r\n")
            for head in heads:
                if b"x-hold" in head:
                    self.held.put(sock.getsockname()[0])
                else:
                    sock.sendall(RESPONSE)

    def close(self):
        self.server.close()


def keys(number, seed=1):
    """keys are `number` header values, the same for the same seed."""
    rng = random.Random(seed)
    return ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789-/", k=rng.randint(1, 40)))
            for _ in range(number)]


def _ask(port, index, batch):
    """Several requests at once; their hosts in order. Envoy may close after an answer of its own: the
    rest is asked again."""
    hosts = []
    while len(hosts) < len(batch):
        before = len(hosts)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
            sock.sendall("".join(f"GET /{index}/ HTTP/1.1\r\nHost: test\r\nx-key: {key}\r\n\r\n"
                                 for key in batch[before:]).encode())
            data = b""
            while len(hosts) < len(batch):
                head, found, rest = data.partition(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:]
                              if b": " in line)
                length = int(fields.get(b"content-length", b"0"))
                if found and len(rest) >= length:
                    hosts.append((head.split(b" ", 2)[1].decode(), fields.get(b"x-host", b"").decode()))
                    data = rest[length:]
                    if fields.get(b"connection") == b"close":
                        break
                    continue
                try:
                    more = sock.recv(65536)
                except ConnectionResetError:
                    more = b""
                if not more:
                    break
                data += more
        assert len(hosts) > before, f"no answer in {SCENARIOS[index][0]}"
    return hosts


def _hold(proxy, upstream, key):
    """The hosts that requests of one key go to while none of them is answered, one after the other."""
    target, socks, hosts = f"/{BOUNDED}/", [], []
    try:
        for _ in range(HELD):
            socks.append(socket.create_connection(("127.0.0.1", proxy.port()), timeout=60))
            socks[-1].sendall(f"GET {target} HTTP/1.1\r\nHost: test\r\nx-hold: 1\r\n"
                              f"x-key: {key}\r\n\r\n".encode())
            hosts.append(upstream.held.get(timeout=60))
    finally:
        for sock in socks:
            sock.close()
    proxy.wait(lambda: proxy.stat(f"cluster.c{BOUNDED}.upstream_rq_active") == 0)
    return hosts


def play(name, folder, upstream, number):
    """play returns [[(status, host) of each key] of each scenario], and last the hosts of requests
    that are held, with bounded loads."""
    proxy = peers.start(name, folder, bootstrap(upstream.port, SCENARIOS), concurrency=1,
                        log_level="error")
    try:
        found = []
        port, asked = proxy.port(), keys(number)
        for index in range(len(SCENARIOS)):
            first = _ask(port, index, asked[:1])
            if first[0][0] == "503":  # nobody for any key; and Envoy closes slowly
                found.append(first)
                continue
            found.append([answer for at in range(0, number, BATCH)
                          for answer in _ask(port, index, asked[at:at + BATCH])])
        found.append([host for key in keys(HOLDERS, 2) for host in _hold(proxy, upstream, key)])
        assert not proxy.findings(), proxy.log()
        return found
    finally:
        proxy.stop()


def compare(folder, number):
    """compare returns [(scenario, keys, how many went elsewhere, an example)]."""
    upstream = Upstream()
    try:
        theirs = play("envoy", f"{folder}/envoy", upstream, number)
        ours = play("attache", f"{folder}/attache", upstream, number)
    finally:
        upstream.close()
    rows = []
    titles = [title for title, *_ in SCENARIOS] + ["ring, bounded, requests held"]
    for title, one, two in zip(titles, ours, theirs):
        if len(one) != len(two):
            one, two = one[:1], two[:1]
        other = [(i, a, b) for i, (a, b) in enumerate(zip(one, two)) if a != b]
        rows.append((title, len(set(two)), len(other), other[:1]))
    return rows


def report(folder):
    """report is the full form, for docs/conformance.md."""
    rows = compare(folder, KEYS)
    good = sum(not row[2] for row in rows)
    lines = [f"{KEYS} keys through Envoy {peers.version('envoy')} and Attaché "
             f"{peers.version('attache')}, which of the hosts each went to.", "",
             "| balancer and endpoints | hosts used | keys with another host |", "|---|---|---|"]
    lines += [f"| {title} | {used} | {other} |" for title, used, other, _ in rows]
    return lines, good, len(rows) - good
