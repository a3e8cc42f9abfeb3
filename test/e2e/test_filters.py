"""HTTP filters as such: their order, disabling them, what routes say of them; and the small ones."""

import pytest

from controlplane import mesh
from harness.http1 import Client, ask
from harness.proxy import cluster, http_listener, static
from harness.upstream import response

FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
ROUTER = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{FILTERS}.router.v3.Router"}}
BUFFER = "envoy.filters.http.buffer"


def buffer(limit, **more):
    return {"name": BUFFER, "typed_config": {"@type": f"{FILTERS}.buffer.v3.Buffer",
                                             "max_request_bytes": limit}, **more}


def buffer_route(**config):
    return {BUFFER: {"@type": f"{FILTERS}.buffer.v3.BufferPerRoute", **config}}


def disabled(value=True):
    return {BUFFER: {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
                     "disabled": value, "config": {}}}


def run(start, serve, filters, route_more=None, answer=None):
    upstream = serve(answer or (lambda request: response(200, request.body)))
    routes = [{**mesh.route("up", prefix="/own"), **(route_more or {})}, mesh.route("up")]
    proxy = start(static([http_listener(routes, log="access.log",
                                        hcm={"http_filters": [*filters, ROUTER]})],
                         [cluster("up", upstream)]))
    return proxy, upstream


def post(proxy, path="/", body=b"", chunks=()):
    with Client(proxy.port()) as client:
        if chunks:
            client.send(b"POST %b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
                        % path.encode())
            for chunk in chunks:
                client.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            client.send(b"0\r\n\r\n")
        else:
            client.send(b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b"
                        % (path.encode(), len(body), body))
        return client.response()


def test_buffer_gives_a_length(start, serve):
    proxy, upstream = run(start, serve, [buffer(1000)])
    assert post(proxy, chunks=[b"abc", b"defg"]).body == b"abcdefg"
    assert upstream.requests[0].get("content-length") == "7"
    assert upstream.requests[0].get("transfer-encoding") is None


def test_buffer_too_large(start, serve):
    proxy, upstream = run(start, serve, [buffer(10)])
    assert post(proxy, body=b"x" * 10).status == 200
    refused = post(proxy, body=b"x" * 11)
    assert (refused.status, refused.body) == (413, b"Payload Too Large")
    assert len(upstream.requests) == 1
    line = [entry for entry in proxy.wait_log(2) if entry["code"] == 413][0]
    assert line["details"] == "request_payload_too_large"


@pytest.mark.parametrize("override,status", [
    (buffer_route(buffer={"max_request_bytes": 20}), 200),
    (buffer_route(disabled=True), 200),
    (disabled(), 200),
    (buffer_route(buffer={"max_request_bytes": 5}), 413),
])
def test_route_overrides(start, serve, override, status):
    proxy, _ = run(start, serve, [buffer(10)], {"typed_per_filter_config": override})
    assert post(proxy, "/own", b"x" * 15).status == status
    assert post(proxy, "/", b"x" * 15).status == 413


def test_disabled_unless_a_route_says_so(start, serve):
    proxy, _ = run(start, serve, [buffer(10, disabled=True)],
                   {"typed_per_filter_config": buffer_route(buffer={"max_request_bytes": 12})})
    assert post(proxy, "/", b"x" * 15).status == 200
    assert post(proxy, "/own", b"x" * 15).status == 413
    assert post(proxy, "/own", b"x" * 11).status == 200


def test_direct_response_passes_the_filters(start, serve):
    direct = {"match": {"prefix": "/direct"}, "direct_response": {"status": 204}}
    upstream = serve()
    proxy = start(static([http_listener([direct], hcm={"http_filters": [buffer(10), ROUTER]})],
                         [cluster("up", upstream)]))
    assert ask(proxy.port(), "/direct").status == 204
    assert post(proxy, "/direct", b"x" * 11).status == 413
