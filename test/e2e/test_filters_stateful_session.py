"""stateful_session: who comes back reaches the host it was with."""

import base64
import time

import pytest

from controlplane import mesh
from harness.filters import http_filter, override, refusal, routed, start_with
from harness.http1 import ask
from harness.proxy import cluster
from harness.upstream import response

STATES = "type.googleapis.com/envoy.extensions.http.stateful_session"


def state(kind, **config):
    return {"session_state": {"name": f"envoy.http.stateful_session.{kind}", "typed_config": {
        "@type": f"{STATES}.{kind}.v3.{kind.title()}BasedSessionState", **config}}}


def session(kind, strict=False, stat_prefix="s", **config):
    return http_filter("stateful_session", "stateful_session.v3.StatefulSession",
                       **state(kind, **config), strict=strict, stat_prefix=stat_prefix)


def coded(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


def message(address, expires=b""):
    return coded(b"\x0a" + bytes([len(address)]) + address.encode() + expires)


class Run:
    def __init__(self, start, serve, config, states=(), routes=None):
        self.servers = [serve(lambda request, i=i: response(200, b"%d" % i)) for i in range(3)]
        self.addresses = [f"127.0.0.1:{server.port}" for server in self.servers]
        up = cluster("up", *self.servers)
        hosts = up["load_assignment"]["endpoints"][0]["lb_endpoints"]
        for host, health in zip(hosts, states):
            host["health_status"] = health
        self.proxy = start_with(start, None, [config], routes, clusters=[up])

    def ask(self, target="/", **headers):
        got = ask(self.proxy.port(), target,
                  headers={name.replace("_", "-"): value for name, value in headers.items()})
        got.host = int(got.body) if got.body.isdigit() else None
        return got

    def counters(self):
        prefix = "http.test.stateful_session.s."
        return {n.removeprefix(prefix): v for n, v in self.proxy.stats("stateful_session").items() if v}


def test_header(start, serve):
    run = Run(start, serve, session("header", name="X-S"))
    first = run.ask()
    assert first.get("x-s") == coded(run.addresses[first.host])
    for _ in range(5):
        again = run.ask(x_s=first.get("x-s"))
        assert again.host == first.host and again.get("x-s") is None
    for i, address in enumerate(run.addresses):
        assert run.ask(x_s=coded(address)).host == i
    assert run.counters() == {"failed_open": 1, "routed": 8}


@pytest.mark.parametrize("value", ["", "!!", coded("1.2.3.4:5"), coded("garbage"), coded(""),
                                   "127.0.0.1:80", coded("127.0.0.1"), coded("x" * 5000)])
def test_header_that_names_no_host(start, serve, value):
    run = Run(start, serve, session("header", name="x-s"))
    got = run.ask(x_s=value)
    assert got.get("x-s") == coded(run.addresses[got.host])
    assert run.counters() == {"failed_open": 1}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("health,kept", [("HEALTHY", True), ("DEGRADED", True), ("UNHEALTHY", False),
                                         ("DRAINING", False), ("TIMEOUT", False)])
def test_health_of_the_host(start, serve, strict, health, kept):
    run = Run(start, serve, session("header", strict, name="x-s"), ["HEALTHY", health, "HEALTHY"])
    got = run.ask(x_s=coded(run.addresses[1]))
    if kept:
        assert got.host == 1 and got.get("x-s") is None
    elif strict:
        assert (got.status, got.body) == (503, b"no healthy upstream")
        line = run.proxy.wait_log(1)[0]
        assert (line["flags"], line["details"]) == ("UH", "no_healthy_upstream")
    else:
        assert got.host in (0, 2) and got.get("x-s") == coded(run.addresses[got.host])
    assert run.counters() == {"routed" if kept else "failed_closed" if strict else "failed_open": 1}


def test_strict_without_a_session(start, serve):
    run = Run(start, serve, session("header", True, name="x-s"))
    assert run.ask().status == 200
    assert run.ask(x_s="!!").status == 200
    assert run.ask(x_s=coded("1.2.3.4:5")).status == 503


def test_cookie(start, serve):
    run = Run(start, serve, session("cookie", cookie={"name": "c"}))
    first = run.ask()
    value = message(run.addresses[first.host])
    assert first.get("set-cookie") == f'c="{value}"; HttpOnly'
    for cookie in (f'c="{value}"', f"a=b; c={value}"):
        again = run.ask(cookie=cookie)
        assert again.host == first.host and again.get("set-cookie") is None
    for i, address in enumerate(run.addresses):
        assert run.ask(cookie=f"c={coded(address)}").host == i  # the older form
        assert run.ask(cookie=f"c={message(address, b'%c%c%c%c' % (16, 0xff, 0xff, 1))}").get(
            "set-cookie") is not None  # 1970
    assert run.counters()["routed"] == 5


def test_cookie_with_everything(start, serve):
    run = Run(start, serve, session("cookie", cookie={
        "name": "c", "ttl": "120s", "path": "/p",
        "attributes": [{"name": "SameSite", "value": "Strict"}, {"name": "Secure"}]}))
    before = int(time.time())
    first = run.ask("/p/x")
    value, rest = first.get("set-cookie").split('"; ', 1)
    assert rest == "Max-Age=120; Path=/p; SameSite=Strict; Secure; HttpOnly"
    data = base64.b64decode(value.removeprefix('c="'))
    address = run.addresses[first.host].encode()
    assert data.startswith(b"\x0a" + bytes([len(address)]) + address + b"\x10")
    expires = sum((byte & 0x7f) << 7 * i for i, byte in enumerate(data[len(address) + 3:]))
    assert before + 119 <= expires <= time.time() + 121
    for target in ("/p", "/p/x", "/p?q", "/p/"):
        again = run.ask(target, cookie=value + '"')
        assert again.host == first.host and again.get("set-cookie") is None
    for target in ("/pp", "/", "/P"):
        assert run.ask(target).get("set-cookie") is None
    assert run.counters() == {"failed_open": 1, "routed": 4, "no_session": 3}


def test_routes(start, serve):
    over = "stateful_session.v3.StatefulSessionPerRoute"
    run = Run(start, serve, session("header", name="x-s"), routes=[
        routed("/off", override("stateful_session", over, disabled=True)),
        routed("/own", override("stateful_session", over,
                                stateful_session=state("header", name="x-own"))),
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 201}}, mesh.route("up")])
    assert run.ask("/off").get("x-s") is None
    own = run.ask("/own")
    assert own.get("x-s") is None and own.get("x-own") == coded(run.addresses[own.host])
    assert run.ask("/direct").get("x-s") is None
    assert run.ask("/").get("x-s") is not None


@pytest.mark.parametrize("config", [
    session("cookie"), session("cookie", cookie={"name": ""}), session("header", name=""),
    session("cookie", cookie={"name": "c", "ttl": "-1s"}),
    http_filter("stateful_session", "stateful_session.v3.StatefulSession", session_state={
        "name": "x", "typed_config": {"@type": f"{STATES}.none.v3.None"}}),
])
def test_refused(binary, tmp_path, config):
    assert refusal(binary, tmp_path, [config])
