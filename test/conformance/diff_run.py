"""The differential run: the same configurations and requests in Envoy and in Attaché.

`generate(number, seed)` makes configurations of diff_features.py and its like, the same for the same
seed. `play(name, ...)` starts a proxy with all of them and returns what each request gave.
`compare(...)` lists the differences.
"""

import argparse
import collections
import concurrent.futures
import os
import random
import re
import socket
import subprocess
import tempfile
import threading
import time

import peers
import diff_accepted
import diff_actions  # noqa: F401
import diff_tables  # noqa: F401
from controlplane import xds
from diff_config import LATER, Config
from diff_features import FEATURES
from harness.http1 import Client, Closed
from harness.upstream import HttpServer

REQUESTS = 10
EACH = 4           # features of a configuration
LETTERS = "wxyz"   # which of them a path belongs to
SERVERS = ("a", "b", "c", "d", "mirror")
ANSWER_S = 20
THREADS = 6
TURNS = 3          # of what differs
LOG_STILL = 5      # looks at a log that does not grow any more
# Not the same twice, or of the run itself: only that they are there is compared.
VARYING = {"x-request-id", "date", "x-envoy-upstream-service-time", "x-forwarded-port"}
OWN = re.compile("x-test-")


# --- configurations --------------------------------------------------------------------------------
def generate(number, seed=1, only=None):
    """generate makes configurations of EACH features, every feature about as often as another;
    some have a last route that takes everything."""
    rng = random.Random(f"attache-{seed}")
    features = [f for f in FEATURES if only is None or f.__name__ in only]
    deck, configs, turns = [], [], collections.Counter()
    for i in range(number):
        config = Config(i, rng, turns)
        while len(config.features) < min(EACH, len(features)):
            if not deck:
                deck = features[:]
                rng.shuffle(deck)
            chosen = deck.pop()
            prefix = f"/f{i}{LETTERS[len(config.features)]}"
            chosen(config, prefix, rng)
            config.features.append(chosen.__name__)
        if rng.random() < 0.4:
            config.route({"prefix": "/"}, {"cluster": "c"}, name="last")
        extras = [r for r in config.requests if r.again]
        while len(config.requests) < REQUESTS:  # more of the same, with another method
            again = rng.choice(extras)
            method = "POST" if again.method == "GET" else "GET"
            config.ask(again.path, again.headers, method, again.host,
                       b"more" if method == "POST" else None, again.group)
        if not config.vhost["routes"]:
            config.route({"path": "/none"}, {"cluster": "c"})
        for index, request in enumerate(config.requests):
            request.id = f"{config.name}-{index}"
            request.features = config.features
        configs.append(config)
    return configs


def _cluster(name, ports, **more):
    endpoints = more.pop("endpoints", None) or [{"endpoint": {
        "hostname": f"{name}.host.test", "address": xds.socket_address("127.0.0.1", port)}}
        for port in ports]
    return {"name": name, "type": "STATIC", "connect_timeout": "2s",
            "per_connection_buffer_limit_bytes": 1048576,
            "circuit_breakers": {"thresholds": [{"max_retries": 1000}]},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
            **more}


def clusters(servers):
    """clusters are those that the routes name."""
    port = {name: server.port for name, server in servers.items()}
    version = [{"endpoint": {"address": xds.socket_address("127.0.0.1", port[name])},
                "metadata": {"filter_metadata": {"envoy.lb": {"version": v}}}}
               for name, v in (("a", "v1"), ("b", "v2"))]
    every = [port[name] for name in "abcd"]
    made = [*(_cluster(name, [port[name]]) for name in SERVERS if name != "d"),
            _cluster("empty", []), _cluster("dead", [1]), _cluster("two", every[:2]),
            _cluster("ring", every, lb_policy="RING_HASH"),
            _cluster("maglev", every, lb_policy="MAGLEV"),
            _cluster("subsets", [], endpoints=version, lb_subset_config={
                "fallback_policy": "NO_FALLBACK", "subset_selectors": [{"keys": ["version"]}]}),
            {**_cluster("dns", [], endpoints=[{"endpoint": {"address": xds.socket_address(
                "localhost", port["a"])}}]), "type": "STRICT_DNS", "dns_lookup_family": "V4_ONLY"}]
    return [cluster for cluster in made if cluster["name"] not in LATER]


# --- upstreams ------------------------------------------------------------------------------------
class Upstreams:
    """The servers; what they saw is kept by the request's x-test-id."""

    def __init__(self):
        self.seen = collections.defaultdict(list)
        self.lock = threading.Lock()
        self.servers = {name: HttpServer(lambda request, name=name: self.answer(name, request))
                        for name in SERVERS}

    def answer(self, name, request):
        test = request.get("x-test-id")
        with self.lock:
            attempt = len([n for n, _ in self.seen[test] if n != "mirror"])
            self.seen[test].append((name, request))
        delay = request.get("x-test-delay") or (request.get("x-test-delay-first") if not attempt else 0)
        if delay and name != "mirror":
            time.sleep(int(delay) / 1000)
        answers = (request.get("x-test-answers") or "200").split(",")
        answer = answers[min(attempt, len(answers) - 1)]
        if answer == "reset":
            return None
        headers = [("x-upstream", name), ("x-internal", "1"), ("x-upstream-version", "2"),
                   ("content-type", "text/plain")]
        if answer == "200-retry":
            answer, headers = "200", [*headers, ("x-retry", "yes")]
        if answer.startswith("grpc-"):
            headers[-1:] = [("content-type", "application/grpc"), ("grpc-status", answer[5:])]
            answer = "200"
        if request.get("x-test-header"):
            headers.append(tuple(request.get("x-test-header").split(": ", 1)))
        body = b"" if answer in ("204", "304") or dict(headers).get("grpc-status") else name.encode()
        lines = [f"HTTP/1.1 {answer} Reason", f"content-length: {len(body)}"]
        lines += [f"{key}: {value}" for key, value in headers]
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if request.method == "HEAD" else body)

    def close(self):
        for server in self.servers.values():
            server.close()


# --- playing ----------------------------------------------------------------------------------------
def _send(client, request):
    lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {request.host}",
             f"x-test-id: {request.id}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    if request.body is not None:
        lines.append(f"content-length: {len(request.body)}")
    client.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (request.body or b""))


def _ask_all(port, config):
    """The answers to a configuration's requests: {id: (status, headers, body)}."""
    answers, client = {}, None
    for request in config.requests:
        try:
            client = client or Client(port, timeout=ANSWER_S)
            _send(client, request)
            message = client.response(request.method)
            answers[request.id] = message.status, message.headers, message.body
            if message.get("connection", "").lower() == "close" or message.status == 101:
                client.sock.close()
                client = None
        except (OSError, Closed, AssertionError, ValueError, socket.timeout) as problem:
            answers[request.id] = type(problem).__name__, [], b""
            if client:
                client.sock.close()
            client = None
    if client:
        client.sock.close()
    return answers


def _fields(headers):
    """Headers in one order, without what varies. Several of a name are one list (RFC 9110 5.3), which
    Envoy writes in one line for the names that it knows."""
    lists = collections.defaultdict(list)
    for name, value in headers:
        if not OWN.match(name):
            lists[name] += [_cookie(value)] if name == "set-cookie" else [
                "*" if name in VARYING else part.strip() for part in value.split(",")]
    return [(name, ",".join(part for part in parts if part) or "") for name, parts in
            sorted(lists.items())]


def _cookie(value):
    return re.sub('="?[0-9a-f]+"?(;|$)', r"=*\1", value)


def bootstrap(configs, servers, without=()):
    return peers.static([config.listener("access.log") for config in configs],
                        [c for c in clusters(servers) if c["name"] not in without])


def _any_host(fields):
    """Fields without what tells hosts and clusters apart."""
    return [(name, ",".join("any" if word in SERVERS else word for word in value.split(",")))
            for name, value in fields if name not in ("x-upstream", "content-length")]


class Result:
    """What one request gave, ready to be compared."""

    def __init__(self, request, answer, seen, log):
        status, headers, body = answer
        self.status, self.headers, self.body = status, _fields(headers), body
        self.upstream = []
        mirrored = []
        for name, message in seen:
            fields = _fields(message.headers)
            if name != "mirror" and self.upstream:  # what is left of the time is not the same twice
                fields = [f for f in fields if f[0] != "x-envoy-expected-rq-timeout-ms"]
            entry = (name, message.method, message.target, fields, message.body)
            (mirrored if name == "mirror" else self.upstream).append(entry)
        self.mirrored = mirrored
        self.log = {key: value for key, value in (log or {"no": "log"}).items()
                    if key not in ("id", "config")}
        if self.log.get("flags"):  # Envoy: in the order in which they were set
            self.log["flags"] = ",".join(sorted(self.log["flags"].split(",")))
        if request.group or self.log.get("cluster") == "two":
            self._forget_the_host()

    def _forget_the_host(self):
        self.body = b""
        self.headers = _any_host(self.headers)
        self.upstream = [("any", method, target, _any_host(fields), body)
                         for _, method, target, fields, body in self.upstream]
        self.log.pop("cluster", None)

    def outcome(self):
        """outcome is what tells two outcomes apart, without what a request brings along."""
        return (self.status, tuple((e[0], e[2].split("?")[0].lstrip("/f0123456789wxyz")) for e in
                                   self.upstream), len(self.mirrored), self.log.get("flags"),
                self.log.get("details"), tuple(self.headers))

    def parts(self):
        return {"status": self.status, "response headers": self.headers, "body": self.body,
                "upstream": self.upstream, "mirrored": self.mirrored,
                **{f"log {key}": value for key, value in self.log.items()}}


def play(name, configs, folder, without=()):
    """play returns {request id: Result}; `without` are clusters to leave out."""
    upstreams = Upstreams()
    proxy = peers.start(name, folder, bootstrap(configs, upstreams.servers, without), concurrency=1,
                        log_level="error")
    try:
        ports = proxy.wait(lambda: len(proxy.listener_ports()) == len(configs) and
                           proxy.listener_ports(), 30, "listeners")
        answers = {}
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            for found in pool.map(lambda c: _ask_all(ports[c.name], c), configs):
                answers.update(found)
        logs = _logs(proxy, len(answers))
        time.sleep(0.3)  # what is mirrored may come late
        results = {}
        for config in configs:
            for request in config.requests:
                results[request.id] = Result(request, answers[request.id],
                                             upstreams.seen[request.id], logs.get(request.id))
        findings = proxy.findings()
        assert not findings, proxy.log()
        return results
    finally:
        proxy.stop()
        upstreams.close()


def _logs(proxy, number):
    """The log's entries by id; some requests (malformed ones) have none, so the wait has an end."""
    deadline, before, still = time.monotonic() + 20, -1, 0
    while time.monotonic() < deadline and still < LOG_STILL:
        entries = proxy.log_entries()
        if len({entry.get("id") for entry in entries}) >= number:
            break
        still = still + 1 if len(entries) == before else 0
        before = len(entries)
        time.sleep(0.6)
    return {entry["id"]: entry for entry in entries if entry.get("id")}


# --- what Attaché does not take yet -------------------------------------------------------------------
def refusals(configs, folder):
    """refusals are (the fields which Attaché refuses or ignores with a warning: {field: {config name}},
    the configurations without any, the clusters to leave out). Asked again until nothing is left."""
    os.makedirs(folder, exist_ok=True)
    fields, left, without = collections.defaultdict(set), list(configs), set()
    upstreams = Upstreams()
    names = [c["name"] for c in clusters(upstreams.servers)]
    try:
        while left:
            kept = [name for name in names if name not in without]
            proxy = peers.Proxy(peers.attache(), folder, bootstrap(left, upstreams.servers, without))
            done = subprocess.run([peers.attache(), "--mode", "validate", "-c", proxy.config],
                                  capture_output=True, text=True, check=False)
            bad, before = set(), len(without)
            for line in (done.stdout + done.stderr).split("\n"):
                found = re.search(r"static_resources\.(listeners|clusters)\[(\d+)\]\S*?\.(\S+?):? ", line)
                if not found:
                    continue
                kind, index, field = found.group(1), int(found.group(2)), found.group(3)
                if kind == "clusters":
                    if "error:" in line:
                        without.add(kept[index])
                        fields[f"cluster {kept[index]}: {field}"] |= {
                            c.name for c in left if f"'{kept[index]}'" in str(c.vhosts)}
                    continue
                field = re.sub(r"(\[[^\]]*\])+", "", field)
                fields[field.split("filters.typed_config.")[-1]].add(left[index].name)
                bad.add(left[index].name)
            bad |= {c.name for c in left for name in without if f"'{name}'" in str(c.vhosts)}
            if not bad and len(without) == before:
                assert done.returncode == 0, done.stdout + done.stderr
                break
            left = [c for c in left if c.name not in bad]
    finally:
        upstreams.close()
    return dict(fields), left, without


def compare(configs, ours, theirs):
    """compare lists (configuration, request, part, ours, theirs) for everything that differs and is not
    accepted (diff_accepted.py)."""
    found = []
    for config in configs:
        for request in config.requests:
            mine, other = ours[request.id].parts(), theirs[request.id].parts()
            for part in other:
                if mine.get(part) != other[part]:
                    found.append((config, request, part, mine.get(part), other[part]))
    return [entry for entry in found if not diff_accepted.reason(entry, ours, theirs)]


def differences(configs, folder, without=()):
    """differences plays configurations in both and compares: (what differs, Envoy's results, how many
    configurations were played again). On a slow machine a time of 0.15 s may pass at the wrong moment,
    in either proxy: what differs is played again, alone, and stays only if it differs each time."""
    found, theirs, again = [], {}, 0
    for turn in range(TURNS):
        if turn and not found:
            break
        left = configs if not turn else [c for c in configs if c.number in {f[0].number for f in found}]
        again += len(left) if turn else 0
        other = play("envoy", left, os.path.join(folder, f"envoy-{turn}"))
        ours = play("attache", left, os.path.join(folder, f"attache-{turn}"), without)
        theirs.update(other)
        found = compare(left, ours, other)
    return found, theirs, again


def supported(folder, each=12):
    """supported are the features of which Attaché refuses nothing, asked with some configurations of
    each alone; and the refusals."""
    singles = []
    for function in FEATURES:
        for config in generate(each, seed=function.__name__, only={function.__name__}):
            config.number = len(singles)
            config.name = f"c{config.number}"
            singles.append(config)
    fields, left, without = refusals(singles, folder)
    taken = collections.Counter(c.features[0] for c in left)
    return {name for name, count in taken.items() if count == each}, fields, without


# path: (the route's match and action, the share of requests that cluster `a` must get)
SHARES = {
    "/w20": ({"prefix": "/w20"}, {"weighted_clusters": {"clusters": [
        {"name": "a", "weight": 20}, {"name": "b", "weight": 80}]}}, 0.2),
    "/w3": ({"prefix": "/w3"}, {"weighted_clusters": {"clusters": [
        {"name": name, "weight": 1} for name in "abc"]}}, 1 / 3),
    "/r30": ({"prefix": "/r30", "runtime_fraction": {
        "default_value": {"numerator": 30, "denominator": "HUNDRED"}}}, {"cluster": "a"}, 0.3),
    "/r5": ({"prefix": "/r5", "runtime_fraction": {
        "default_value": {"numerator": 50000, "denominator": "MILLION"}}}, {"cluster": "a"}, 0.05),
}
SAMPLES = 600


def shares(name, folder):
    """shares are how often cluster `a` was chosen at random: {path: share}."""
    config = Config(0, random.Random(0), collections.Counter())
    for path, (match, action, _) in SHARES.items():
        config.route(match, action)
    config.route({"prefix": "/"}, {"cluster": "b"})
    for path in SHARES:
        for _ in range(SAMPLES):
            config.ask(path)
    for index, request in enumerate(config.requests):
        request.id = f"s-{index}"
    results = play(name, [config], folder)
    hits = collections.Counter(r.path for r in config.requests if results[r.id].body == b"a")
    return {path: hits[path] / SAMPLES for path in SHARES}


def share_is_right(path, share):
    """share_is_right: within five standard deviations of what is configured."""
    want = SHARES[path][2]
    return abs(share - want) < 5 * (want * (1 - want) / SAMPLES) ** 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", type=int, nargs="?", default=300)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", help="features, with commas")
    parser.add_argument("--supported", action="store_true", help="leave out what is not built yet")
    args = parser.parse_args()
    only = set(args.only.split(",")) if args.only else None
    with tempfile.TemporaryDirectory(prefix="attache-differential-") as top:
        fields, without = {}, set()
        if args.supported:
            only, fields, without = supported(os.path.join(top, "probe"))
            print("left out:", *sorted({f.__name__ for f in FEATURES} - only))
        made = generate(args.number, args.seed, only)
        more, usable, also = refusals(made, os.path.join(top, "validate"))
        for field, names in sorted({**fields, **more}.items()):
            print(f"not yet: {field} ({len(names)})")
        found, _, again = differences(usable, top, without | also)
        for config, request, part, one, two in found:
            print(f"{config.name} {config.features} {request}\n  {part}:\n    ours   {one}\n    theirs {two}")
        print(f"{len(usable)} of {len(made)} configurations, {sum(len(c.requests) for c in usable)} "
              f"requests, {len({r.id for _, r, *_ in found})} of them differ; {again} played again")


if __name__ == "__main__":
    main()
