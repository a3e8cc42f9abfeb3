"""The filters that hold load back: bandwidth_limit and admission_control."""

import time

import pytest

from controlplane import mesh
from harness.http1 import Client, ask
from harness.proxy import cluster, http_listener, static
from harness.upstream import response

TYPES = "type.googleapis.com/envoy.extensions.filters.http"
ROUTER = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.router.v3.Router"}}
BANDWIDTH = "envoy.filters.http.bandwidth_limit"


def run(start, serve, filters, answer, route_more=None, **more):
    upstream = serve(answer)
    routes = [{**mesh.route("up", prefix="/own"), **(route_more or {})}, mesh.route("up")]
    return start(static([http_listener(routes, log="access.log", hcm={
        "http_filters": [*filters, ROUTER],
        "http_protocol_options": {"enable_trailers": True}})],
        [cluster("up", upstream)]), **more), upstream


# --- bandwidth_limit ------------------------------------------------------------------------------
def limit(**fields):
    return {"@type": f"{TYPES}.bandwidth_limit.v3.BandwidthLimit", "stat_prefix": "bw", **fields}


def bandwidth(**fields):
    return {"name": BANDWIDTH, "typed_config": limit(**fields)}


def seconds(proxy, body=b"", path="/"):
    begin = time.monotonic()
    answer = ask(proxy.port(), path, method="POST", body=body, timeout=30)
    assert answer.status == 200
    return time.monotonic() - begin, answer


def test_response_takes_its_time(start, serve):
    body = b"x" * 61440
    proxy, _ = run(start, serve, [bandwidth(limit_kbps=40, enable_mode="RESPONSE")],
                   lambda rq: response(200, body))
    took, answer = seconds(proxy, b"y" * 61440)
    assert answer.body == body
    assert took >= 1.3  # 60 KiB at 40 a second, and a fiftieth of a second is there at once
    stats = proxy.stats("bw.http_bandwidth_limit")
    name = "bw.http_bandwidth_limit."
    assert stats[name + "response_enabled"] == 1 and stats[name + "request_enabled"] == 0
    assert stats[name + "response_incoming_total_size"] == 61440
    assert stats[name + "response_allowed_total_size"] == 61440
    assert stats[name + "response_enforced"] > 3
    assert stats[name + "response_pending"] == 0


def test_request_takes_its_time(start, serve):
    body = b"x" * 61440
    proxy, upstream = run(start, serve, [bandwidth(limit_kbps=40, enable_mode="REQUEST")],
                          lambda rq: response(200, b"y" * 61440))
    assert seconds(proxy, body)[0] >= 1.3
    assert upstream.requests[0].body == body


def test_streams_share_the_bucket(start, serve):
    proxy, _ = run(start, serve, [bandwidth(limit_kbps=60, enable_mode="RESPONSE")],
                   lambda rq: response(200, b"x" * 61440))
    with Client(proxy.port(), timeout=30) as one, Client(proxy.port(), timeout=30) as two:
        begin = time.monotonic()
        for client in (one, two):
            client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert len(one.response().body) + len(two.response().body) == 122880
        assert time.monotonic() - begin >= 1.7


def test_route_has_its_own_limit(start, serve):
    more = {"typed_per_filter_config": {BANDWIDTH: limit(
        stat_prefix="own", limit_kbps=10240, enable_mode="RESPONSE")}}
    proxy, _ = run(start, serve, [bandwidth(limit_kbps=1, enable_mode="RESPONSE")],
                   lambda rq: response(200, b"x" * 30000), more)
    assert len(ask(proxy.port(), "/own").body) == 30000
    assert proxy.stat("own.http_bandwidth_limit.response_allowed_total_size") == 30000
    assert proxy.stat("bw.http_bandwidth_limit.response_enabled") == 0


def test_delays_in_trailers(start, serve):
    chunked = (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7530\r\n" + b"x" * 0x7530 +
               b"\r\n0\r\n\r\n")
    proxy, _ = run(start, serve, [bandwidth(
        limit_kbps=60, enable_mode="REQUEST_AND_RESPONSE", enable_response_trailers=True,
        response_trailer_prefix="pre")], lambda rq: chunked)
    trailers = {name: int(value) for name, value in seconds(proxy, b"y" * 30000)[1].trailers}
    assert set(trailers) == {f"pre-bandwidth-{way}-{what}-ms" for way in ("request", "response")
                             for what in ("delay", "filter-delay")}
    assert trailers["pre-bandwidth-response-delay-ms"] >= 200
    assert trailers["pre-bandwidth-request-filter-delay-ms"] % 50 == 0


def test_disabled_bandwidth(start, serve):
    proxy, _ = run(start, serve, [bandwidth(limit_kbps=1)], lambda rq: response(200, b"x" * 30000))
    assert len(ask(proxy.port()).body) == 30000


# --- admission_control ----------------------------------------------------------------------------
def admission(**fields):
    return {"name": "envoy.filters.http.admission_control", "typed_config": {
        "@type": f"{TYPES}.admission_control.v3.AdmissionControl", "success_criteria": {},
        **fields}}


def value(default):
    return {"default_value": default, "runtime_key": "x"}


def statuses(proxy, number=200, headers=()):
    with Client(proxy.port(), timeout=30) as client:
        return [client.ask(headers=headers).status for _ in range(number)]


def test_failures_turn_requests_away(start, serve):
    proxy, upstream = run(start, serve, [admission(max_rejection_probability=value({"value": 90}))],
                          lambda rq: response(500))
    got = statuses(proxy)
    rejected = got.count(503)
    assert 100 <= rejected < 200 and rejected + got.count(500) == 200
    assert len(upstream.requests) == 200 - rejected
    assert proxy.stats("admission_control") == {
        "http.test.admission_control.rq_rejected": rejected,
        "http.test.admission_control.rq_failure": 200 - rejected,
        "http.test.admission_control.rq_success": 0}
    line = [entry for entry in proxy.wait_log(200) if entry["code"] == 503][0]
    assert line["details"] == "denied_by_admission_control"


@pytest.mark.parametrize("fields,status,rejects", [
    ({}, 499, False),
    ({}, 200, False),
    ({"success_criteria": {"http_criteria": {"http_success_status": [{"start": 200, "end": 300}]}}},
     404, True),
    ({"success_criteria": {"http_criteria": {"http_success_status": [{"start": 500, "end": 600}]}}},
     500, False),
    ({"enabled": value(False)}, 500, False),
    ({"rps_threshold": value(100000)}, 500, False),
    ({"max_rejection_probability": value({"value": 0})}, 500, False),
])
def test_what_counts_as_failure(start, serve, fields, status, rejects):
    proxy, _ = run(start, serve, [admission(**fields)], lambda rq: response(status))
    got = statuses(proxy, 100)
    assert (got.count(503) > 20) == rejects
    assert got.count(status) == 100 - got.count(503)


@pytest.mark.parametrize("code,fields,rejects", [
    ("14", {}, True), ("0", {}, False), ("5", {}, False),
    ("5", {"success_criteria": {"grpc_criteria": {"grpc_success_status": [0]}}}, True),
])
def test_grpc_outcomes(start, serve, code, fields, rejects):
    proxy, _ = run(start, serve, [admission(**fields)], lambda rq: response(
        200, b"", {"content-type": "application/grpc", "grpc-status": code}))
    statuses(proxy, 100)
    assert (proxy.stat("http.test.admission_control.rq_rejected") > 20) == rejects
