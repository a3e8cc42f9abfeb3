"""request_mirror_policies: copies of requests, for the sake of who gets them alone."""

import pytest

from controlplane import mesh
from harness.filters import refusal
from harness.http1 import ask
from harness.proxy import cluster, http_listener, static


def mirrored(start, serve, policies, to=None, vhost=None, table=None, breakers=None):
    up, shadow = serve(), serve(name="shadow")
    listener = http_listener([mesh.route("up", request_mirror_policies=policies, timeout="5s")],
                             log="access.log")
    config = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]
    config["virtual_hosts"][0].update(vhost or {})
    config.update(table or {})
    more = {"circuit_breakers": breakers} if breakers else {}
    proxy = start(static([listener], [cluster("up", up), cluster("shadow", to or shadow, **more)]))
    return proxy, up, shadow


def test_copy_is_sent(start, serve):
    proxy, up, shadow = mirrored(start, serve, [{"cluster": "shadow"}])
    body = b"b" * 5000
    answer = ask(proxy.port(), "/p?q", "POST", {"X-A": "1"}, body, host="h.com:81")
    assert (answer.status, answer.body) == (200, b"upstream")
    proxy.wait(lambda: shadow.requests, what="the copy")
    copy = shadow.requests[0]
    assert (copy.method, copy.target, copy.body, copy.get("x-a")) == ("POST", "/p?q", body, "1")
    assert copy.get("host") == "h.com-shadow:81" and copy.get("x-envoy-internal") == "true"
    assert up.requests[0].get("host") == "h.com:81"
    proxy.wait_stat("cluster.shadow.internal.upstream_rq_200")
    assert len(proxy.wait_log()) == 1  # of the request alone


def test_host_as_it_was(start, serve):
    proxy, _, shadow = mirrored(start, serve, [
        {"cluster": "shadow", "disable_shadow_host_suffix_append": True}])
    ask(proxy.port(), host="h.com")
    proxy.wait(lambda: shadow.requests, what="the copy")
    assert shadow.requests[0].get("host") == "h.com"


def test_host_of_its_own(start, serve):
    proxy, up, shadow = mirrored(start, serve, [
        {"cluster": "shadow", "host_rewrite_literal": "copies.test"}])
    ask(proxy.port(), host="h.com")
    proxy.wait(lambda: shadow.requests, what="the copy")
    assert shadow.requests[0].get("host") == "copies.test"
    assert up.requests[0].get("host") == "h.com"


def test_headers_of_its_own(start, serve):
    proxy, up, shadow = mirrored(start, serve, [{"cluster": "shadow", "request_headers_mutations": [
        {"append": {"header": {"key": "x-new", "value": "%REQ(:METHOD)%"}}}, {"remove": "x-gone"},
        {"remove_on_match": {"key_matcher": {"prefix": "x-some"}}}]}])
    ask(proxy.port(), headers={"x-gone": "1", "x-something": "2", "x-kept": "3"})
    proxy.wait(lambda: shadow.requests, what="the copy")
    names = ("x-new", "x-gone", "x-something", "x-kept")
    assert [shadow.requests[0].get(name) for name in names] == ["GET", None, None, "3"]
    assert [up.requests[0].get(name) for name in names] == [None, "1", "2", "3"]


def test_the_time_of_a_copy_is_the_whole_timeout(start, serve):
    proxy, up, shadow = mirrored(start, serve, [{"cluster": "shadow"}], vhost={
        "retry_policy": {"retry_on": "5xx", "per_try_timeout": "2s"}})
    ask(proxy.port())
    proxy.wait(lambda: shadow.requests, what="the copy")
    assert up.requests[0].get("x-envoy-expected-rq-timeout-ms") == "2000"
    assert shadow.requests[0].get("x-envoy-expected-rq-timeout-ms") == "5000"


def test_headers_refused(binary, tmp_path):
    route = mesh.route("up", request_mirror_policies=[{"cluster": "up", "request_headers_mutations": [
        {"append": {"header": {"key": ":path", "value": "/"}}}, {"remove": "host"}]}])
    text = refusal(binary, tmp_path, [], [route])
    field = "request_mirror_policies[0].request_headers_mutations"
    assert binary[1] or f"{field}[0].append.header.key: " in text and f"{field}[1].remove: " in text


@pytest.mark.parametrize("name,copies", [("shadow", 1), ("unknown", 0), (None, 0)])
def test_cluster_from_a_header(start, serve, name, copies):
    proxy, _, shadow = mirrored(start, serve, [{"cluster_header": "x-to"}])
    assert ask(proxy.port(), headers={"x-to": name} if name else {}).status == 200
    if copies:
        proxy.wait(lambda: shadow.requests, what="the copy")
    assert len(shadow.requests) == copies


@pytest.mark.parametrize("numerator,low,high", [(0, 0, 0), (100, 60, 60), (50, 10, 50)])
def test_fraction(start, serve, numerator, low, high):
    proxy, _, shadow = mirrored(start, serve, [{"cluster": "shadow", "runtime_fraction": {
        "default_value": {"numerator": numerator, "denominator": "HUNDRED"}}}])
    for _ in range(60):
        ask(proxy.port())
    proxy.wait(lambda: low <= len(shadow.requests) <= high, what="the copies")


@pytest.mark.parametrize("level", ["vhost", "table"])
def test_of_the_levels_above(start, serve, level):
    proxy, _, shadow = mirrored(start, serve, [], **{
        level: {"request_mirror_policies": [{"cluster": "shadow"}]}})
    ask(proxy.port())
    proxy.wait(lambda: len(shadow.requests) == 1, what="the copy")


def test_several(start, serve):
    proxy, _, shadow = mirrored(start, serve, [{"cluster": "shadow"}] * 3)
    ask(proxy.port())
    proxy.wait(lambda: len(shadow.requests) == 3, what="three copies")


def test_failure_disturbs_nobody(start, serve):
    proxy, _, _ = mirrored(start, serve, [{"cluster": "shadow"}], to=("127.0.0.1", 1))
    for _ in range(5):
        assert ask(proxy.port()).status == 200
    proxy.wait_stat("cluster.shadow.upstream_rq_503", 5)
    assert [e["flags"] for e in proxy.wait_log(5)] == ["-"] * 5


def test_answer_that_never_comes(start, serve):
    """The copy is given up by the route's timeout, or when the proxy ends."""
    silent = serve(handle=lambda sock: sock.recv(1) and sock.recv(65536) and sock.recv(65536))
    proxy, _, _ = mirrored(start, serve, [{"cluster": "shadow"}], to=silent)
    assert ask(proxy.port()).status == 200
    proxy.wait(lambda: silent.connections == 1, what="the copy")


def test_response_is_dropped_whatever_it_is(start, serve):
    from harness.upstream import response
    large = serve(lambda r: response(body=b"x" * 500000))
    proxy, _, _ = mirrored(start, serve, [{"cluster": "shadow"}], to=large)
    for _ in range(3):
        assert ask(proxy.port()).body == b"upstream"
    proxy.wait_stat("cluster.shadow.upstream_rq_200", 3)


def test_body_beyond_the_limit_is_not_copied(start, serve):
    """Envoy streams it to the mirror without a limit: see docs/differences.md."""
    proxy, up, shadow = mirrored(start, serve, [{"cluster": "shadow"}],
                                 vhost={"per_request_buffer_limit_bytes": 1000})
    assert ask(proxy.port(), method="POST", body=b"b" * 5000).status == 200
    assert len(up.requests[0].body) == 5000
    if not proxy.is_envoy:
        assert shadow.requests == []
        assert proxy.stat("cluster.up.retry_or_shadow_abandoned") == 1


@pytest.mark.parametrize("policy", [{}, {"cluster": "shadow", "cluster_header": "x"}])
def test_one_of_the_two_is_needed(start, serve, policy):
    with pytest.raises(AssertionError):
        mirrored(start, serve, [policy])
