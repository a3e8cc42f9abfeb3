"""Routes: which request goes to which cluster, and what a request without one gets."""

import collections
import json

import pytest

from controlplane import mesh
from harness.http1 import Client, ask
from harness.proxy import cluster, http_listener, static
from harness.upstream import response


def to(name, **match):
    return {"match": match, "route": {"cluster": name}}


def test_match_kinds_in_order(start, serve):
    servers = {name: serve(name=name) for name in
               ("exact", "regex", "header", "query", "tree", "prefix")}
    routes = [
        to("exact", path="/exact"),
        to("regex", safe_regex={"regex": "/r[0-9]+/.*"}),
        to("header", prefix="/", headers=[{"name": "x-user", "string_match": {"exact": "ann"}}]),
        to("query", prefix="/q", query_parameters=[
            {"name": "v", "string_match": {"prefix": "2"}}]),
        to("tree", path_separated_prefix="/tree"),
        to("prefix", prefix="/p"),
    ]
    proxy = start(static([http_listener(routes)], [cluster(n, s) for n, s in servers.items()]))
    port = proxy.port()

    def reached(target, **headers):
        answer = ask(port, target, headers=headers)
        return answer.body.decode() if answer.status == 200 else answer.status
    assert reached("/exact") == "exact"
    assert reached("/exact?query=is-no-part-of-it") == "exact"
    assert reached("/exact/") == 404
    assert reached("/EXACT") == 404
    assert reached("/r12/x") == "regex"
    assert reached("/r/x") == 404
    assert reached("/x/r12/x") == 404  # a regex matches the whole path
    assert reached("/anything", **{"X-User": "ann"}) == "header"
    assert reached("/anything", **{"X-User": "anne"}) == 404
    assert reached("/q?v=2.1") == "query"
    assert reached("/q?v=1.2") == 404
    assert reached("/q?w=2") == 404
    assert reached("/tree") == "tree" and reached("/tree/x") == "tree"
    assert reached("/treex") == 404
    assert reached("/p") == "prefix" and reached("/pq") == "prefix"
    assert reached("/") == 404


@pytest.mark.parametrize("match,value,hits", [
    ({"string_match": {"suffix": "-end"}}, "the-end", True),
    ({"string_match": {"suffix": "-end"}}, "the-end-", False),
    ({"string_match": {"contains": "mid"}}, "a-mid-b", True),
    ({"string_match": {"exact": "abc", "ignore_case": True}}, "ABC", True),
    ({"string_match": {"safe_regex": {"regex": "a+"}}}, "aaa", True),
    ({"string_match": {"safe_regex": {"regex": "a+"}}}, "aab", False),
    ({"present_match": True}, "", True),
    ({"present_match": True}, None, False),
    ({"present_match": False}, None, True),
    ({"range_match": {"start": 5, "end": 10}}, "9", True),
    ({"range_match": {"start": 5, "end": 10}}, "10", False),
    ({"string_match": {"exact": "x"}, "invert_match": True}, "y", True),
    ({"string_match": {"exact": "x"}, "invert_match": True}, "x", False),
])
def test_header_matchers(start, serve, match, value, hits):
    upstream = serve()
    proxy = start(static([http_listener([to("up", prefix="/", headers=[
        {"name": "x-test", **match}])])], [cluster("up", upstream)]))
    headers = {} if value is None else {"x-test": value}
    assert ask(proxy.port(), "/", headers=headers).status == (200 if hits else 404)


def test_domains_most_specific_first(start, serve):
    names = {"a.example.com": "exact", "*.example.com": "suffix", "*.b.example.com": "longer",
             "a.*": "prefix", "*": "rest"}
    servers = {name: serve(name=name) for name in names.values()}
    hosts = [{"name": name, "domains": [domain], "routes": [to(name, prefix="/")]}
             for domain, name in names.items()]
    config = {"name": "r", "virtual_hosts": hosts}
    listener = http_listener([], hcm={})
    listener["filter_chains"][0]["filters"] = [mesh.hcm("test", route_config=config)]
    proxy = start(static([listener], [cluster(n, s) for n, s in servers.items()]))
    port = proxy.port()
    for host, name in (("a.example.com", "exact"), ("A.Example.COM", "exact"),
                       ("x.example.com", "suffix"), ("x.b.example.com", "longer"),
                       ("a.org", "prefix"), ("other", "rest")):
        assert ask(port, host=host).body.decode() == name, host


def test_no_virtual_host_is_404(start, serve):
    proxy = start(static([http_listener([to("up", prefix="/")], domains=("only.this",),
                                        log="access.log")], [cluster("up", serve())]))
    assert ask(proxy.port(), host="another").status == 404
    entry = proxy.wait_log()[0]
    assert (entry["flags"], entry["details"]) == ("NR", "route_not_found")


def test_unknown_cluster_is_503(start):
    proxy = start(static([http_listener([to("nowhere", prefix="/")], log="access.log")], []))
    assert ask(proxy.port()).status == 503
    entry = proxy.wait_log()[0]
    assert (entry["flags"], entry["details"]) == ("NC", "cluster_not_found")


def test_weighted_clusters(start, serve):
    servers = {"nine": serve(name="nine"), "one": serve(name="one"), "none": serve(name="none")}
    route = mesh.route({"nine": 90, "one": 10, "none": 0})
    proxy = start(static([http_listener([route])], [cluster(n, s) for n, s in servers.items()]))
    with Client(proxy.port()) as client:
        count = collections.Counter(client.ask().body.decode() for _ in range(1000))
    assert count["none"] == 0
    assert 55 <= count["one"] <= 150  # 10 % of 1000; outside of this once in a million runs


def test_round_robin_over_hosts(start, serve):
    servers = [serve(name=str(i)) for i in range(3)]
    proxy = start(static([http_listener([to("up", prefix="/")])], [cluster("up", *servers)]),
                  concurrency=1)
    with Client(proxy.port()) as client:
        got = [client.ask().body.decode() for _ in range(30)]
    assert collections.Counter(got) == {"0": 10, "1": 10, "2": 10}
    assert got[:3] != [got[0]] * 3


def test_no_healthy_host_is_503_uh(start):
    proxy = start(static([http_listener([to("up", prefix="/")], log="access.log")],
                         [{"name": "up", "type": "STATIC", "connect_timeout": "1s"}]))
    answer = ask(proxy.port())
    assert (answer.status, answer.body) == (503, b"no healthy upstream")
    assert proxy.wait_log()[0]["flags"] == "UH"


def test_direct_response_and_redirect(start):
    proxy = start(static([http_listener([
        {"match": {"prefix": "/d"}, "direct_response": {
            "status": 418, "body": {"inline_string": "short and stout"}}},
        {"match": {"prefix": "/r"}, "redirect": {"host_redirect": "elsewhere",
                                                 "path_redirect": "/new"}},
        {"match": {"prefix": "/s"}, "redirect": {"https_redirect": True,
                                                 "response_code": "TEMPORARY_REDIRECT"}},
    ])], []))
    answer = ask(proxy.port(), "/d")
    assert (answer.status, answer.body) == (418, b"short and stout")
    answer = ask(proxy.port(), "/r?x=1")
    assert (answer.status, answer.get("location")) == (301, "http://elsewhere/new?x=1")
    answer = ask(proxy.port(), "/s?x=1", host="here")
    assert (answer.status, answer.get("location")) == (307, "https://here/s?x=1")


def test_rewrites_and_headers(start, serve):
    upstream = serve(lambda r: response(headers={"x-drop": "1", "x-keep": "1"}))
    route = {"match": {"prefix": "/old/"},
             "route": {"cluster": "up", "prefix_rewrite": "/new/", "host_rewrite_literal": "inner"},
             "request_headers_to_add": [
                 {"header": {"key": "x-added", "value": "v"},
                  "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
             "request_headers_to_remove": ["x-secret"],
             "response_headers_to_add": [{"header": {"key": "x-out", "value": "w"}}],
             "response_headers_to_remove": ["x-drop"]}
    proxy = start(static([http_listener([route])], [cluster("up", upstream)]))
    answer = ask(proxy.port(), "/old/page?q=1", headers={"X-Secret": "s", "X-Added": "mine"})
    request = upstream.requests[0]
    assert request.target == "/new/page?q=1"
    assert request.get("host") == "inner"
    assert request.get("x-added") == "v" and request.get("x-secret") is None
    assert request.get("x-envoy-original-path") == "/old/page?q=1"
    assert answer.get("x-out") == "w" and answer.get("x-keep") == "1"
    assert answer.get("x-drop") is None


def test_proxy_headers(start, serve):
    upstream = serve()
    proxy = start(static([http_listener([to("up", prefix="/")])], [cluster("up", upstream)]))
    answer = ask(proxy.port(), headers={"X-Mine": "1"})
    request = upstream.requests[0]
    assert request.get("x-mine") == "1"
    assert request.get("x-forwarded-proto") == "http"
    assert len(request.get("x-request-id")) == 36
    assert request.get("connection") is None or request.get("connection") == "keep-alive"
    assert answer.get("server") == "istio-envoy"
    assert answer.get("x-envoy-upstream-service-time").isdigit()


def test_default_access_log_line(start, serve, tmp_path):
    log = tmp_path / "default.log"
    access = [{"name": "envoy.access_loggers.file",
               "typed_config": {"@type": "FileAccessLog", "path": str(log)}}]
    proxy = start(static([http_listener([to("up", prefix="/")], hcm={"access_log": access})],
                         [cluster("up", serve())]))
    ask(proxy.port(), "/x?y=1", headers={"User-Agent": "agent \"7\""})
    line = proxy.wait(lambda: log.exists() and log.read_text(), 10, "a log line")
    words = line.split(" ")
    assert line.startswith("[") and line.endswith("\n") and line.count("\n") == 1
    assert '"GET /x?y=1 HTTP/1.1" 200 - 0 8 ' in line
    assert words[0].endswith('Z]') and '"test"' in line
    assert json.dumps(line)


def test_update_does_not_touch_open_connections(start, serve, control_plane):
    from controlplane import xds
    from harness.proxy import dynamic
    first, second = serve(name="first"), serve(name="second")
    listener = {"name": "main", "address": xds.socket_address("127.0.0.1", 0),
                "filter_chains": [{"filters": [mesh.hcm("test", rds="r")]}]}

    def routes(name):
        return [xds.message("RouteConfiguration", mesh.route_config("r", [mesh.route(name)]))]
    control_plane.set_all({
        "Cluster": [xds.message("Cluster", cluster("first", first)),
                    xds.message("Cluster", cluster("second", second))],
        "Listener": [xds.message("Listener", listener)], "RouteConfiguration": routes("first")})
    proxy = start(dynamic(control_plane))
    with Client(proxy.port()) as client:
        assert client.ask().body == b"first"
        version = control_plane.set("RouteConfiguration", routes("second"))
        control_plane.wait_ack("RouteConfiguration", version)
        proxy.wait(lambda: client.ask().body == b"second", 5, "the new route on the old connection")
