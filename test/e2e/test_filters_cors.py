"""cors and csrf: who may read what another origin answers, and who may change something there."""

import pytest

from harness.filters import always, http_filter, override, refusal, routed, start_with
from harness.http1 import ask
from controlplane import mesh

CORS = http_filter("cors", "cors.v3.Cors")
ORIGINS = [{"exact": "http://a.com"}, {"safe_regex": {"regex": "https://[a-z]+\\.b\\.com"}}]
PREFLIGHT = {"Access-Control-Request-Method": "GET",
             "Access-Control-Request-Private-Network": "true"}
ALL = {"allow_methods": "GET, PUT", "allow_headers": "x-a", "expose_headers": "x-e",
       "max_age": "600", "allow_credentials": True, "allow_private_network_access": True}


def policy(**config):
    return override("cors", "cors.v3.CorsPolicy", **config)


def cors_headers(message):
    return {n.removeprefix("access-control-"): v for n, v in message.headers
            if n.startswith("access-control-")}


def run(start, serve, **config):
    upstream = serve()
    proxy = start_with(start, upstream, [CORS],
                       [routed("/", policy(allow_origin_string_match=ORIGINS, **config))])

    def go(method="GET", origin=None, **more):
        headers = {**({"Origin": origin} if origin else {}), **more}
        return ask(proxy.port(), "/", method, headers)
    return proxy, upstream, go


def test_preflight_is_answered(start, serve):
    proxy, upstream, go = run(start, serve, **ALL)
    got = go("OPTIONS", "http://a.com", **PREFLIGHT)
    assert got.status == 200 and not upstream.requests
    assert cors_headers(got) == {
        "allow-origin": "http://a.com", "allow-methods": "GET, PUT", "allow-headers": "x-a",
        "expose-headers": "x-e", "max-age": "600", "allow-credentials": "true",
        "allow-private-network": "true"}
    assert proxy.wait_log(1)[0]["details"] == "cors_response"
    assert proxy.stat("http.test.cors.origin_valid") == 1


def test_what_is_open_is_not_said(start, serve):
    _, _, go = run(start, serve)
    assert cors_headers(go("OPTIONS", "https://xy.b.com", **PREFLIGHT)) == {
        "allow-origin": "https://xy.b.com"}


def test_actual_request(start, serve):
    proxy, upstream, go = run(start, serve, **ALL)
    assert cors_headers(go("GET", "http://a.com")) == {
        "allow-origin": "http://a.com", "allow-credentials": "true", "expose-headers": "x-e"}
    assert cors_headers(go("OPTIONS", "http://a.com"))["allow-origin"] == "http://a.com"
    assert cors_headers(go("GET")) == {}
    assert len(upstream.requests) == 3
    assert proxy.stat("http.test.cors.origin_valid") == 2
    assert proxy.stat("http.test.cors.origin_invalid") == 0


@pytest.mark.parametrize("origin", ["http://b.com", "http://a.com.evil", "HTTP://a.com", "null"])
def test_other_origin_is_told_nothing(start, serve, origin):
    proxy, upstream, go = run(start, serve, **ALL)
    assert cors_headers(go("GET", origin)) == {}
    assert cors_headers(go("OPTIONS", origin, **PREFLIGHT)) == {}
    assert len(upstream.requests) == 2
    assert proxy.stat("http.test.cors.origin_invalid") == 2


def test_preflight_of_other_origin_need_not_be_forwarded(start, serve):
    _, upstream, go = run(start, serve, forward_not_matching_preflights=False, **ALL)
    got = go("OPTIONS", "http://b.com", **PREFLIGHT)
    assert got.status == 200 and not upstream.requests
    assert "allow-origin" not in cors_headers(got)
    assert go("OPTIONS", "http://b.com").status == 200
    assert len(upstream.requests) == 1


def test_shadow_only_counts(start, serve):
    proxy, upstream, go = run(start, serve, filter_enabled=always(0), shadow_enabled=always())
    assert cors_headers(go("OPTIONS", "http://a.com", **PREFLIGHT)) == {}
    assert cors_headers(go("GET", "http://b.com")) == {}
    assert len(upstream.requests) == 2
    assert proxy.stat("http.test.cors.origin_valid") == 1
    assert proxy.stat("http.test.cors.origin_invalid") == 1


def test_off(start, serve):
    proxy, _, go = run(start, serve, filter_enabled=always(0))
    assert cors_headers(go("GET", "http://a.com")) == {}
    assert proxy.stat("http.test.cors.origin_valid") == 0


def test_route_completes_virtual_host(start, serve):
    """What a route's policy leaves open its virtual host's says."""
    upstream = serve()
    host = policy(allow_origin_string_match=ORIGINS, expose_headers="x-host",
                  allow_credentials=True)
    proxy = start_with(start, upstream, [CORS],
                       [routed("/own", policy(expose_headers="x-route")), mesh.route("up")],
                       vhost=host)
    headers = {"Origin": "http://a.com"}
    assert cors_headers(ask(proxy.port(), "/own", headers=headers)) == {
        "allow-origin": "http://a.com", "allow-credentials": "true", "expose-headers": "x-route"}
    assert cors_headers(ask(proxy.port(), "/", headers=headers))["expose-headers"] == "x-host"


# --- csrf -----------------------------------------------------------------------------------------
def csrf(**config):
    return http_filter("csrf", "csrf.v3.CsrfPolicy", **config)


@pytest.mark.parametrize("host,headers,status,stat", [
    ("a.com", {"Origin": "http://a.com"}, 200, "request_valid"),
    ("a.com:80", {"Origin": "http://a.com:80"}, 200, "request_valid"),
    ("a.com:80", {"Origin": "http://a.com"}, 403, "request_invalid"),
    ("a.com", {"Origin": "http://evil.com"}, 403, "request_invalid"),
    ("a.com", {"Origin": "http://evil.com/a.com"}, 403, "request_invalid"),
    ("a.com", {"Origin": "http://a.com.evil.com"}, 403, "request_invalid"),
    ("a.com", {"Origin": "http://a.com@evil.com"}, 403, "request_invalid"),
    ("a.com", {"Origin": "http://"}, 403, "request_invalid"),
    ("a.com", {"Origin": "null"}, 403, "missing_source_origin"),
    ("null", {"Origin": "null"}, 403, "missing_source_origin"),
    ("a.com", {"Origin": "null", "Referer": "http://a.com/"}, 403, "missing_source_origin"),
    ("a.com", {"Origin": "", "Referer": "http://a.com/p?q"}, 200, "request_valid"),
    ("a.com", {"Referer": "http://a.com/p?q"}, 200, "request_valid"),
    ("a.com", {"Referer": "http://evil.com/a.com"}, 403, "request_invalid"),
    ("a.com", {}, 403, "missing_source_origin"),
    ("a.com", {"Origin": "https://extra:8443"}, 200, "request_valid"),
    ("[::1]:80", {"Origin": "http://[::1]:80"}, 200, "request_valid"),
])
def test_csrf(start, serve, host, headers, status, stat):
    upstream = serve()
    proxy = start_with(start, upstream, [csrf(filter_enabled=always(),
                                              additional_origins=[{"exact": "extra:8443"}])])
    got = ask(proxy.port(), "/", "POST", headers, b"x", host)
    assert got.status == status
    assert len(upstream.requests) == (status == 200)
    assert {n: v for n, v in proxy.stats("csrf").items() if v} == {f"http.test.csrf.{stat}": 1}
    if status == 403:
        assert got.body == b"Invalid origin"
        assert proxy.wait_log(1)[0]["details"] == "csrf_origin_mismatch"


def test_csrf_methods_and_routes(start, serve):
    off = override("csrf", "csrf.v3.CsrfPolicy", filter_enabled=always(0))
    shadow = override("csrf", "csrf.v3.CsrfPolicy", filter_enabled=always(0),
                      shadow_enabled=always())
    proxy = start_with(start, serve(), [csrf(filter_enabled=always())],
                       [routed("/off", off), routed("/shadow", shadow), mesh.route("up")])
    statuses = {m: ask(proxy.port(), "/", m).status
                for m in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH")}
    assert [m for m, s in statuses.items() if s == 403] == ["POST", "PUT", "DELETE", "PATCH"]
    assert ask(proxy.port(), "/off", "POST").status == 200
    assert proxy.stat("http.test.csrf.missing_source_origin") == 4
    assert ask(proxy.port(), "/shadow", "POST").status == 200
    assert proxy.stat("http.test.csrf.missing_source_origin") == 5


def test_csrf_wants_its_fraction(binary, tmp_path):
    message = refusal(binary, tmp_path, [csrf()])
    assert "filter_enabled" in message or "FilterEnabled" in message
