"""header_mutation: heads, trailers and query parameters, in order, at every level."""

import pytest

from controlplane import mesh
from harness.filters import http_filter, override, refusal, routed, start_with
from harness.http1 import Client, ask
from harness.proxy import cluster
from harness.upstream import response

MESSAGE = "header_mutation.v3.HeaderMutation"


def mutation(**mutations):
    return http_filter("header_mutation", MESSAGE, mutations=mutations)


def put(key, value, action=None, **more):
    return {"append": {"header": {"key": key, "value": value},
                       **({"append_action": action} if action else {}), **more}}


def query(key, value, action=None):
    return {"append": {"record": {"key": key, "value": value},
                       **({"action": action} if action else {})}}


def per_route(**mutations):
    return override("header_mutation", MESSAGE + "PerRoute", mutations=mutations)


def values(message, name):
    return [v for n, v in message.headers if n == name]


IF_ABSENT, OVERWRITE, IF_EXISTS = ("ADD_IF_ABSENT", "OVERWRITE_IF_EXISTS_OR_ADD",
                                   "OVERWRITE_IF_EXISTS")


@pytest.mark.parametrize("mutations,want", [
    ([put("X-T", "n")], ["1", "2", "n"]),
    ([put("x-t", "n", IF_ABSENT)], ["1", "2"]),
    ([put("x-t", "n", OVERWRITE)], ["n"]),
    ([put("x-t", "n", IF_EXISTS)], ["n"]),
    ([{"remove": "X-t"}], []),
    ([{"remove": "x-t"}, put("x-t", "n", IF_EXISTS)], []),
    ([{"remove": "x-t"}, put("x-t", "n", IF_ABSENT)], ["n"]),
    ([put("x-t", "n", OVERWRITE), put("x-t", "%REQ(x-t)%%REQ(:path)%")], ["n", "n/p"]),
    ([put("x-t", "", OVERWRITE)], ["1", "2"]),
    ([put("x-t", "%REQ(none)%")], ["1", "2"]),
    ([put("x-t", "", OVERWRITE, keep_empty_value=True)], [""]),
    ([{"remove_on_match": {"key_matcher": {"prefix": "x-"}}}], []),
    ([{"remove_on_match": {"key_matcher": {"exact": "X-T", "ignore_case": True}}}], []),
    ([{"remove_on_match": {"key_matcher": {"suffix": "-u"}}}], ["1", "2"]),
])
def test_request(start, serve, mutations, want):
    upstream = serve()
    proxy = start_with(start, upstream, [mutation(request_mutations=mutations)])
    with Client(proxy.port()) as client:
        client.send(b"GET /p HTTP/1.1\r\nhost: a\r\nx-t: 1\r\nx-t: 2\r\n\r\n")
        assert client.response().status == 200
    assert values(upstream.requests[0], "x-t") == want


def test_response_also_of_our_own(start, serve):
    upstream = serve(lambda request: response(200, b"", {"x-r": "1", "x-s": "2"}))
    direct = {"match": {"prefix": "/direct"}, "direct_response": {"status": 403}}
    proxy = start_with(start, upstream, [mutation(response_mutations=[
        {"remove": "x-r"}, put("x-status", "%RESP(:status)% %REQ(:path)%")])],
        [direct, mesh.route("up")])
    got = ask(proxy.port(), "/q")
    assert values(got, "x-r") == [] and values(got, "x-s") == ["2"]
    assert values(got, "x-status") == ["200 /q"]
    assert values(ask(proxy.port(), "/direct"), "x-status") == ["403 /direct"]


def test_trailers(start, serve):
    upstream = serve(lambda request: b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                                     b"1\r\nx\r\n0\r\nt1: a\r\nt2: b\r\n\r\n")
    options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}}}}
    proxy = start_with(
        start, upstream,
        [mutation(request_trailers_mutations=[{"remove": "q1"}, put("q3", "%REQ(:path)%")],
                  response_trailers_mutations=[{"remove": "t1"}, put("t3", "%TRAILER(t2)%")])],
        hcm={"http_protocol_options": {"enable_trailers": True}},
        clusters=[cluster("up", upstream, typed_extension_protocol_options=options)])
    with Client(proxy.port()) as client:
        client.send(b"POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
                    b"1\r\nx\r\n0\r\nq1: a\r\nq2: b\r\n\r\n")
        assert client.response().trailers == [("t2", "b"), ("t3", "b")]
    assert upstream.requests[0].trailers == [("q2", "b"), ("q3", "/p")]


@pytest.mark.parametrize("mutations,target,want", [
    ([query("a", "9")], "/p", "/p?a=9"),
    ([query("a", "9")], "/p?", "/p?a=9"),
    ([query("a", "9")], "/p?b=2&a=1", "/p?a=1&a=9&b=2"),
    ([query("a", "9", IF_ABSENT)], "/p?a=1", "/p?a=1"),
    ([query("a", "9", IF_ABSENT)], "/p?b=1", "/p?a=9&b=1"),
    ([query("a", "9", OVERWRITE)], "/p?a=1&b=2&a=3", "/p?a=9&b=2"),
    ([query("a", "9", IF_EXISTS)], "/p?b=2", "/p?b=2"),
    ([query("a", "9", IF_EXISTS)], "/p?a", "/p?a=9"),
    ([{"remove": "a"}], "/p?a=1&b=2&%61=3", "/p?b=2"),
    ([{"remove": "a"}], "/p?a=1", "/p"),
    ([query("a", "x y&\u00e9/?+=-._~")], "/p", "/p?a=x%20y%26%C3%A9%2F%3F%2B%3D-._%7E"),
    ([query("a", "%REQ(x-v)%")], "/p?b=&&c", "/p?a=val&b=&c="),
    ([query("a", "%REQ(none)%")], "/p", "/p?a="),
])
def test_query(start, serve, mutations, target, want):
    upstream = serve()
    proxy = start_with(start, upstream, [mutation(query_parameter_mutations=mutations)])
    assert ask(proxy.port(), target, headers={"x-v": "val"}).status == 200
    got = upstream.requests[0].target
    # An empty parameter stays one.
    assert got == want or got == want.replace("?", "?=&", 1)


def test_query_keeps_its_encoding(start, serve):
    """What was encoded stays it: a decoded space or line end would break the request line."""
    upstream = serve()
    proxy = start_with(start, upstream, [mutation(query_parameter_mutations=[query("z", "1")])])
    if proxy.is_envoy:
        pytest.skip("Envoy sends a%20b as it decodes it")
    assert ask(proxy.port(), "/p?b=%0d%0ax%20y%26&%20=1&c=%zz").status == 200
    assert upstream.requests[0].target == "/p?%20=1&b=%0d%0ax%20y%26&c=%zz&z=1"


@pytest.mark.parametrize("most_specific_wins,want", [
    (False, ["filter", "route", "vhost", "table"]), (True, ["filter", "table", "vhost", "route"])])
def test_levels(start, serve, most_specific_wins, want):
    upstream = serve()
    config = mutation(request_mutations=[put("x-t", "filter")])
    config["typed_config"]["most_specific_header_mutations_wins"] = most_specific_wins

    def level(name):
        return per_route(request_mutations=[put("x-t", name)])
    proxy = start_with(start, upstream, [config], [routed("/", level("route"))],
                       vhost=level("vhost"), table=level("table"))
    ask(proxy.port())
    assert values(upstream.requests[0], "x-t") == want


@pytest.mark.parametrize("change", [{"remove": ":path"}, {"remove": ":method"},
                                    {"remove_on_match": {"key_matcher": {"exact": ":path"}}}])
def test_a_request_without_its_path_goes_nowhere(start, serve, change):
    upstream = serve()
    proxy = start_with(start, upstream, [mutation(request_mutations=[change])])
    got = ask(proxy.port())
    assert got.status == 503 and got.body.startswith(b"missing required header: :")
    assert proxy.wait_log(1)[0]["details"].startswith(
        "filter_removed_required_request_headers{missing_required_header:_:")
    assert not upstream.requests


@pytest.mark.parametrize("mutations", [
    {"request_mutations": [put(":path", "/x")]}, {"request_mutations": [put("Host", "x")]},
    {"response_mutations": [put(":status", "201")]}, {"request_mutations": [{}]},
    {"request_mutations": [put("", "x")]}, {"request_mutations": [put("a", "%NO%")]},
    {"request_mutations": [{"remove_on_match": {}}]},
    {"request_mutations": [{"remove_on_match": {"key_matcher": {"safe_regex": {"regex": "("}}}}]},
    {"query_parameter_mutations": [{}]}, {"query_parameter_mutations": [query("", "x")]},
    {"query_parameter_mutations": [query("a", 5)]},
    {"query_parameter_mutations": [query("a", "%NO%")]},
    {"query_parameter_mutations": [{**query("a", "b"), "remove": "c"}]},
])
def test_refused(binary, tmp_path, mutations):
    assert refusal(binary, tmp_path, [mutation(**mutations)])
