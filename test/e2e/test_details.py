"""Bugs that the differential run found: what headers and the access log say of a response."""

import time

import pytest

from harness.filters import ROUTER, http_filter
from harness.http1 import Client, ask
from harness.proxy import cluster, http_listener, static
from harness.upstream import response

from controlplane import mesh


def slow(request):
    time.sleep(1)
    return response()


def test_response_code_in_an_added_header(start, serve):
    upstream = serve(lambda request: response(201))
    route = {**mesh.route("up"), "response_headers_to_add": [
        {"header": {"key": "x-code", "value": "%RESPONSE_CODE%"}}]}
    proxy = start(static([http_listener([route])], [cluster("up", upstream)]))
    assert ask(proxy.port()).get("x-code") == "201"


def test_a_per_try_idle_timeout_is_called_so(start, serve):
    route = mesh.route("up", retry_policy={"retry_on": "retriable-4xx", "per_try_idle_timeout": "0.1s"})
    proxy = start(static([http_listener([route], log="access.log")], [cluster("up", serve(slow))]))
    assert ask(proxy.port()).status == 504
    entry, = proxy.wait_log()
    assert (entry["details"], entry["flags"]) == ("upstream_per_try_idle_timeout", "UT")


def test_a_maximal_duration_sets_no_flag(start, serve):
    route = mesh.route("up", max_stream_duration={"max_stream_duration": "0.1s"})
    proxy = start(static([http_listener([route], log="access.log")], [cluster("up", serve(slow))]))
    assert ask(proxy.port()).status == 504
    entry, = proxy.wait_log()
    assert (entry["details"], entry["flags"]) == ("max_duration_timeout", "-")


def test_an_answer_before_the_requests_end_announces_the_close(start, serve):
    proxy = start(static([http_listener([mesh.route("nowhere")])], []))
    with Client(proxy.port()) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
        answer = client.response()
        assert answer.status == 503
        assert answer.get("connection") == "close"
        assert client.is_closed()


def test_http_10_without_host_gets_the_default_one(start, serve):
    upstream = serve()
    options = {"http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "old.test"}}
    proxy = start(static([http_listener([mesh.route("up")], hcm=options)], [cluster("up", upstream)]))
    with Client(proxy.port()) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.response().status == 200
    assert upstream.requests[0].get("host") == "old.test"


# --- the cluster and the path in the log ------------------------------------------------------------
WEBSOCKET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
LOG = {"access_log": mesh.access_log("access.log", {
    "cluster": "%UPSTREAM_CLUSTER%", "details": "%RESPONSE_CODE_DETAILS%"})}


def test_an_upgrade_that_is_switched_off_tells_the_cluster(start, serve):
    proxy = start(static([http_listener([mesh.route("up")], hcm=LOG)], [cluster("up", serve())]))
    with Client(proxy.port()) as client:
        client.send(WEBSOCKET)
        assert client.response().status == 403
    entry, = proxy.wait_log()
    assert (entry["cluster"], entry["details"]) == ("up", "upgrade_failed")


@pytest.mark.parametrize("name,logged", [("up", "up"), ("nowhere", None)])
def test_a_filters_own_answer_tells_the_cluster(start, serve, name, logged):
    abort = http_filter("fault", "fault.v3.HTTPFault", abort={"http_status": 418, "percentage": {
        "numerator": 100}})
    listener = http_listener([mesh.route(name)], hcm={"http_filters": [abort, ROUTER], **LOG})
    proxy = start(static([listener], [cluster("up", serve())]))
    assert ask(proxy.port()).status == 418
    assert proxy.wait_log()[0]["cluster"] == logged


@pytest.mark.parametrize("action,status", [("REJECT_REQUEST", 400), ("UNESCAPE_AND_REDIRECT", 307)])
def test_escaped_slashes_are_logged_unescaped(start, serve, action, status):
    listener = http_listener([mesh.route("up")], log="access.log", hcm={
        "path_with_escaped_slashes_action": action, "normalize_path": False})
    proxy = start(static([listener], [cluster("up", serve())]))
    assert ask(proxy.port(), "/a%2Fb?c=%2f").status == status
    assert proxy.wait_log()[0]["path"] == "/a/b?c=%2f"


def test_a_request_without_host_is_logged_with_its_path(start, serve):
    proxy = start(static([http_listener([mesh.route("up")], log="access.log")], [cluster("up", serve())]))
    with Client(proxy.port()) as client:
        client.send(b"GET /p/q HTTP/1.1\r\n\r\n")
        assert client.response().status == 400
    entry, = proxy.wait_log()
    assert (entry["path"], entry["details"]) == ("/p/q", "missing_host_header")


# --- durations --------------------------------------------------------------------------------------
GRPC = {"content-type": "application/grpc", "te": "trailers"}


@pytest.mark.parametrize("durations,asked,told", [
    ({"max_stream_duration": "3s"}, "9S", "3000m"),
    ({"max_stream_duration": "3s"}, None, "3000m"),
    ({"max_stream_duration": "0s"}, "9S", "9S"),
    ({"grpc_timeout_header_max": "2s", "grpc_timeout_header_offset": "0.5s"}, "9S", "1500m"),
    ({"grpc_timeout_header_max": "0s"}, "99999999H", "99999999H"),
])
def test_the_server_is_told_how_long_it_has(start, serve, durations, asked, told):
    upstream = serve()
    proxy = start(static([http_listener([mesh.route("up", max_stream_duration=durations)])],
                         [cluster("up", upstream)]))
    ask(proxy.port(), method="POST", headers={**GRPC, **({"grpc-timeout": asked} if asked else {})})
    assert upstream.requests[0].get("grpc-timeout") == told


def test_only_grpc_is_told(start, serve):
    upstream = serve()
    proxy = start(static([http_listener([mesh.route("up", max_stream_duration={
        "max_stream_duration": "3s"})])], [cluster("up", upstream)]))
    ask(proxy.port(), headers={"grpc-timeout": "9S"})
    assert upstream.requests[0].get("grpc-timeout") == "9S"


def test_a_maximal_duration_is_a_deadline_for_grpc(start, serve):
    route = mesh.route("up", max_stream_duration={"max_stream_duration": "0.1s"})
    proxy = start(static([http_listener([route])], [cluster("up", serve(slow))]))
    assert ask(proxy.port(), method="POST", headers=GRPC).get("grpc-status") == "4"


def test_an_idle_try_is_hedged_too(start, serve):
    """The second try waits as well; the first one's answer is taken when it comes."""
    route = mesh.route("up", hedge_policy={"hedge_on_per_try_timeout": True}, retry_policy={
        "retry_on": "5xx", "num_retries": 1, "per_try_idle_timeout": "0.1s"})
    upstream = serve(slow)
    proxy = start(static([http_listener([route])], [cluster("up", upstream)]))
    assert ask(proxy.port()).status == 200
    assert len(upstream.requests) == 2


# --- headers ------------------------------------------------------------------------------------------
def test_metadata_of_the_route_in_a_header(start, serve):
    upstream = serve()
    route = {**mesh.route("up"), "metadata": {"filter_metadata": {"own": {"k": "v", "o": {"n": 1}}}},
             "request_headers_to_add": [
                 {"header": {"key": "x-k", "value": "%METADATA(ROUTE:own:k)%"}},
                 {"header": {"key": "x-n", "value": "%METADATA(ROUTE:own:o:n)%"}},
                 {"header": {"key": "x-none", "value": "%METADATA(ROUTE:other:k)%"}}]}
    proxy = start(static([http_listener([route])], [cluster("up", upstream)]))
    ask(proxy.port())
    request, = upstream.requests
    assert [request.get(name) for name in ("x-k", "x-n", "x-none")] == ["v", "1", None]


def test_the_redirect_to_tls_has_no_header_of_the_table(start, serve):
    listener = http_listener([mesh.route("up")])
    table = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]
    table["response_headers_to_add"] = [{"header": {"key": "x-table", "value": "1"}}]
    proxy = start(static([listener], [cluster("up", serve())]))
    assert ask(proxy.port()).get("x-table") == "1"
    table["virtual_hosts"][0]["require_tls"] = "ALL"
    proxy = start(static([listener], [cluster("up", serve())]))
    answer = ask(proxy.port())
    assert (answer.status, answer.get("x-table")) == (301, None)


@pytest.mark.parametrize("domains,status", [(["*"], 200), (["*", "other.test"], 404)])
def test_without_the_header_of_the_virtual_host(start, serve, domains, status):
    """Where there is nothing to choose the header is not asked for."""
    listener = http_listener([mesh.route("up")], domains=domains)
    listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["vhost_header"] = "x-v"
    proxy = start(static([listener], [cluster("up", serve())]))
    assert ask(proxy.port()).status == status
