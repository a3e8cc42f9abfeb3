"""Bugs that the differential run found: what headers and the access log say of a response."""

import time

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
