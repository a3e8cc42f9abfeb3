"""Internal redirects: a response that points elsewhere is followed here, not by the client."""

import pytest

from controlplane import mesh
from harness.http1 import ask
from harness.proxy import cluster, http_listener, static
from harness.upstream import response

FOLLOWED = "cluster.up.upstream_internal_redirect_succeeded_total"
PASSED_ON = "cluster.up.upstream_internal_redirect_failed_total"
PREDICATE = "type.googleapis.com/envoy.extensions.internal_redirect."


def redirecting(location, status=302, times=1):
    """An upstream's answers: so many redirects, then a success."""
    left = [times]

    def answer(request):
        left[0] -= 1
        return response(status, b"go", {"Location": location}) if left[0] >= 0 else response(
            body=b"there")
    return answer


def two_routes(start, upstream, policy, first=(), **more):
    """Route "from" follows redirects by `policy`, route "to" does not."""
    source = mesh.route("up", "/from", internal_redirect_policy=policy, timeout="5s")
    target = mesh.route("up", "/to", timeout="5s")
    source["name"], target["name"] = "from", "to"
    return start(static([http_listener([*first, source, target], log="access.log", **more)],
                        [cluster("up", upstream)]))


def test_is_followed(start, serve):
    upstream = serve(redirecting("http://other.com/to?q=1#part"))
    proxy = two_routes(start, upstream, {})
    answer = ask(proxy.port(), "/from?a")
    assert (answer.status, answer.body) == (200, b"there")
    first, second = upstream.requests
    assert second.target == "/to?q=1" and second.get("host") == "other.com"
    assert second.get("x-envoy-original-url") == "http://test/from?a"
    assert first.get("x-envoy-original-url") is None
    assert proxy.stat(FOLLOWED) == 1
    entries = proxy.wait_log(2)
    assert [e["details"] for e in entries] == ["internal_redirect", "via_upstream"]
    assert [e["code"] for e in entries] == [302, 200]
    assert proxy.stat("http.test.downstream_rq_total") == 2
    assert proxy.stat("http.test.downstream_rq_completed") == 1


@pytest.mark.parametrize("location,counter", [
    ("/to", "bad_location"), ("", "bad_location"), ("http://", "bad_location"),
    ("http://o/t o", "bad_location"),
    ("https://o/to", "unsafe_scheme"), ("http://o/nowhere", "no_route")])
def test_is_passed_on(start, serve, location, counter):
    proxy = two_routes(start, serve(redirecting(location)), {})
    answer = ask(proxy.port(), "/from")
    assert answer.status == 302 and answer.body == b"go"
    assert proxy.stat(f"http.test.passthrough_internal_redirect_{counter}") == 1
    assert (proxy.stat(FOLLOWED), proxy.stat(PASSED_ON)) == (0, 1)


@pytest.mark.parametrize("codes,status,followed", [
    ([], 302, True), ([], 301, False), ([301, 307], 307, True), ([303], 302, False),
    ([200, 304], 304, False)])
def test_codes(start, serve, codes, status, followed):
    proxy = two_routes(start, serve(redirecting("http://o/to", status)),
                       {"redirect_response_codes": codes})
    assert ask(proxy.port(), "/from").status == (200 if followed else status)
    assert proxy.stat(FOLLOWED) == int(followed)


def test_body_goes_along(start, serve):
    upstream = serve(redirecting("http://o/to", 307))
    proxy = two_routes(start, upstream, {"redirect_response_codes": [307]})
    body = b"b" * 20000
    assert ask(proxy.port(), "/from", "POST", body=body).status == 200
    assert [(r.method, r.body) for r in upstream.requests] == [("POST", body)] * 2


@pytest.mark.parametrize("body", [None, b"", b"something"])
def test_cve_2026_47221_303_with_or_without_a_body(start, serve, body):
    """What becomes a GET has no body, whether there was one to drop or not."""
    upstream = serve(redirecting("http://o/to", 303))
    proxy = two_routes(start, upstream, {"redirect_response_codes": [303]})
    assert ask(proxy.port(), "/from", "POST", body=body).status == 200
    second = upstream.requests[1]
    assert (second.method, second.body, second.get("content-length")) == ("GET", b"", None)
    assert ask(proxy.port(), "/to").status == 200  # and it goes on


def test_303_leaves_head(start, serve):
    upstream = serve(redirecting("http://o/to", 303))
    proxy = two_routes(start, upstream, {"redirect_response_codes": [303]})
    assert ask(proxy.port(), "/from", "HEAD").status in (200, 303)
    assert {r.method for r in upstream.requests} == {"HEAD"}


def test_number_is_limited(start, serve):
    upstream = serve(redirecting("http://o/from", times=99))
    proxy = two_routes(start, upstream, {"max_internal_redirects": 3})
    assert ask(proxy.port(), "/from").status == 302
    assert len(upstream.requests) == 4
    assert proxy.stat("http.test.passthrough_internal_redirect_too_many_redirects") == 1


@pytest.mark.parametrize("predicate,location,followed", [
    ({"@type": PREDICATE + "allow_listed_routes.v3.AllowListedRoutesConfig",
      "allowed_route_names": ["to"]}, "http://o/to", True),
    ({"@type": PREDICATE + "allow_listed_routes.v3.AllowListedRoutesConfig",
      "allowed_route_names": ["from"]}, "http://o/to", False),
    ({"@type": PREDICATE + "safe_cross_scheme.v3.SafeCrossSchemeConfig"}, "https://o/to", False),
    ({"@type": PREDICATE + "safe_cross_scheme.v3.SafeCrossSchemeConfig"}, "http://o/to", True)])
def test_predicates(start, serve, predicate, location, followed):
    proxy = two_routes(start, serve(redirecting(location)), {
        "allow_cross_scheme_redirect": True,
        "predicates": [{"name": "one", "typed_config": predicate}]})
    assert ask(proxy.port(), "/from").status == (200 if followed else 302)
    assert proxy.stat("http.test.passthrough_internal_redirect_predicate") == int(not followed)


def test_previous_routes(start, serve):
    """A route leads to another one once only."""
    upstream = serve(redirecting("http://o/from", times=99))
    proxy = two_routes(start, upstream, {"max_internal_redirects": 9, "predicates": [
        {"name": "p", "typed_config": {
            "@type": PREDICATE + "previous_routes.v3.PreviousRoutesConfig"}}]})
    assert ask(proxy.port(), "/from").status == 302
    assert len(upstream.requests) == 2
    assert proxy.stat("http.test.passthrough_internal_redirect_predicate") == 1


def test_response_headers_go_along(start, serve):
    upstream = serve(lambda r: response(302, b"", {"Location": "http://o/to", "X-Token": "new"})
                     if r.target == "/from" else response())
    proxy = two_routes(start, upstream, {"response_headers_to_copy": ["x-token", "x-gone"]})
    assert ask(proxy.port(), "/from", headers={"X-Token": "old", "X-Gone": "1"}).status == 200
    second = upstream.requests[1]
    assert second.get("x-token") == "new" and second.get("x-gone") is None


def test_path_of_the_target_is_normalised(start, serve):
    """The target is looked for by the path that is sent; Envoy compares it as it came."""
    upstream = serve(redirecting("http://o/secret/../to"))
    proxy = two_routes(start, upstream, {})
    assert ask(proxy.port(), "/from").status == (302 if proxy.is_envoy else 200)
    if not proxy.is_envoy:
        assert upstream.requests[1].target == "/to"


def test_to_a_route_that_answers_itself(start, serve):
    direct = {"match": {"prefix": "/to"}, "direct_response": {
        "status": 201, "body": {"inline_string": "here"}}}
    proxy = two_routes(start, serve(redirecting("http://o/to")), {}, [direct])
    answer = ask(proxy.port(), "/from")
    assert (answer.status, answer.body) == (201, b"here")


@pytest.mark.parametrize("method,body", [("GET", None), ("POST", b"b" * 5000)])
def test_filters_see_the_target(start, serve, method, body):
    """What a filter does for the target's route it does for a redirect to it as well."""
    fault = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"
    upstream = serve(redirecting("http://o/to", 307))
    source = mesh.route("up", "/from", internal_redirect_policy={"redirect_response_codes": [307]})
    target = mesh.route("up", "/to")
    target["typed_per_filter_config"] = {"envoy.filters.http.fault": {
        "@type": fault, "abort": {"http_status": 418, "percentage": {"numerator": 100}}}}
    filters = [{"name": "envoy.filters.http.fault", "typed_config": {"@type": fault}},
               {"name": "envoy.filters.http.router", "typed_config": {"@type": "Router"}}]
    proxy = start(static([http_listener([source, target], hcm={"http_filters": filters})],
                         [cluster("up", upstream)]))
    assert ask(proxy.port(), "/from", method, body=body).status == 418
    assert len(upstream.requests) == 1
    # And one that lets it pass: the body goes through the filters again.
    source["route"]["internal_redirect_policy"] = {"redirect_response_codes": [307]}
    del target["typed_per_filter_config"]
    second = serve(redirecting("http://o/to", 307))
    proxy = start(static([http_listener([source, target], hcm={"http_filters": filters})],
                         [cluster("up", second)]))
    assert ask(proxy.port(), "/from", method, body=body).status == 200
    assert [r.body for r in second.requests] == [body or b""] * 2


def test_bad_policy_is_refused(start):
    proxy = None
    with pytest.raises(AssertionError):
        proxy = start(static([http_listener([mesh.route("up", internal_redirect_policy={
            "response_headers_to_copy": [":path"]})])], [cluster("up", ("127.0.0.1", 1))]))
    assert proxy is None
