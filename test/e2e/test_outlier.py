"""Outlier detection: who is an outlier, what is counted and what is told of it."""

import pytest
from controlplane import mesh
from harness.http1 import ask
from harness.proxy import cluster, http_listener, static
from harness.upstream import response

OFF = {"consecutive_5xx": 1000, "consecutive_gateway_failure": 1000, "interval": "1s",
       "base_ejection_time": "1s", "max_ejection_percent": 60, "enforcing_success_rate": 0,
       "success_rate_minimum_hosts": 3, "success_rate_request_volume": 5,
       "success_rate_stdev_factor": 1000, "failure_percentage_minimum_hosts": 3,
       "failure_percentage_request_volume": 5, "failure_percentage_threshold": 50}


@pytest.fixture
def six(serve):
    """Six servers of which the first answers 500."""
    servers = [serve(name=str(i)) for i in range(6)]
    servers[0].answer = lambda r: response(500)
    return servers


def begin(start, servers, name="events.log", **detection):
    boot = static([http_listener([mesh.route("up")])],
                  [cluster("up", *servers, outlier_detection={**OFF, **detection},
                           common_lb_config={"healthy_panic_threshold": {"value": 0}})])
    boot["cluster_manager"] = {"outlier_detection": {"event_log_path": name}}
    return start(boot)


def stats(proxy):
    prefix = "cluster.up.outlier_detection."
    return {name[len(prefix):]: value
            for name, value in proxy.stats("^cluster.up.outlier_detection").items() if value}


def drive(proxy, wanted):
    """Requests until a statistic is there: the interval may end in the middle of them."""
    port = proxy.port()

    def step():
        for _ in range(90):
            ask(port)
        return proxy.stat(f"cluster.up.outlier_detection.{wanted}") > 0
    proxy.wait(step, 30, wanted)


def flags(proxy, server):
    start = f"up::127.0.0.1:{server.port}::health_flags::"
    return next(line[len(start):] for line in proxy.admin("/clusters")[1].splitlines()
                if line.startswith(start))


def test_consecutive_failures(start, six):
    proxy = begin(start, six, consecutive_5xx=3)
    for _ in range(40):
        ask(proxy.port())
    proxy.wait(lambda: flags(proxy, six[0]) == "/failed_outlier_check", 10, "an ejection")
    counts = stats(proxy)
    assert {name: counts.get(name) for name in (
        "ejections_total", "ejections_enforced_total", "ejections_consecutive_5xx",
        "ejections_detected_consecutive_5xx", "ejections_enforced_consecutive_5xx")} == {
        "ejections_total": 1, "ejections_enforced_total": 1, "ejections_consecutive_5xx": 1,
        "ejections_detected_consecutive_5xx": 1, "ejections_enforced_consecutive_5xx": 1}
    proxy.wait(lambda: flags(proxy, six[0]) == "healthy", 10, "its return")
    assert "ejections_active" not in stats(proxy)
    out, back = proxy.wait_log(2, "events.log")[:2]
    out.pop("timestamp")
    assert out == {"type": "CONSECUTIVE_5XX", "cluster_name": "up", "action": "EJECT",
                   "upstream_url": f"127.0.0.1:{six[0].port}", "num_ejections": 1,
                   "enforced": True, "eject_consecutive_event": {}}
    assert back.pop("timestamp") and int(back.pop("secs_since_last_action")) >= 1
    assert back == {"type": "CONSECUTIVE_5XX", "cluster_name": "up", "action": "UNEJECT",
                    "upstream_url": f"127.0.0.1:{six[0].port}", "num_ejections": 1,
                    "enforced": False}


def test_success_rate(start, six):
    proxy = begin(start, six, enforcing_success_rate=100, failure_percentage_threshold=100,
                  failure_percentage_request_volume=100000)
    drive(proxy, "ejections_enforced_success_rate")
    counts = stats(proxy)
    assert counts["ejections_success_rate"] >= 1 and counts["ejections_detected_success_rate"] >= 1
    assert "ejections_detected_failure_percentage" not in counts
    event = proxy.wait_log(1, "events.log")[0]
    assert (event["type"], event["enforced"]) == ("SUCCESS_RATE", True)
    assert event["eject_success_rate_event"] == {
        "host_success_rate": 0, "cluster_average_success_rate": 83,
        "cluster_success_rate_ejection_threshold": 46}


def test_failure_percentage(start, six):
    proxy = begin(start, six, enforcing_failure_percentage=100)
    drive(proxy, "ejections_enforced_failure_percentage")
    assert stats(proxy)["ejections_detected_failure_percentage"] >= 1
    by_type = {e["type"]: e for e in proxy.wait_log(2, "events.log")[:2]}
    assert by_type["SUCCESS_RATE"]["enforced"] is False
    assert by_type["SUCCESS_RATE"]["num_ejections"] == 0
    assert by_type["FAILURE_PERCENTAGE"]["eject_failure_percentage_event"] == {
        "host_success_rate": 0}


def test_rates_in_clusters(start, six):
    proxy = begin(start, six)
    lines = set()

    def step():
        for _ in range(60):
            ask(proxy.port())
        lines.update(proxy.admin("/clusters")[1].splitlines())
        return "up::outlier::success_rate_average::83.3333" in lines
    proxy.wait(step, 30, "rates")
    assert "up::outlier::success_rate_ejection_threshold::46.0655" in lines
    assert f"up::127.0.0.1:{six[0].port}::success_rate::0" in lines
    assert f"up::127.0.0.1:{six[1].port}::success_rate::100" in lines


def test_hosts_that_cannot_be_reached(start, six):
    six[1].close()
    proxy = begin(start, six, split_external_local_origin_errors=True)
    for _ in range(60):
        ask(proxy.port())
    proxy.wait_stat("cluster.up.outlier_detection."
                    "ejections_enforced_consecutive_local_origin_failure")
    assert flags(proxy, six[0]) == "healthy"
    assert proxy.wait_log(1, "events.log")[0]["type"] == "CONSECUTIVE_LOCAL_ORIGIN_FAILURE"


def test_connection_failures_are_failures(start, six):
    """They were not counted at all."""
    six[1].close()
    proxy = begin(start, six[1:], consecutive_5xx=4)
    for _ in range(60):
        ask(proxy.port())
    proxy.wait_stat("cluster.up.outlier_detection.ejections_enforced_consecutive_5xx")


def test_share_that_may_be_ejected(start, six):
    for server in six:
        server.answer = lambda r: response(500)
    proxy = begin(start, six, consecutive_5xx=2, max_ejection_percent=34,
                  base_ejection_time="100s")
    for _ in range(80):
        ask(proxy.port())
    proxy.wait_stat("cluster.up.outlier_detection.ejections_overflow")
    assert stats(proxy)["ejections_active"] == 2


def test_health_check_ends_an_ejection(start, six):
    six[0].answer = lambda r: response(200 if r.start[1] == "/hc" else 500)
    check = {"timeout": "2s", "interval": "0.1s", "no_traffic_interval": "0.1s",
             "unhealthy_threshold": 1, "healthy_threshold": 1, "http_health_check": {"path": "/hc"}}
    boot = static([http_listener([mesh.route("up")])],
                  [cluster("up", *six, health_checks=[check], outlier_detection={
                      **OFF, "consecutive_5xx": 3, "base_ejection_time": "300s"})])
    proxy = start(boot)
    for _ in range(40):
        ask(proxy.port())
    proxy.wait_stat("cluster.up.outlier_detection.ejections_enforced_total")
    proxy.wait(lambda: flags(proxy, six[0]) == "healthy", 10, "its return")
