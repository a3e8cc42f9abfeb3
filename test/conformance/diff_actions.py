"""Features of the differential run: what a route does."""

from diff_config import LATER, extension, typed
from diff_features import CLUSTERS, feature, feature_with

APPEND = ("APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT", "OVERWRITE_IF_EXISTS_OR_ADD",
          "OVERWRITE_IF_EXISTS")


@feature
def cluster_header(c, p, r):
    c.route({"prefix": p}, {"cluster_header": "x-cluster"})
    c.ask(p, [("x-cluster", r.choice(CLUSTERS))])
    c.ask(p, [("x-cluster", "nowhere")])
    c.ask(p)


@feature
def cluster_not_found(c, p, r):
    c.route({"prefix": p}, {"cluster": r.choice(("nowhere", "a")), "cluster_not_found_response_code":
                            r.choice(("NOT_FOUND", "SERVICE_UNAVAILABLE", "INTERNAL_SERVER_ERROR"))})
    c.ask(p)
    c.ask(p + "/x", method="HEAD")


@feature
def no_hosts(c, p, r):
    c.route({"prefix": p}, {"cluster": r.choice(("empty", "dead"))})
    c.ask(p)
    c.ask(p, [("content-type", "application/grpc")], method="POST", body=b"x")


@feature
def weighted_fixed(c, p, r):
    entry = {"name": "a", "weight": 100,
             "request_headers_to_add": [{"header": {"key": "x-w", "value": "a"}}],
             "request_headers_to_remove": ["x-gone"],
             "response_headers_to_add": [{"header": {"key": "x-w", "value": "%REQ(X-M)%"}}],
             "response_headers_to_remove": ["x-internal"]}
    if r.random() < 0.5:
        entry["host_rewrite_literal"] = "weighted.test"
    if r.random() < 0.4:
        entry.update(name="", cluster_header="x-cluster")
        del entry["name"]
    c.route({"prefix": p}, {"weighted_clusters": {
        "clusters": [entry, {"name": "b", "weight": 0}]}})
    c.ask(p, [("x-gone", "1"), ("x-m", "v"), ("x-cluster", "c")])
    c.ask(p)


@feature
def weighted_by_header(c, p, r):
    c.route({"prefix": p}, {"weighted_clusters": {
        "clusters": [{"name": "a", "weight": 30}, {"name": "b", "weight": 70}],
        "header_name": "x-random"}})
    for value in r.sample(("0", "29", "30", "99", "130", "x", "-1"), 3):
        is_number = value.isdigit()
        c.ask(p, [("x-random", value)], group=None if is_number else f"any{c.name}{p}")


@feature
def weighted_by_hash(c, p, r):
    c.route({"prefix": p}, {
        "weighted_clusters": {"clusters": [{"name": "a", "weight": 50}, {"name": "b", "weight": 50}],
                              "use_hash_policy": True},
        "hash_policy": [{"header": {"header_name": "x-key"}}]})
    for value in ("one", "two", r.choice(("three", "four"))):
        c.ask(p, [("x-key", value)])


@feature
def weighted_random(c, p, r):
    share = r.choice((20, 50, 90))
    c.route({"prefix": p}, {"weighted_clusters": {
        "clusters": [{"name": "a", "weight": share}, {"name": "b", "weight": 100 - share}]}})
    c.ask(p, group=f"{c.name}{p}:{share}")


@feature
def cluster_matcher(c, p, r):
    action = "envoy.extensions.router.cluster_specifiers.matcher.v3"
    name = f"plugin{p[1:]}"
    plugin = {"extension": extension(name, f"{action}.MatcherClusterSpecifier", cluster_matcher={
        "matcher_list": {"matchers": [{
            "predicate": {"single_predicate": {
                "input": extension("h", "envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
                                   header_name="x-cluster"),
                "value_match": {"exact": "bee"}}},
            "on_match": {"action": extension("b", f"{action}.ClusterAction", cluster="b")}}]},
        "on_no_match": {"action": extension("a", f"{action}.ClusterAction", cluster="a")}})}
    if r.random() < 0.5:
        c.table.setdefault("cluster_specifier_plugins", []).append(plugin)
        c.route({"prefix": p}, {"cluster_specifier_plugin": name})
    else:
        c.route({"prefix": p}, {"inline_cluster_specifier_plugin": plugin})
    c.ask(p, [("x-cluster", "bee")])
    c.ask(p, [("x-cluster", "wasp")])


@feature_with("subsets")
def subset_match(c, p, r):
    version = r.choice(("v1", "v2", "v9"))
    c.route({"prefix": p}, {"cluster": "subsets", "metadata_match": {
        "filter_metadata": {"envoy.lb": {"version": version}}}})
    c.ask(p)
    c.route({"prefix": "/w" + p}, {"weighted_clusters": {"clusters": [
        {"name": "subsets", "weight": 1, "metadata_match": {
            "filter_metadata": {"envoy.lb": {"version": "v2"}}}}]}})
    c.ask("/w" + p)


@feature
def redirect(c, p, r):
    action = {}
    scheme = c.turn("scheme", (None, "https_redirect", "scheme_redirect"))
    if scheme:
        action[scheme] = True if scheme == "https_redirect" else r.choice(("ftp", "https", "http"))
    if r.random() < 0.5:
        action["host_redirect"] = "there.test"
    if c.turn("port_redirect", (True, False, False)):
        action["port_redirect"] = r.choice((80, 443, 8443))
    path = c.turn("redirect", ({}, {"path_redirect": r.choice(("/new", "/new?with=query"))},
                     {"prefix_rewrite": "/moved"},
                     {"regex_rewrite": {"pattern": {"regex": p + "/([a-z]+)"},
                                        "substitution": r"/\1/x"}}))
    action.update(path)
    if r.random() < 0.5:
        action["strip_query"] = r.random() < 0.7
    if r.random() < 0.6:
        action["response_code"] = r.choice(("FOUND", "SEE_OTHER", "TEMPORARY_REDIRECT",
                                            "PERMANENT_REDIRECT"))
    c.route({"prefix": p}, redirect=action or {"path_redirect": "/"}, name="redirect")
    c.ask(p + "/word?q=1")
    c.ask(p, host=r.choice(("main.test:80", "main.test:443", "main.test:81", "[::1]:80")))
    c.ask(p + "/x", method="POST", body=b"abc")


@feature
def direct_response(c, p, r):
    body = r.choice(({}, {"body": {"inline_string": "direct %REQ(X-M)%"}},
                     {"body": {"inline_bytes": "aGVsbG8="}}))
    action = {"status": r.choice((200, 204, 301, 404, 503)), **body}
    if r.random() < 0.3 and body:
        action["body_format"] = {"text_format_source": {"inline_string": "<%LOCAL_REPLY_BODY%>"},
                                 "content_type": "text/x-own"}
    c.route({"prefix": p}, direct_response=action, name="direct", response_headers_to_add=[
        {"header": {"key": "x-direct", "value": "%RESPONSE_CODE%"}}])
    c.route({"prefix": "/after" + p}, {"cluster": "a"})
    c.ask(p)
    c.ask(p, method=r.choice(("HEAD", "POST", "PUT")), body=b"")
    c.ask("/after" + p)


@feature
def non_forwarding(c, p, r):
    c.route({"prefix": p}, non_forwarding_action={})
    c.route({"prefix": "/x" + p}, {"cluster": "a"})
    c.ask(p)
    c.ask("/x" + p)


@feature
def prefix_rewrite(c, p, r):
    match = r.choice(({"prefix": p + "/"}, {"prefix": p}, {"path": p + "/x"},
                      {"path_separated_prefix": p}, {"safe_regex": {"regex": p + ".*"}},
                      {"prefix": p.upper(), "case_sensitive": False}))
    c.route(match, {"cluster": "a", "prefix_rewrite": r.choice(("/", "/new", "/new/", "/%REQ(X-M)%"))})
    c.ask(p + "/x?q=%20", [("x-m", "v")])
    c.ask(p + r.choice(("", "/", "//x", "?q")))


@feature
def regex_rewrite(c, p, r):
    pattern, substitution = r.choice((
        (p + "/([^/]+)(/.*)?", r"\2/\1"), ("[0-9]", "N"), ("^" + p, "/top"), (r"/x(\d)*", r"<\0>"),
        ("nomatch", "x"), (p, "")))
    c.route({"prefix": p}, {"cluster": "a", "regex_rewrite": {
        "pattern": {"regex": pattern}, "substitution": substitution}})
    c.ask(p + "/x12/y?q=12")
    c.ask(p + "/one")


@feature
def path_rewrite(c, p, r):
    c.route({"prefix": p}, {"cluster": "a", "path_rewrite": r.choice((
        "/new/%REQ(X-M)%", "/static", "/%PATH(NQ)%/x"))})
    c.ask(p + "/x?q=1", [("x-m", "v")])
    c.ask(p)


@feature
def host_rewrite(c, p, r):
    action = c.turn("host_rewrite", (
        {"host_rewrite_literal": "literal.test"}, {"auto_host_rewrite": True},
        {"auto_host_rewrite": False}, {"host_rewrite_header": "x-host"},
        {"host_rewrite_path_regex": {"pattern": {"regex": "^/[^/]+/([a-z]+).*$"},
                                     "substitution": r"\1.test"}},
        {"host_rewrite": "%REQ(X-HOST)%.formatted"}))
    if r.random() < 0.6:
        action["append_x_forwarded_host"] = True
    if r.random() < 0.2:
        action.pop("append_x_forwarded_host", None)
    c.route({"prefix": p}, {"cluster": r.choice([n for n in ("a", "dns") if n not in LATER]), **action})
    c.ask(p + "/word/x", [("x-host", "wanted.test")])
    c.ask(p + "/word?q", [("x-forwarded-host", "before.test")])


@feature
def headers(c, p, r):
    """Additions and removals at every level, in each way of appending."""
    values = ("plain", "%PROTOCOL%", "%REQ(X-M?X-N)%", "%REQ(X-M):2%", "a%%b", "%RESPONSE_CODE%",
              "%ROUTE_NAME%", "%UPSTREAM_CLUSTER%", "%REQ(:METHOD)%-%REQ(:PATH)%", "%START_TIME(%Y)%",
              "%REQ(ABSENT)%", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "")

    def addition(name):
        entry = {"header": {"key": name, "value": r.choice(values)},
                 "append_action": r.choice(APPEND)}
        if r.random() < 0.3:
            entry["keep_empty_value"] = True
        return entry
    levels = [c.table, c.vhost]
    route = c.route({"prefix": p}, {"cluster": "a"}, name="headers")
    removes = c.turn("headers", (c.table, c.vhost, route))
    removes.setdefault("request_headers_to_remove", []).append("x-n")
    removes.setdefault("response_headers_to_remove", []).append("x-upstream-version")
    for level in r.sample([*levels, route, route], 3):
        for kind in r.sample(("request", "response"), r.choice((1, 2))):
            level.setdefault(f"{kind}_headers_to_add", []).append(
                addition(r.choice(("x-m", "x-new", "x-internal", "x-two", "user-agent"))))
            if r.random() < 0.4:
                level.setdefault(f"{kind}_headers_to_remove", []).append(
                    r.choice(("x-n", "x-two", "x-internal", "accept", "x-upstream-version")))
    if r.random() < 0.4:
        c.table["most_specific_header_mutations_wins"] = True
    c.ask(p, [("x-m", "em"), ("x-two", "1"), ("x-two", "2"), ("accept", "*/*")])
    c.ask(p + "/x", [("x-n", "en"), ("user-agent", "me")])


@feature
def timeouts(c, p, r):
    c.route({"prefix": p + "/short"}, {"cluster": "a", "timeout": "0.2s"})
    c.route({"prefix": p + "/idle"}, {"cluster": "a", "timeout": "0s", "idle_timeout": "0.2s"})
    c.route({"prefix": p + "/max"}, {"cluster": "a", "timeout": "0s", "max_stream_duration": {
        "max_stream_duration": "0.2s"}})
    kind = r.choice(("short", "idle", "max"))
    c.ask(f"{p}/{kind}", [("x-test-delay", "1000")])
    c.ask(f"{p}/{kind}")
    c.ask(f"{p}/{kind}", [("x-envoy-upstream-rq-timeout-ms", "3000")])


@feature
def grpc_timeouts(c, p, r):
    action = r.choice((
        {"max_grpc_timeout": r.choice(("0s", "0.3s", "10s")), "grpc_timeout_offset": "0.05s"},
        {"max_grpc_timeout": "0s"},
        {"max_stream_duration": {"grpc_timeout_header_max": r.choice(("0s", "0.3s", "10s")),
                                 "grpc_timeout_header_offset": "0.01s"}}))
    c.route({"prefix": p}, {"cluster": "a", "timeout": "2s", **action})
    grpc = [("content-type", "application/grpc"), ("te", "trailers")]
    c.ask(p, [*grpc, ("grpc-timeout", "400m"), ("x-test-delay", "1200")], method="POST", body=b"")
    c.ask(p, [*grpc, ("grpc-timeout", r.choice(("5S", "x", "99999999H")))], method="POST", body=b"")


@feature
def priorities(c, p, r):
    c.route({"prefix": p}, {"cluster": "a", "priority": r.choice(("HIGH", "DEFAULT"))},
            decorator={"operation": "op", "propagate": False},
            metadata={"filter_metadata": {"own": {"k": "v"}}},
            request_headers_to_add=[{"header": {"key": "x-meta", "value": "%METADATA(ROUTE:own:k)%"}}])
    c.ask(p)
    c.route({"prefix": "/hdr" + p}, {"cluster": r.choice(("a", "dead"))})
    c.ask("/hdr" + p)


@feature
def mirrors(c, p, r):
    policy = {"cluster": "mirror"} if r.random() < 0.7 else {"cluster_header": "x-mirror"}
    policy["runtime_fraction"] = {"default_value": {"numerator": r.choice((0, 100))}}
    if r.random() < 0.4:
        policy["disable_shadow_host_suffix_append"] = True
    if r.random() < 0.3:
        policy["host_rewrite_literal"] = "mirrored.test"
    if r.random() < 0.3:
        policy["request_headers_mutations"] = [
            {"append": {"header": {"key": "x-shadow", "value": "1"}}}, {"remove": "x-m"}]
    where = r.choice((None, c.vhost, c.table))
    action = {"cluster": "a"}
    if where is None:
        action["request_mirror_policies"] = [policy]
    else:
        where.setdefault("request_mirror_policies", []).append(policy)
    c.route({"prefix": p}, action)
    c.ask(p, [("x-m", "1"), ("x-mirror", "mirror")])
    c.ask(p, [("x-mirror", "nowhere")], method="POST", body=b"body")


@feature
def hashes(c, p, r):
    attributes = [{"name": "HttpOnly", "value": ""}]
    cookie = r.choice(({"ttl": "60s", "path": "/p", "attributes": attributes},
                       {"ttl": "0s", "path": "/p", "attributes": attributes}, {}))
    rewrite = {"regex_rewrite": {"pattern": {"regex": "-.*"}, "substitution": ""}}
    policies = [
        {"header": {"header_name": "x-key", **rewrite}},
        {"cookie": {"name": "session", **cookie}},
        {"query_parameter": {"name": "key"}},
        {"connection_properties": {"source_ip": True}},
        {"filter_state": {"key": "absent"}},
        {"cookie": {"name": "session", **cookie}}]
    first = c.turn("hashes", policies)
    chosen = [first, *r.sample([p for p in policies if p is not first], r.choice((0, 1)))]
    chosen[0]["terminal"] = r.random() < 0.5
    by_weight = {"weighted_clusters": {"use_hash_policy": True, "clusters": [
        {"name": name, "weight": 1} for name in CLUSTERS]}}
    c.route({"prefix": p}, {**c.turn("hashed", [by_weight, *(
        {"cluster": name} for name in ("ring", "maglev") if name not in LATER)]), "hash_policy": chosen})
    kinds = {next(iter(policy)) for policy in chosen}
    for number in range(3):
        key = f"k{r.randrange(1000)}"
        sure = bool(kinds & {"connection_properties"}) or "header" in kinds or "query_parameter" in kinds
        cookie = [("cookie", f"session={key}")] if "cookie" in kinds and number else []
        fixed = sure or bool(cookie)
        c.ask(f"{p}?key={key}", [("x-key", key + "-x"), *cookie],
              group=None if fixed else f"any{c.name}{p}{number}")


@feature
def upgrades(c, p, r):
    c.hcm["upgrade_configs"] = [{"upgrade_type": "websocket", "enabled": r.random() < 0.5}]
    c.route({"prefix": p}, {"cluster": "a", "upgrade_configs": [
        {"upgrade_type": "websocket", "enabled": r.random() < 0.5}]})
    c.ask(p)
    c.ask(p, [("connection", "upgrade"), ("upgrade", "websocket"),
              ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("sec-websocket-version", "13")],
          again=False)


@feature
def per_filter(c, p, r):
    """typed_per_filter_config of the buffer filter, at every level."""
    name = f"f{len(c.filters)}"
    c.filters.append(typed("envoy.extensions.filters.http.buffer.v3.Buffer", max_request_bytes=100))
    own = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute"
    off, small = typed(own, disabled=True), typed(own, buffer={"max_request_bytes": 5})
    where = c.turn("per_filter", ("table", "vhost", "route", "cluster"))
    config = {"typed_per_filter_config": {name: r.choice((off, small))}}
    action = {"cluster": "a"} if where != "cluster" else {
        "weighted_clusters": {"clusters": [{"name": "a", "weight": 1, **config}]}}
    c.route({"prefix": p}, action, **(config if where == "route" else {}))
    if where in ("table", "vhost"):
        getattr(c, where).update(config)
    c.ask(p, method="POST", body=b"x" * 3)
    c.ask(p, method="POST", body=b"x" * 50)
