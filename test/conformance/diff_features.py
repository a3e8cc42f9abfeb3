"""The features of routes and route matches that the differential run combines.

A feature is a function of (config, prefix, random): it adds routes below the path `prefix`, which is its
own, and requests that show at least two outcomes. `diff_actions.py` and `diff_tables.py` have more.
"""

from diff_config import LATER, extension, typed

FEATURES = []
CLUSTERS = ("a", "b", "c")


def feature(function):
    """feature registers one."""
    FEATURES.append(function)
    return function


def feature_with(*clusters):
    """feature_with registers one that needs these clusters, as soon as they are taken."""
    return lambda function: function if set(clusters) & set(LATER) else feature(function)


# --- paths ----------------------------------------------------------------------------------------
@feature
def prefix_match(c, p, r):
    c.route({"prefix": p + "/deep"}, {"cluster": "a"}, name="deep")
    c.route({"prefix": p}, {"cluster": "b"})
    c.ask(p + "/deeper/x?q=1")
    c.ask(p + r.choice(("/", "/other", "?a=b", "/dee")))


@feature
def path_match(c, p, r):
    c.route({"path": p + "/exact"}, {"cluster": r.choice(CLUSTERS)}, name="exact")
    c.ask(p + "/exact")
    c.ask(p + "/exact?query=1")
    c.ask(p + r.choice(("/exact/", "/Exact", "/exac")))


@feature
def path_separated(c, p, r):
    c.route({"path_separated_prefix": p + "/part"}, {"cluster": "a"})
    c.ask(p + "/part")
    c.ask(p + r.choice(("/part/", "/part/more", "/part?x")))
    c.ask(p + r.choice(("/partial", "/par")))


@feature
def regex_match(c, p, r):
    c.route({"safe_regex": {"regex": p + r"/[a-c]+/\d{2}"}}, {"cluster": "b"})
    c.ask(p + "/abc/12")
    c.ask(p + r.choice(("/abc/123", "/abd/12", "/abc/12/")))
    c.ask(p + "/cab/99?q=ignored")


@feature
def case_insensitive(c, p, r):
    kind = r.choice(("prefix", "path", "path_separated_prefix"))
    c.route({kind: p + "/MiXed", "case_sensitive": False}, {"cluster": "a"})
    c.route({kind: p + "/Strict", "case_sensitive": True}, {"cluster": "b"})
    c.ask(p + "/mixED")
    c.ask(p.upper() + "/MIXED")
    c.ask(p + "/strict")


@feature
def template_match(c, p, r):
    template = r.choice(("/{one}/{two}", "/*/{two}", "/{one=**}", "/lit/{one=*}/end"))
    rewrite = "/to/{one}" if "{one" in template else "/to/{two}"
    uri = "envoy.extensions.path"
    c.route({"path_match_policy": extension(
        "m", f"{uri}.match.uri_template.v3.UriTemplateMatchConfig", path_template=p + template)},
        {"cluster": "a", "path_rewrite_policy": extension(
            "r", f"{uri}.rewrite.uri_template.v3.UriTemplateRewriteConfig",
            path_template_rewrite=rewrite)})
    c.ask(p + "/lit/x")
    c.ask(p + "/lit/x/end?keep=1")
    c.ask(p + r.choice(("", "/", "/lit/")))


# --- headers ---------------------------------------------------------------------------------------
def header_matcher(c, r):
    """A matcher of x-m and values to try on it."""
    string = r.choice(("exact", "prefix", "suffix", "contains"))
    text = {"string_match": {string: "Abc", "ignore_case": r.random() < 0.5}}
    return c.turn("header", (
        (text, ("Abc", "abcd", "xabc", "zz")),
        ({"string_match": {"safe_regex": {"regex": "[0-9]+x"}}}, ("12x", "12xy", "x")),
        ({"safe_regex_match": {"regex": "a.c"}}, ("abc", "abcd")),
        ({"exact_match": "one"}, ("one", "One", "one,one")),
        ({"prefix_match": "pre"}, ("prefix", "apre")),
        ({"suffix_match": "fix"}, ("suffix", "fixed")),
        ({"contains_match": "mid"}, ("amidst", "m-id")),
        ({"range_match": {"start": -5, "end": 10}}, ("-5", "10", "3", "abc", "3x", " 7")),
        ({"present_match": r.random() < 0.7}, ("", "there"))))


@feature
def header_match(c, p, r):
    kind, values = header_matcher(c, r)
    matcher = {"name": r.choice(("x-m", "X-M")), **kind}
    if r.random() < 0.4:
        matcher["invert_match"] = True
    if r.random() < 0.4 and "present_match" not in kind:
        matcher["treat_missing_header_as_empty"] = True
    c.route({"prefix": p, "headers": [matcher]}, {"cluster": "a"})
    c.ask(p)
    for value in r.sample(values, 2):
        c.ask(p, [("x-m", value)])


@feature
def header_match_many(c, p, r):
    first, second = header_matcher(c, r), header_matcher(c, r)
    c.route({"prefix": p, "headers": [{"name": "x-m", **first[0]}, {"name": "x-n", **second[0]},
                                      {"name": ":method", "exact_match": "GET"}]}, {"cluster": "a"})
    c.ask(p, [("x-m", first[1][0]), ("x-n", second[1][0])])
    c.ask(p, [("x-m", first[1][0]), ("x-m", first[1][1]), ("x-n", second[1][0])])
    c.ask(p, [("x-m", first[1][0]), ("x-n", second[1][0])], method="POST", body=b"")


@feature
def pseudo_headers(c, p, r):
    name, value = r.choice(((":authority", "pseudo.test"), (":method", "PUT"),
                            (":path", p + "/x?y=z"), ("host", "pseudo.test")))
    c.route({"prefix": p, "headers": [{"name": name, "string_match": {"exact": value}}]},
            {"cluster": "b"})
    c.ask(p + "/x?y=z")
    c.ask(p, host="pseudo.test")
    c.ask(p, method="PUT", body=b"x")


@feature
def query_match(c, p, r):
    matcher = c.turn("query", ({"string_match": {"exact": "1"}}, {"string_match": {"prefix": "ab"}},
                               {"present_match": True}, {"present_match": False}, {},
                               {"string_match": {"safe_regex": {"regex": "[a-z]*"}}}))
    c.route({"prefix": p, "query_parameters": [{"name": "k", **matcher}]}, {"cluster": "c"})
    c.ask(p)
    for query in r.sample(("?k=1", "?k=abc", "?k", "?k=", "?x=1&k=1", "?k=2&k=1", "?k=%31", "?K=1"), 2):
        c.ask(p + query)


@feature
def cookie_match(c, p, r):
    matcher = r.choice(({"string_match": {"exact": "1"}}, {"string_match": {"prefix": "a"}}))
    c.route({"prefix": p, "cookies": [{"name": "k", **matcher, "invert_match": r.random() < 0.3}]},
            {"cluster": "c"})
    c.ask(p)
    for cookie in r.sample(("k=1", "x=2; k=1", "k=abc", "K=1", "k=\"1\""), 2):
        c.ask(p, [("cookie", cookie)])


@feature
def grpc_match(c, p, r):
    c.route({"prefix": p, "grpc": {}}, {"cluster": "a"})
    c.ask(p, [("content-type", "application/grpc")], method="POST", body=b"")
    c.ask(p, [("content-type", r.choice(("application/grpc+proto", "application/grpc-web",
                                         "application/grpcx")))], method="POST", body=b"")
    c.ask(p, [("content-type", "text/plain")])


@feature
def tls_match(c, p, r):
    c.route({"prefix": p, "tls_context": {r.choice(("presented", "validated")): r.random() < 0.5}},
            {"cluster": "a"})
    c.ask(p)


@feature
def runtime_match(c, p, r):
    share = r.choice((0, 100))
    c.route({"prefix": p, "runtime_fraction": {
        "default_value": {"numerator": share, "denominator": "HUNDRED"},
        "runtime_key": f"routing.{c.name}"}}, {"cluster": "a"})
    c.ask(p)
    c.ask(p + "/x")


JSON = [("content-type", "application/json")]


def choose_again(c):
    """A filter that lets the route of a POST with JSON be chosen once more, by what those before it
    have left."""
    c.filters.append(typed(
        "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata", request_rules={"rules": [
            {"selectors": [{"key": "body"}], "on_present": {"metadata_namespace": "own", "key": "body"}}]}))


@feature
def metadata_match(c, p, r):
    c.filters.append({"@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
                      "metadata": [{"metadata_namespace": f"ns{p[1:]}", "value": {"tier": "gold"}}]})
    choose_again(c)
    for value, cluster in (("gold", "a"), ("lead", "b")):
        c.route({"prefix": p + "/" + value, "dynamic_metadata": [{
            "filter": f"ns{p[1:]}", "path": [{"key": "tier"}],
            "value": {"string_match": {"exact": value}}, "invert": r.random() < 0.3}]},
            {"cluster": cluster})
        c.ask(p + "/" + value)
        c.ask(p + "/" + value, JSON, method="POST", body=b'{"body": "1"}')


@feature
def filter_state_match(c, p, r):
    c.filters.append({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
        "on_request_headers": [{"object_key": f"k{p[1:]}", "factory_key": "envoy.string",
                                "format_string": {"text_format_source": {
                                    "inline_string": "%REQ(X-STATE)%"}}}]})
    choose_again(c)
    c.route({"prefix": p, "filter_state": [{"key": f"k{p[1:]}", "string_match": {
        r.choice(("exact", "prefix")): "on"}}]}, {"cluster": "a"})
    c.ask(p, [("x-state", "on")])
    for state in ("on", r.choice(("off", "once"))):
        c.ask(p, [*JSON, ("x-state", state)], method="POST", body=b'{"body": "1"}')


@feature
def order_of_routes(c, p, r):
    matches = [{"prefix": p}, {"path": p + "/x"}, {"safe_regex": {"regex": p + "/.*"}},
               {"prefix": p + "/x"}]
    r.shuffle(matches)
    for match, cluster in zip(matches, ("a", "b", "c", "empty")):
        c.route(match, {"cluster": cluster})
    for path in ("/x", "/y", ""):
        c.ask(p + path)


# --- what a path is ----------------------------------------------------------------------------------
@feature
def odd_paths(c, p, r):
    c.route({"prefix": p + "/a/b"}, {"cluster": "a"})
    c.route({"prefix": p}, {"cluster": "b"})
    for path in r.sample(("//a/b", "/a//b", "/./a/b", "/x/../a/b", "/a%2fb", "/a%2Fb/c", "/a\\b",
                          "/a%5cb", "/%61/b", "/a/b;x=1", "/a/b%20c", "/a/b?x#y", "/a/b%00",
                          "/a/%zz", "/a/b/..", "/../..", "/a/b?//../x"), 3):
        c.ask(p + path)
