"""set_metadata, header_to_metadata and json_to_metadata: what they leave for others, as the access log
shows it."""

import base64

import pytest

from controlplane import mesh
from harness.filters import http_filter, override, refusal, routed, start_with
from harness.http1 import Client, ask
from harness.upstream import response

FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"


class Run:
    """A proxy with filters; after a request, what is in namespace "n"."""

    def __init__(self, start, serve, filters, answer=None, routes=None, namespace="n"):
        self.upstream = serve(answer)
        self.proxy = start_with(start, self.upstream, filters, routes, hcm={"access_log": [
            {"name": "file", "typed_config": {"@type": FILE_LOG, "path": "metadata.log", "log_format": {
                "json_format": {"m": f"%DYNAMIC_METADATA({namespace})%"}}}}]})
        self.number = 0

    def send(self, data):
        self.number += 1
        with Client(self.proxy.port()) as client:
            client.send(data)
            self.response = client.response()
        return self.proxy.wait_log(self.number, "metadata.log")[-1]["m"]

    def get(self, *fields):
        return self.send(b"".join([b"GET / HTTP/1.1\r\nhost: a\r\n",
                                   *[f.encode("latin-1") + b"\r\n" for f in fields], b"\r\n"]))

    def post(self, body, content_type="application/json"):
        head = f"content-type: {content_type}\r\n" if content_type is not None else ""
        return self.send(f"POST / HTTP/1.1\r\nhost: a\r\n{head}content-length: {len(body)}\r\n\r\n"
                         .encode() + body)


# --- set_metadata ---------------------------------------------------------------------------------
def set_metadata(*entries, **more):
    return http_filter("set_metadata", "set_metadata.v3.Config", metadata=list(entries), **more)


def entry(value, **more):
    return {"metadata_namespace": "n", "value": value, **more}


@pytest.mark.parametrize("entries,want,denied", [
    ([entry({"a": 1, "s": "t", "b": True, "z": None})], {"a": 1, "s": "t", "b": True, "z": None}, 0),
    ([entry({"a": 1}), entry({"a": 2})], {"a": 1}, 1),
    ([entry({"a": 1, "l": [1], "o": {"x": 1}, "s": "t"}),
      entry({"a": 3, "l": [3], "o": {"y": 2}, "s": {"o": 1}}, allow_overwrite=True)],
     {"a": 3, "l": [1, 3], "o": {"x": 1, "y": 2}, "s": {"o": 1}}, 0),
    ([{"metadata_namespace": "n"}], None, 0),
])
def test_set_metadata(start, serve, entries, want, denied):
    run = Run(start, serve, [set_metadata(*entries)])
    assert run.get() == want
    assert run.proxy.stat("http.test.set_metadata.overwrite_denied") == denied


def test_set_metadata_older_form(start, serve):
    run = Run(start, serve, [set_metadata(entry({"a": 2}), metadata_namespace="n", value={"a": 1})])
    assert run.get() == {"a": 1}


def test_set_metadata_refused(binary, tmp_path):
    assert refusal(binary, tmp_path, [set_metadata({"value": {"a": 1}})])


def test_set_metadata_typed(binary, tmp_path):
    if binary[1]:
        pytest.skip("Envoy has it")
    typed = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "x"}
    assert "metadata[0].typed_value" in refusal(binary, tmp_path, [set_metadata(
        {"metadata_namespace": "n", "typed_value": typed})])


@pytest.mark.parametrize("fault,want", [
    ({"abort": {"http_status": 500, "percentage": {"numerator": 100}}}, {"a": 1}),
    ({"delay": {"fixed_delay": "0.01s", "percentage": {"numerator": 100}}}, {"a": 1}),
    ({"abort": {"http_status": 500, "percentage": {"numerator": 0}}}, None),
])
def test_metadata_of_a_fault(start, serve, fault, want):
    config = http_filter("fault", "fault.v3.HTTPFault", filter_metadata={"a": 1}, **fault)
    run = Run(start, serve, [{**config, "name": "n"}])
    assert run.get() == want


# --- set_filter_state ---------------------------------------------------------------------------------
def set_filter_state(text, **more):
    return http_filter("set_filter_state", "set_filter_state.v3.Config", on_request_headers=[{
        "object_key": "k", "factory_key": "envoy.string",
        "format_string": {"text_format_source": {"inline_string": text}}, **more}])


def test_set_filter_state_chooses_the_route(start, serve):
    """If a filter after it has the route chosen once more."""
    upstream = serve()
    routes = [{**mesh.route("up"), "match": {"prefix": "/", "filter_state": [
        {"key": "k", "string_match": {"prefix": "on"}}]}}]
    again = http_filter("json_to_metadata", "json_to_metadata.v3.JsonToMetadata", request_rules={
        "rules": [{"selectors": [{"key": "a"}], "on_present": {"metadata_namespace": "n", "key": "a"}}]})
    proxy = start_with(start, upstream, [set_filter_state("%REQ(x-state)%"), again], routes)
    assert [ask(proxy.port(), method="POST", body=b'{"a": 1}', headers={
        "content-type": "application/json", **h}).status for h in (
            {"x-state": "once"}, {"x-state": "off"}, {})] == [200, 404, 404]


@pytest.mark.parametrize("more,kept", [({}, ""), ({"skip_if_empty": True}, "before")])
def test_set_filter_state_to_nothing(start, serve, more, kept):
    upstream = serve()
    routes = [{**mesh.route("up"), "request_headers_to_add": [{"header": {
        "key": "x-state", "value": "<%FILTER_STATE(k:PLAIN)%>"}}]}]
    empty = set_filter_state("%REQ(absent)%", **more)
    empty["typed_config"]["on_request_headers"][0]["format_string"]["omit_empty_values"] = True
    proxy = start_with(start, upstream, [set_filter_state("before"), empty], routes)
    ask(proxy.port())
    assert upstream.requests[0].get("x-state") == f"<{kept}>"


@pytest.mark.parametrize("more,field", [
    ({"factory_key": "envoy.other"}, "factory_key"), ({"factory_key": ""}, "object_key"),
    ({"object_key": ""}, "object_key"),
])
def test_set_filter_state_refused(binary, tmp_path, more, field):
    text = refusal(binary, tmp_path, [set_filter_state("x", **more)])
    assert binary[1] or f"on_request_headers[0].{field}" in text


# --- header_to_metadata ---------------------------------------------------------------------------
def header_to_metadata(*rules, **more):
    return http_filter("header_to_metadata", "header_to_metadata.v3.Config",
                       request_rules=list(rules), **more)


def pair(key="k", **more):
    return {"metadata_namespace": "n", "key": key, **more}


MISSING = pair("missing", value="m")
SWAP = {"pattern": {"regex": "^(\\w+)-(\\w+)$"}, "substitution": "\\2_\\1"}


def coded(data):
    return "x-h: " + base64.b64encode(data).decode()


@pytest.mark.parametrize("present,fields,want", [
    (pair(), ["x-h: v"], {"k": "v"}),
    (pair(), ["x-h: 1", "X-H: 2"], {"k": "1,2"}),
    (pair(), [], {"missing": "m"}),
    (pair(), ["x-h:"], None),
    (pair(), ["x-h: " + "x" * 8191], {"k": "x" * 8191}),
    (pair(), ["x-h: " + "x" * 8192], None),
    (pair(value="fixed"), ["x-h: v"], {"k": "fixed"}),
    (pair(value="fixed"), ["x-h:"], {"k": "fixed"}),
    (pair(type="NUMBER"), ["x-h: 5.50"], {"k": 5.5}),
    (pair(type="NUMBER"), ["x-h: v"], None),
    (pair(type="NUMBER", value="7"), ["x-h: v"], {"k": 7}),
    (pair(encode="BASE64"), [coded(b"hello")], {"k": "hello"}),
    (pair(encode="BASE64"), ["x-h: a-b"], None),
    (pair(encode="BASE64", type="NUMBER"), [coded(b"5.5")], {"k": 5.5}),
    (pair(encode="BASE64", type="PROTOBUF_VALUE"), [coded(b"\x1a\x03abc")], {"k": "abc"}),
    (pair(encode="BASE64", type="PROTOBUF_VALUE"), [coded(b"\x20\x01")], {"k": True}),
    (pair(encode="BASE64", type="PROTOBUF_VALUE"), [coded(b"\x1a\x09abc")], None),
    (pair(regex_value_rewrite=SWAP), ["x-h: a-b"], {"k": "b_a"}),
    (pair(regex_value_rewrite=SWAP), ["x-h: ab"], {"k": "ab"}),
])
def test_header(start, serve, present, fields, want):
    run = Run(start, serve, [header_to_metadata({"header": "X-H", "on_header_present": present,
                                                 "on_header_missing": MISSING})])
    assert run.get(*fields) == want


@pytest.mark.parametrize("fields,want", [
    (["cookie: a=1; c=2; d=3"], {"k": "2"}), (["cookie: a=1;c=2"], {"k": "2"}),
    (['cookie: c="q"'], {"k": "q"}), (['cookie: c="q'], {"k": '"q'}),
    (["cookie: c=a=b"], {"k": "a=b"}), (["cookie: c=1; c=2"], {"k": "1"}),
    (["cookie: a=1", "cookie: c=9"], {"k": "9"}),
    (["cookie: c="], {"missing": "m"}), (["cookie: c"], {"missing": "m"}),
    (['cookie: c=""'], {"missing": "m"}), (["cookie: C=2"], {"missing": "m"}),
    (["cookie: cc=2"], {"missing": "m"}), ([], {"missing": "m"}),
])
def test_cookie(start, serve, fields, want):
    run = Run(start, serve, [header_to_metadata({"cookie": "c", "on_header_present": pair(),
                                                 "on_header_missing": MISSING})])
    assert run.get(*fields) == want


def test_both_ways_and_removal(start, serve):
    run = Run(start, serve, [header_to_metadata(
        {"header": "x-h", "on_header_present": pair()},
        {"header": "x-h", "on_header_present": pair(value="later"), "remove": True},
        {"header": ":path", "on_header_present": pair("path")},
        response_rules=[{"header": "x-r", "on_header_present": pair("r"), "remove": True}])],
        answer=lambda request: response(200, b"", {"x-r": "v"}))
    assert run.get("x-h: 1") == {"k": "later", "path": "/", "r": "v"}
    assert run.upstream.requests[0].get("x-h") is None
    assert run.response.get("x-r") is None


def test_header_rules_of_a_route(start, serve):
    over = override("header_to_metadata", "header_to_metadata.v3.Config", request_rules=[
        {"header": "x-h", "on_header_present": pair("route")}])
    run = Run(start, serve, [header_to_metadata({"header": "x-h", "on_header_present": pair()})],
              routes=[routed("/", over)])
    assert run.get("x-h: v") == {"route": "v"}


def test_header_stats(start, serve):
    run = Run(start, serve, [header_to_metadata(
        {"header": "x-h", "on_header_present": pair(encode="BASE64"), "on_header_missing": MISSING},
        {"header": "x-k", "on_header_present": pair("k2", regex_value_rewrite={
            "pattern": {"regex": "a"}, "substitution": ""})},
        response_rules=[{"header": "x-r", "on_header_missing": pair("r", value="v")}],
        stat_prefix="sp")])
    for fields in (["x-h: !!"], [coded(b"5")], [], ["x-h:"], [coded(b"x" * 9000)], ["x-k: aa"]):
        run.get(*fields)
    assert run.proxy.stats("http_filter_name.sp") == {f"http_filter_name.sp.{n}": v for n, v in {
        "base64_decode_failed": 1, "header_value_too_long": 1, "regex_substitution_failed": 1,
        "request_header_not_found": 2, "request_metadata_added": 3, "request_rules_processed": 12,
        "response_header_not_found": 6, "response_metadata_added": 6,
        "response_rules_processed": 6}.items()}


def test_default_namespace(start, serve):
    run = Run(start, serve, [header_to_metadata({"header": "x-h", "on_header_present": {"key": "k"}})],
              namespace="envoy.filters.http.header_to_metadata")
    assert run.get("x-h: v") == {"k": "v"}


@pytest.mark.parametrize("rule", [
    {}, {"header": "a"}, {"header": "a", "cookie": "b", "on_header_present": pair()},
    {"header": "a", "on_header_missing": pair()},
    {"header": "a", "on_header_present": pair(value="v", regex_value_rewrite=SWAP)},
    {"header": "a", "on_header_present": {"metadata_namespace": "n"}},
    {"cookie": "a", "on_header_present": pair(), "remove": True},
])
def test_header_rule_refused(binary, tmp_path, rule):
    assert refusal(binary, tmp_path, [header_to_metadata(rule)])


# --- json_to_metadata -----------------------------------------------------------------------------
def json_to_metadata(way="request_rules", rules=None, **more):
    return http_filter("json_to_metadata", "json_to_metadata.v3.JsonToMetadata",
                       **{way: {"rules": rules or RULES, **more}})


def rule(path, kind=None, **more):
    return {"selectors": [{"key": key} for key in path.split(".")],
            "on_present": pair("v", **({"type": kind} if kind else {})),
            "on_missing": pair("m", value="miss"), "on_error": pair("e", value="err"), **more}


RULES = [rule("a.b")]
MISS, ERROR = {"m": "miss"}, {"e": "err"}


@pytest.mark.parametrize("kind,value,want", [
    (None, '"t"', {"v": "t"}), (None, '""', {"v": ""}), (None, "1.25", {"v": 1.25}),
    (None, "-7", {"v": -7}), (None, "1e300", {"v": 1e300}), (None, "true", {"v": True}),
    (None, "null", MISS), (None, "{}", MISS), (None, "[1]", MISS),
    (None, '"\\u00e9\\n"', {"v": "\u00e9\n"}), (None, '"%s"' % ("x" * 9000), MISS),
    ("STRING", '"t"', {"v": "t"}), ("STRING", '""', None), ("STRING", "5", {"v": "5"}),
    ("STRING", "1.25", {"v": "1.250000"}), ("STRING", "1e3", {"v": "1000.000000"}),
    ("STRING", "9007199254740993", {"v": "9007199254740993"}),
    ("STRING", "true", {"v": "1"}), ("STRING", "false", {"v": "0"}), ("STRING", "null", MISS),
    ("STRING", "[1]", MISS),
    ("NUMBER", "1.25", {"v": 1.25}), ("NUMBER", '"7"', {"v": 7}), ("NUMBER", '"1e3"', {"v": 1000}),
    ("NUMBER", "true", {"v": 1}), ("NUMBER", '"x"', MISS), ("NUMBER", '""', MISS),
    ("NUMBER", "[1]", MISS),
])
def test_json_value(start, serve, kind, value, want):
    run = Run(start, serve, [json_to_metadata(rules=[rule("a.b", kind)])])
    body = b'{"x": [1], "a": {"b": %b}}' % value.encode()
    assert run.post(body) == want
    assert run.upstream.requests[0].body == body
    assert run.proxy.stat("json_to_metadata.rq.success") == 1


@pytest.mark.parametrize("body,want,stat", [
    (b'{"a":1}', MISS, "success"), (b"{}", MISS, "success"), (b'[{"a":{"b":1}}]', MISS, "success"),
    (b'"x"', MISS, "success"), (b"5", MISS, "success"),
    (b"", MISS, "no_body"),
    (b'{"a":{"b":1},"a":{"b":2}}', {"v": 2}, "success"),
    (b' {"a":{"b":1}} ', {"v": 1}, "success"),
    (b"{bad", ERROR, "invalid_json_body"), (b'{"a":{"b":1}} x', ERROR, "invalid_json_body"),
    (b'{"a":{"b":1,}}', ERROR, "invalid_json_body"), (b'{"a":"\xff"}', ERROR, "invalid_json_body"),
    (b'{"a":{"b":1},"x":' + b"[" * 500 + b"]" * 500 + b"}", {"v": 1}, "success"),
    (b'{"a":{"b":1},"x":' + b"[" * 1000 + b"]" * 1000 + b"}", ERROR, "invalid_json_body"),
])
def test_json_body(start, serve, body, want, stat):
    run = Run(start, serve, [json_to_metadata()])
    assert run.post(body) == want
    assert run.response.status == 200 and run.upstream.requests[0].body == body
    assert run.proxy.stat(f"json_to_metadata.rq.{stat}") == 1


@pytest.mark.parametrize("more,content_type,want", [
    ({}, "application/json", {"v": 1}), ({}, "application/json; charset=utf-8", ERROR),
    ({}, "APPLICATION/JSON", ERROR), ({}, "", ERROR), ({}, None, ERROR),
    ({"allow_empty_content_type": True}, None, {"v": 1}),
    ({"allow_content_types": ["a/b", "c/d"]}, "c/d", {"v": 1}),
    ({"allow_content_types": ["a/b", "c/d"]}, "application/json", ERROR),
    ({"allow_content_types_regex": {"regex": "x/.*"}}, "x/y", {"v": 1}),
    ({"allow_content_types_regex": {"regex": "x/.*"}}, "application/json", {"v": 1}),
])
def test_json_content_type(start, serve, more, content_type, want):
    run = Run(start, serve, [json_to_metadata(**more)])
    assert run.post(b'{"a":{"b":1}}', content_type) == want
    assert run.proxy.stat("json_to_metadata.rq.mismatched_content_type") == (want == ERROR)


def test_json_without_body(start, serve):
    run = Run(start, serve, [json_to_metadata()])
    assert run.get("content-type: application/json") == MISS
    assert run.get() == ERROR


def test_json_in_pieces(start, serve):
    run = Run(start, serve, [json_to_metadata()])
    assert run.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
                    b"transfer-encoding: chunked\r\n\r\n7\r\n{\"a\":{\"\r\n6\r\nb\":1}}\r\n"
                    b"0\r\n\r\n") == {"v": 1}
    assert run.upstream.requests[0].body == b'{"a":{"b":1}}'


def test_json_of_a_response(start, serve):
    run = Run(start, serve, [json_to_metadata("response_rules")],
              answer=lambda request: response(200, b'{"a":{"b":1}}',
                                              {"content-type": "application/json"}))
    assert run.get() == {"v": 1}
    assert run.response.body == b'{"a":{"b":1}}'
    assert run.proxy.stat("json_to_metadata.resp.success") == 1


def test_json_keeps_what_was_there(start, serve):
    keep = rule("a.b")
    keep["on_present"]["preserve_existing_metadata_value"] = True
    fixed = {"selectors": [{"key": "a"}], "on_present": pair("f", value={"x": [1]})}
    run = Run(start, serve, [set_metadata(entry({"v": "old"})),
                             json_to_metadata(rules=[keep, fixed])])
    assert run.post(b'{"a":{"b":1}}') == {"v": "old", "f": {"x": [1]}}


def test_json_rules_of_a_route(start, serve):
    over = override("json_to_metadata", "json_to_metadata.v3.JsonToMetadata",
                    request_rules={"rules": [rule("x")]})
    run = Run(start, serve, [json_to_metadata()], routes=[routed("/", over)])
    assert run.post(b'{"x": 5}') == {"v": 5}


def test_json_larger_than_the_buffer(start, serve):
    run = Run(start, serve, [json_to_metadata()])
    if run.proxy.is_envoy:
        pytest.skip("its buffer is larger")
    assert run.post(b'{"x": "%b"}' % (b"x" * 100_000)) is None
    assert run.response.status == 413


@pytest.mark.parametrize("rules", [
    {}, {"rules": [{"selectors": [], "on_present": pair()}]},
    {"rules": [{"selectors": [{"key": "a"}]}]},
    {"rules": [{"selectors": [{"key": "a"}], "on_error": pair(value="x")}]},
    {"rules": [{"selectors": [{"key": "a"}], "on_missing": pair()}]},
    {"rules": [{"selectors": [{"key": "a"}], "on_present": {"metadata_namespace": "n"}}]},
])
def test_json_rules_refused(binary, tmp_path, rules):
    assert refusal(binary, tmp_path, [http_filter(
        "json_to_metadata", "json_to_metadata.v3.JsonToMetadata", request_rules=rules)])
