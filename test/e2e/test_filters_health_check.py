"""health_check: checks answered by the proxy, passed through, cached, and by the health of clusters."""

import pytest

from controlplane import mesh, xds
from harness.filters import http_filter, refusal, start_with
from harness.http1 import Client, ask
from harness.proxy import cluster
from harness.upstream import response

PATH = [{"name": ":path", "string_match": {"exact": "/hc"}}]


def health_check(**config):
    return http_filter("health_check", "health_check.v3.HealthCheck", headers=PATH, **config)


def outcome(proxy, number):
    line = proxy.wait_log(number)[-1]
    return line["flags"], line["details"]


def counters(proxy):
    prefix = "http.test.health_check."
    return {n.removeprefix(prefix): v for n, v in proxy.stats("test.health_check").items()
            if v and n.startswith(prefix)}


def test_answered_here(start, serve):
    upstream = serve()
    proxy = start_with(start, upstream, [health_check(pass_through_mode=False)])
    got = ask(proxy.port(), "/hc")
    assert got.status == 200 and got.body == b""
    assert got.get("x-envoy-upstream-healthchecked-cluster") == "test"
    assert outcome(proxy, 1) == ("-", "health_check_ok")
    assert ask(proxy.port(), "/hc", "POST", body=b"x" * 100).status == 200
    assert not upstream.requests
    assert ask(proxy.port(), "/other").get("x-envoy-upstream-healthchecked-cluster") is None
    assert len(upstream.requests) == 1
    assert counters(proxy) == {"request_total": 2, "ok": 2}


@pytest.mark.parametrize("pass_through", [False, True])
def test_admin_makes_it_fail(start, serve, pass_through):
    upstream = serve()
    proxy = start_with(start, upstream, [health_check(pass_through_mode=pass_through)])
    proxy.admin("/healthcheck/fail", "POST")
    got = ask(proxy.port(), "/hc")
    assert got.status == 503 and not upstream.requests
    assert got.get("x-envoy-immediate-health-check-fail") == "true"
    assert outcome(proxy, 1) == ("LH", "health_check_failed")
    other = ask(proxy.port(), "/other")
    assert (other.status, other.get("x-envoy-immediate-health-check-fail")) == (200, "true")
    proxy.admin("/healthcheck/ok", "POST")
    got = ask(proxy.port(), "/hc")
    assert got.status == 200 and got.get("x-envoy-immediate-health-check-fail") is None
    assert counters(proxy)["failed"] == 1


def test_passed_through(start, serve):
    upstream = serve(lambda request: response(503, b"body"))
    proxy = start_with(start, upstream, [health_check(pass_through_mode=True)])
    for _ in range(2):
        got = ask(proxy.port(), "/hc")
        assert (got.status, got.body) == (503, b"body")
        assert got.get("x-envoy-upstream-healthchecked-cluster") == "test"
    assert len(upstream.requests) == 2
    assert counters(proxy) == {}


@pytest.mark.parametrize("status,stat,flag", [(200, "ok", "-"), (404, "failed", "LH")])
def test_cached(start, serve, status, stat, flag):
    upstream = serve(lambda request: response(status, b"body", {"x-envoy-degraded": "1"}))
    proxy = start_with(start, upstream, [health_check(pass_through_mode=True, cache_time="300s")])
    assert ask(proxy.port(), "/hc").body == b"body"
    for _ in range(3):
        got = ask(proxy.port(), "/hc")
        assert (got.status, got.body, got.get("x-envoy-degraded")) == (status, b"", "")
    assert len(upstream.requests) == 1
    assert outcome(proxy, 4) == (flag, "health_check_cached")
    assert counters(proxy) == {"cached_response": 3, "degraded": 3, "request_total": 3, stat: 3}
    assert ask(proxy.port(), "/other").status == status
    assert len(upstream.requests) == 2


def test_cache_runs_out(start, serve):
    upstream = serve()
    proxy = start_with(start, upstream, [health_check(pass_through_mode=True, cache_time="0.05s")])

    def twice():
        ask(proxy.port(), "/hc")
        return len(upstream.requests) >= 2
    proxy.wait(twice, what="a second check upstream")


@pytest.mark.parametrize("per_cent,states,details,stat", [
    (50, ["HEALTHY", "UNHEALTHY"], "health_check_ok_cluster_healthy", None),
    (51, ["HEALTHY", "UNHEALTHY"], "health_check_failed_cluster_unhealthy",
     "failed_cluster_unhealthy"),
    (100, ["HEALTHY", "DEGRADED"], "health_check_ok_cluster_healthy", None),
    (0, [], "health_check_ok_cluster_healthy", None),
    (1, [], "health_check_failed_cluster_empty", "failed_cluster_empty"),
    (0, None, "health_check_failed_no_cluster_found", "failed_cluster_not_found"),
])
def test_health_of_a_cluster(start, serve, per_cent, states, details, stat):
    upstream = serve()
    hosts = [{"endpoint": {"address": xds.socket_address(f"127.0.0.{i + 1}", upstream.port)},
              "health_status": s} for i, s in enumerate(states or [])]
    other = {"name": "c" if states is not None else "d", "type": "STATIC", "connect_timeout": "1s",
             "load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": hosts}]}}
    proxy = start_with(start, upstream, [health_check(
        pass_through_mode=False, cluster_min_healthy_percentages={"c": {"value": per_cent}})],
        clusters=[cluster("up", upstream), other])
    assert ask(proxy.port(), "/hc").status == (503 if stat else 200)
    assert outcome(proxy, 1) == ("LH" if stat else "-", details)
    assert counters(proxy) == {"request_total": 1, **({"failed": 1, stat: 1} if stat else {"ok": 1})}


def test_not_in_a_log_without_health_checks(start, serve):
    log = {"name": "file", "filter": {"not_health_check_filter": {}}, "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": "filtered.log", "log_format": {"json_format": {"path": "%REQ(:path)%"}}}}
    proxy = start_with(start, serve(), [health_check(pass_through_mode=False)],
                       hcm={"access_log": [log]})
    with Client(proxy.port()) as client:
        for path in ("/hc", "/other", "/hc", "/last"):
            assert client.ask(target=path).status == 200
    assert [e["path"] for e in proxy.wait_log(2, "filtered.log")] == ["/other", "/last"]


@pytest.mark.parametrize("config", [{}, {"pass_through_mode": False, "cache_time": "1s"}])
def test_refused(binary, tmp_path, config):
    assert refusal(binary, tmp_path, [health_check(**config)])
