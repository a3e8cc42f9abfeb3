"""Features of the differential run: retries, virtual hosts, the route table, the connection manager."""

from diff_config import extension, typed
from diff_features import CLUSTERS, feature


# --- retries ---------------------------------------------------------------------------------------
def policy(r, **more):
    """A retry policy that does not wait long."""
    return {"retry_back_off": {"base_interval": "0.005s", "max_interval": "0.01s"}, **more}


WORDS = ("5xx", "gateway-error", "reset", "connect-failure", "retriable-4xx", "retriable-status-codes",
         "envoy-ratelimited", "refused-stream", "reset-before-request", "retriable-headers",
         "retriable-headers")


@feature
def retry_on(c, p, r):
    words = [c.turn("retry_on", WORDS), *r.sample(WORDS, r.choice((0, 1, 2)))]
    fields = policy(r, retry_on=",".join(words), num_retries=r.choice((1, 2, 3)))
    if "retriable-status-codes" in words or r.random() < 0.2:
        fields["retriable_status_codes"] = [418, 503]
    if "retriable-headers" in words:
        fields["retriable_headers"] = [{"name": "x-retry", "exact_match": "yes"}]
    if r.random() < 0.4:
        fields["retriable_request_headers"] = [{"name": "x-may", "present_match": True}]
    c.route({"prefix": p}, {"cluster": r.choice(("a", "a", "dead", "two")), "retry_policy": fields})
    for answers in r.sample(("503,200", "503,503,503,503", "409,200", "418,200", "500,500,200",
                             "reset,200", "429,200", "200-retry,200"), 3):
        c.ask(p, [("x-test-answers", answers), *r.choice(([], [("x-may", "1")]))])


@feature
def retry_headers(c, p, r):
    """What the request itself asks for."""
    c.route({"prefix": p}, {"cluster": "a"})
    for _ in range(3):
        c.ask(p, [("x-test-answers", r.choice(("503,200", "418,200", "503,503,503,200"))),
                  ("x-envoy-retry-on", r.choice(("5xx", "gateway-error", "retriable-status-codes"))),
                  ("x-envoy-retriable-status-codes", "418"),
                  *r.choice(([], [("x-envoy-max-retries", r.choice(("0", "1", "3", "x")))]))])


@feature
def retry_grpc(c, p, r):
    words = r.choice(("unavailable", "cancelled,deadline-exceeded", "internal", "resource-exhausted"))
    c.route({"prefix": p}, {"cluster": "a", "retry_policy": policy(r, retry_on=words)})
    for status in r.sample(("grpc-14,grpc-0", "grpc-1,grpc-0", "grpc-4,grpc-0", "grpc-13,grpc-0",
                            "grpc-8,grpc-0"), 2):
        c.ask(p, [("x-test-answers", status), ("content-type", "application/grpc")], method="POST",
              body=b"")


@feature
def retry_limits(c, p, r):
    kind = r.choice(({"per_try_timeout": "0.15s"}, {"per_try_idle_timeout": "0.15s"}))
    c.route({"prefix": p}, {"cluster": "a", "timeout": "3s", "retry_policy": policy(
        r, retry_on="5xx,reset", num_retries=1, **kind)})
    c.ask(p, [("x-test-delay", "700"), ("x-test-answers", "200,200")])
    c.ask(p, [("x-test-answers", "503,200")])


@feature
def retry_hosts(c, p, r):
    fields = policy(r, retry_on="5xx", num_retries=3)
    if r.random() < 0.7:
        fields["retry_host_predicate"] = [{
            "name": "p", "typed_config": typed(
                "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")}]
        fields["host_selection_retry_max_attempts"] = 10
    if r.random() < 0.4:
        fields["retry_priority"] = {"name": "q", "typed_config": typed(
            "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
            update_frequency=1)}
    c.route({"prefix": p}, {"cluster": "a", "retry_policy": fields})
    c.ask(p, [("x-test-answers", "503,503,200")])
    c.ask(p, [("x-test-answers", "404")])


@feature
def retry_rate_limited(c, p, r):
    c.route({"prefix": p}, {"cluster": "a", "retry_policy": {
        "retry_on": "envoy-ratelimited,5xx", "num_retries": 2, "rate_limited_retry_back_off": {
            "reset_headers": [{"name": "Retry-After", "format": "SECONDS"},
                              {"name": "x-reset", "format": "UNIX_TIMESTAMP"}],
            "max_interval": "1s"}}})
    c.ask(p, [("x-test-answers", "503,200"), ("x-test-header", "retry-after: 1")])
    c.ask(p, [("x-test-answers", "404")])


@feature
def vhost_retries(c, p, r):
    c.vhost["retry_policy"] = policy(r, retry_on="5xx", num_retries=2)
    own = {"retry_policy": policy(r, retry_on="retriable-4xx")} if r.random() < 0.5 else {}
    for name in r.sample(("include_request_attempt_count", "include_attempt_count_in_response",
                          "include_is_timeout_retry_header"), 2):
        c.vhost[name] = True
    c.route({"prefix": p}, {"cluster": "a", "timeout": "3s", **own})
    c.ask(p, [("x-test-answers", "503,200")])
    c.ask(p, [("x-test-answers", "409,200")])


@feature
def is_timeout_retry(c, p, r):
    c.vhost["include_is_timeout_retry_header"] = True
    c.vhost["include_request_attempt_count"] = True
    c.route({"prefix": p}, {"cluster": "a", "timeout": "3s", "retry_policy": policy(
        r, retry_on="5xx", per_try_timeout="0.15s")})
    c.ask(p, [("x-test-delay-first", "700"), ("x-test-answers", "200,200")])
    c.ask(p, [("x-test-answers", "503,200")])


@feature
def hedging(c, p, r):
    hedge = {"hedge_on_per_try_timeout": True}
    if r.random() < 0.3:
        hedge.update(initial_requests=1, additional_request_chance={"numerator": 0})
    where = r.random() < 0.5
    if where:
        c.vhost["hedge_policy"] = hedge
    c.route({"prefix": p}, {"cluster": "a", "timeout": "3s", "retry_policy": policy(
        r, retry_on="5xx", per_try_timeout="0.2s"), **({} if where else {"hedge_policy": hedge})})
    c.ask(p, [("x-test-delay-first", "900"), ("x-test-answers", "200,200")])
    c.ask(p, [("x-test-answers", "404")])


@feature
def internal_redirects(c, p, r):
    rules = {"max_internal_redirects": r.choice((1, 2))}
    if r.random() < 0.6:
        rules["redirect_response_codes"] = r.choice(([302, 307], [303], [301, 308]))
    if r.random() < 0.5:
        rules["allow_cross_scheme_redirect"] = True
    if r.random() < 0.4:
        rules["response_headers_to_copy"] = ["x-copy"]
    if r.random() < 0.4:
        kind = r.choice(("previous_routes.v3.PreviousRoutesConfig",
                         "safe_cross_scheme.v3.SafeCrossSchemeConfig"))
        rules["predicates"] = [extension("p", f"envoy.extensions.internal_redirect.{kind}")]
    c.route({"prefix": p + "/to"}, {"cluster": "b"}, name="target")
    c.route({"prefix": p}, {"cluster": "a", "internal_redirect_policy": rules})
    code = r.choice(("302", "303", "307", "308", "301"))
    scheme = r.choice(("http", "https"))
    c.ask(p, [("x-test-answers", code), ("x-test-header", f"location: {scheme}://other.test{p}/to?x=1")])
    c.ask(p, [("x-test-answers", code), ("x-test-header", f"location: {p}/to")])
    c.ask(p, [("x-test-answers", "200")])


# --- virtual hosts and tables ---------------------------------------------------------------------------
@feature
def domains(c, p, r):
    """Exact before suffix before prefix before any; the longest of its kind."""
    choices = ["exact.test", "*.suffix.test", "*.deep.suffix.test", "prefix.*", "pre.fix.*",
               "exact.test:8080", "Case.Test", "*-dash.test", "[::1]"]
    names = r.sample(choices, 4)
    for i, name in enumerate(names):
        c.vhosts.append({"name": f"v{p[1:]}{i}", "domains": [f"{p[1:]}.{name}" if name[0] not in "*[" else
                                                             name.replace("*", f"*{p[1:]}")],
                         "routes": [{"match": {"prefix": p}, "name": name,
                                     "route": {"cluster": CLUSTERS[i % 3], "timeout": "5s"}}]})
    if r.random() < 0.4:
        c.table["ignore_port_in_host_matching"] = True
    tag = p[1:]
    for host in r.sample((f"{tag}.exact.test", f"{tag}.exact.test:8080", f"a{tag}.suffix.test",
                          f"a{tag}.deep.suffix.test", f"{tag}.prefix.x.y", f"{tag}.case.test",
                          f"x{tag}-dash.test:99", f"{tag}.suffix.test", f"{tag}.CASE.TEST"), 3):
        c.ask(p, host=host)


@feature
def require_tls(c, p, r):
    c.vhosts.append({"name": f"tls{p[1:]}", "domains": [f"{p[1:]}.tls.test", f"{p[1:]}.tls.test:80"],
                     "require_tls": r.choice(("NONE", "EXTERNAL_ONLY", "ALL")),
                     "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "a", "timeout": "5s"}}]})
    c.ask(p + "?q=1", host=f"{p[1:]}.tls.test")
    c.ask(p, [("x-forwarded-proto", "https")], host=f"{p[1:]}.tls.test")
    c.ask(p, [("x-forwarded-for", r.choice(("10.0.0.1", "8.8.8.8")))], host=f"{p[1:]}.tls.test")


@feature
def matcher_tree(c, p, r):
    def on_match(name, cluster):
        return {"action": extension("route", "envoy.config.route.v3.Route", name=name,
                                    match={"prefix": "/"}, route={"cluster": cluster, "timeout": "5s"})}
    kind = r.choice(("exact_match_map", "prefix_match_map"))
    tree = {"matcher_tree": {
        "input": extension("i", "envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
                           header_name=r.choice(("x-tree", ":path"))),
        kind: {"map": {"one": on_match("one", "a"), p: on_match("path", "b"),
                       p + "/x": on_match("longer", "c")}}}}
    if r.random() < 0.5:
        tree["on_no_match"] = on_match("none", "c")
    c.vhosts.append({"name": f"tree{p[1:]}", "domains": [f"{p[1:]}.tree.test"], "matcher": tree,
                     "routes": []})
    c.ask(p, [("x-tree", "one")], host=f"{p[1:]}.tree.test")
    c.ask(p + "/x/y", [("x-tree", "onetwo")], host=f"{p[1:]}.tree.test")
    c.ask("/elsewhere", host=f"{p[1:]}.tree.test")


@feature
def table_options(c, p, r):
    kind = c.turn("table", ("internal", "params", "vhost", "direct"))
    c.route({"path": p + "/x"}, {"cluster": "a"})
    if kind == "internal":
        c.table["internal_only_headers"] = ["x-m"]
        c.hcm["use_remote_address"] = True
        c.hcm["xff_num_trusted_hops"] = 1
    elif kind == "params":
        c.table["ignore_path_parameters_in_path_matching"] = True
    elif kind == "vhost":
        c.table["vhost_header"] = "x-vhost"
    else:
        c.table["max_direct_response_body_size_bytes"] = 5000
        c.route({"prefix": p + "/d"}, direct_response={
            "status": 200, "body": {"inline_string": "d" * 4500}})
        c.ask(p + "/d")
    c.table["metadata"] = {"filter_metadata": {"own": {"k": "v"}}}
    c.vhost["metadata"] = {"filter_metadata": {"own": {"k": "v"}}}
    c.ask(p + "/x;a=b", [("x-m", "1"), ("x-vhost", "other.test"), ("x-forwarded-for", "8.8.8.8, 1.1.1.1")])
    c.ask(p + "/x", [("x-m", "1")])


@feature
def body_limits(c, p, r):
    """What is kept of a body for a retry."""
    where = c.vhost if r.random() < 0.5 else None
    fields = {"request_body_buffer_limit": r.choice((10, 100000))}
    c.route({"prefix": p}, {"cluster": "a", "retry_policy": policy(r, retry_on="5xx")},
            **({} if where else fields))
    if where:
        where.update(fields)
    c.ask(p, [("x-test-answers", "503,200")], method="POST", body=b"y" * 5000)
    c.ask(p, [("x-test-answers", "503,200")], method="POST", body=b"y" * 5)


# --- the connection manager ----------------------------------------------------------------------------
@feature
def manager_paths(c, p, r):
    for name in r.sample(("normalize_path", "merge_slashes"), r.choice((1, 2))):
        c.hcm[name] = True
    c.hcm["path_with_escaped_slashes_action"] = r.choice((
        "KEEP_UNCHANGED", "REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"))
    c.route({"prefix": p + "/a/b"}, {"cluster": "a"})
    c.route({"prefix": p}, {"cluster": "b"})
    for path in r.sample(("//a/b", "/a//b", "/x/../a/b", "/a%2fb", "/a%2Fb?c=%2f", "/a%5Cb", "/%61/b",
                          "/%2e%2e/x", "/a/./b", "/a\\b", "/..;/x", "/a/b%20", "/%7Ex"), 3):
        c.ask(p + path)


@feature
def manager_hosts(c, p, r):
    c.hcm[r.choice(("strip_any_host_port", "strip_matching_host_port"))] = True
    if r.random() < 0.5:
        c.hcm["strip_trailing_host_dot"] = True
    c.vhosts.append({"name": f"s{p[1:]}", "domains": [f"{p[1:]}.strip.test"], "routes": [
        {"match": {"prefix": "/"}, "route": {"cluster": "c", "timeout": "5s"}}]})
    c.route({"prefix": p}, {"cluster": "a"})
    for host in r.sample((".strip.test", ".strip.test:80", ".strip.test.", ".strip.test.:99"), 3):
        c.ask(p, host=p[1:] + host)


@feature
def manager_forwarding(c, p, r):
    c.hcm["use_remote_address"] = r.random() < 0.6
    c.hcm["xff_num_trusted_hops"] = r.choice((0, 1, 2))
    for name in r.sample(("skip_xff_append", "append_x_forwarded_port", "preserve_external_request_id",
                          "always_set_request_id_in_response"), 2):
        c.hcm[name] = True
    if r.random() < 0.4:
        c.hcm["via"] = "proxy"
    if r.random() < 0.5:
        c.hcm["internal_address_config"] = {"cidr_ranges": [{"address_prefix": "9.0.0.0",
                                                             "prefix_len": 8}]}
    c.hcm["server_header_transformation"] = r.choice(("OVERWRITE", "APPEND_IF_ABSENT", "PASS_THROUGH"))
    c.route({"prefix": p}, {"cluster": "a"})
    for _ in range(3):
        c.ask(p, r.sample((("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "9.1.1.1, 10.0.0.1"),
                           ("x-envoy-internal", "true"), ("x-envoy-external-address", "5.5.5.5"),
                           ("x-envoy-decorator-operation", "x"), ("x-forwarded-proto", "https"),
                           ("x-envoy-upstream-rq-timeout-ms", "2000"), ("x-forwarded-port", "1"),
                           ("x-envoy-expected-rq-timeout-ms", "7"), ("x-envoy-max-retries", "9"),
                           ("x-forwarded-client-cert", "By=x"), ("via", "1.1 other"),
                           ("x-envoy-force-trace", "1"), ("te", "trailers, gzip")), 4))


@feature
def manager_underscores(c, p, r):
    c.hcm["common_http_protocol_options"] = {"headers_with_underscores_action": r.choice((
        "ALLOW", "REJECT_REQUEST", "DROP_HEADER"))}
    c.route({"prefix": p, "headers": [{"name": "x_under", "present_match": True}]}, {"cluster": "b"})
    c.route({"prefix": p}, {"cluster": "a"})
    c.ask(p, [("x_under", "1")])
    c.ask(p)


@feature
def local_replies(c, p, r):
    c.hcm["local_reply_config"] = {
        "mappers": [{"filter": {"status_code_filter": {"comparison": {
            "op": r.choice(("EQ", "GE")), "value": {"default_value": 404, "runtime_key": "k"}}}},
            "status_code": r.choice((404, 420)), "body": {"inline_string": "mapped"},
            "headers_to_add": [{"header": {"key": "x-mapped", "value": "%RESPONSE_FLAGS%"}}]}],
        "body_format": r.choice(({"text_format_source": {
            "inline_string": "%RESPONSE_CODE%:%LOCAL_REPLY_BODY%"}},
            {"json_format": {"code": "%RESPONSE_CODE%", "body": "%LOCAL_REPLY_BODY%"}}))}
    c.route({"prefix": p + "/dead"}, {"cluster": "dead"})
    c.route({"prefix": p + "/up"}, {"cluster": "a"})
    c.ask(p + "/dead")
    c.ask(p + "/none")
    c.ask(p + "/up", [("x-test-answers", "404")])
