"""Responses of the proxy's own, and what local_reply_config makes of them."""

import pytest

from controlplane import mesh
from harness.http1 import Client, ask
from harness.proxy import cluster, http_listener, static
from harness.upstream import response

GRPC = [("content-type", "application/grpc")]


def text(format_, **more):
    return {"text_format_source": {"inline_string": format_}, **more}


def status(op, code):
    return {"status_code_filter": {"comparison": {
        "op": op, "value": {"default_value": code, "runtime_key": "x"}}}}


def path(prefix):
    return {"header_filter": {"header": {"name": ":path", "string_match": {"prefix": prefix}}}}


def header(name, value, action="OVERWRITE_IF_EXISTS_OR_ADD"):
    return {"header": {"key": name, "value": value}, "append_action": action}


def direct(prefix, code=503, body="dd", **more):
    return {"match": {"prefix": prefix}, **more,
            "direct_response": {"status": code, "body": {"inline_string": body}}}


@pytest.fixture
def replying(start, serve):
    """replying(config, routes) is the port of a proxy with this local_reply_config, and the proxy."""
    def starter(config, routes=(), answer=None):
        upstream = serve(answer)
        routes = [*routes, {"match": {"prefix": "/up"}, "route": {"cluster": "up"}}]
        hcm = {"local_reply_config": config} if config else None
        proxy = start(static([http_listener(routes, log="access.log", hcm=hcm)],
                             [cluster("up", upstream)]))
        return proxy.port(), proxy
    return starter


def test_the_first_mapper_that_fits_changes_the_reply(replying):
    port, proxy = replying({
        "mappers": [
            {"filter": status("EQ", 404), "status_code": 410, "body": {"inline_string": "not here"},
             "headers_to_add": [header("x-was", "%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%")],
             "body_format_override": {"json_format": {
                 "body": "%LOCAL_REPLY_BODY%", "code": "%RESPONSE_CODE%", "path": "%REQ(:PATH)%"}}},
            {"filter": status("GE", 400), "body_format_override": text(
                "<%LOCAL_REPLY_BODY%> %RESPONSE_CODE%", content_type="text/html")}],
        "body_format": text("all: %LOCAL_REPLY_BODY%")},
        [direct("/direct"), direct("/fine", 200)],
        lambda r: b"HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\nup")
    answer = ask(port, target="/none")
    assert answer.status == 410 and answer.get("x-was") == "404 route_not_found"
    assert answer.get("content-type") == "application/json"
    assert answer.body == b'{"body":"not here","code":410,"path":"/none"}\n'
    answer = ask(port, target="/direct")
    assert (answer.status, answer.body) == (503, b"<dd> 503")
    assert answer.get("content-type") == "text/html" and answer.get("content-length") == "8"
    answer = ask(port, target="/fine")
    assert (answer.status, answer.body) == (200, b"all: dd")
    # what an upstream says is its own
    answer = ask(port, target="/up")
    assert (answer.status, answer.body) == (503, b"up")
    assert sorted(e["code"] for e in proxy.wait_log(4)) == [200, 410, 503, 503]


def test_redirects_and_head_are_mapped_too(replying):
    port, _ = replying({"body_format": text("b:%LOCAL_REPLY_BODY%:%RESPONSE_CODE%")},
                       [{"match": {"prefix": "/r"}, "redirect": {"host_redirect": "x.y"}}])
    answer = ask(port, target="/r")
    assert (answer.status, answer.body) == (301, b"b::301")
    assert answer.get("location") == "http://x.y/r"
    answer = ask(port, method="HEAD", target="/none")
    assert answer.status == 404 and answer.get("content-length") == "6"


def test_a_grpc_client_gets_the_mapped_status_and_message(replying):
    port, _ = replying({"mappers": [
        {"filter": path("/own"), "headers_to_add": [header("grpc-status", "5")]},
        {"filter": {"grpc_status_filter": {"statuses": ["UNAVAILABLE"]}}, "status_code": 403,
         "body": {"inline_string": "50% no\n"}},
        {"filter": status("EQ", 404), "body_format_override": {"json_format": {"a": "b"}}}]},
        [direct("/direct"), direct("/own")])
    answer = ask(port, target="/direct", headers=GRPC)
    assert answer.status == 200 and answer.body == b""
    assert answer.get("content-type") == "application/grpc"
    assert (answer.get("grpc-status"), answer.get("grpc-message")) == ("7", "50%25 no%0A")
    answer = ask(port, target="/none", headers=GRPC)
    assert (answer.get("grpc-status"), answer.get("grpc-message")) == ("12", '{"a":"b"}')
    answer = ask(port, target="/own", headers=GRPC)
    assert (answer.get("grpc-status"), answer.get("grpc-message")) == ("5", "dd")


@pytest.mark.parametrize("config", ["format", "no format"])
def test_who_decides_the_content_type(replying, config):
    """A mapper's own header, then the format's type, then what the route has added."""
    routed = {"response_headers_to_add": [header("content-type", "r/t")]}
    mappers = [
        {"filter": path("/header"), "headers_to_add": [header("content-type", "x/y")]},
        {"filter": path("/both"), "headers_to_add": [header("content-type", "x/y")],
         "body_format_override": text("T", content_type="a/b")},
        {"filter": path("/format"), "body_format_override": text("T", content_type="a/b")},
        {"filter": path("/body"), "body": {"inline_string": "new"}},
        {"filter": path("/added"),
         "headers_to_add": [header("content-type", "x/y", "APPEND_IF_EXISTS_OR_ADD")]}]
    names = ["/header", "/both", "/format", "/body", "/added", "/none"]
    port, _ = replying({"mappers": mappers, **({"body_format": text("D:%LOCAL_REPLY_BODY%")}
                                               if config == "format" else {})},
                       [route for name in names
                        for route in (direct(name + "/r", **routed), direct(name))])
    got = {name: ask(port, target=name).get("content-type")
           for name in [n + s for n in names for s in ("", "/r")]}
    assert got == {
        "/header": "x/y", "/header/r": "x/y", "/both": "x/y", "/both/r": "x/y",
        "/format": "a/b", "/format/r": "a/b", "/body": "text/plain", "/body/r": "text/plain",
        "/added": "x/y", "/added/r": "r/t,x/y", "/none": "text/plain",
        "/none/r": "text/plain" if config == "format" else "r/t"}


def test_an_empty_body_empties_it(replying):
    port, _ = replying({"mappers": [{"filter": status("EQ", 503), "status_code": 201,
                                     "body": {"inline_string": ""}}]}, [direct("/direct")])
    answer = ask(port, target="/direct")
    assert (answer.status, answer.body) == (201, b"") and not answer.get("content-type")


BAD = [  # what is sent, status, body, details, flags
    (b"FOO\r\n\r\n", 400, "Bad Request", "http1.codec_error", "DPE"),
    (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", 400, "Bad Request",
     "http1.codec_error", "DPE"),
    (b"POST /up HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400,
     "Bad Request", "http1.codec_error", "DPE"),
    (b"GET / HTTP/1.1\r\nHost: h\r\nx: " + b"a" * 70000 + b"\r\n\r\n", 431,
     "Request Header Fields Too Large", "http1.headers_too_large", "DPE"),
    (b"GET / HTTP/1.0\r\nHost: h\r\n\r\n", 426, "Upgrade Required", "low_version", "DPE"),
    (b"GET / HTTP/1.1\r\n\r\n", 400, "", "missing_host_header", "-"),
]


@pytest.mark.parametrize("case", range(len(BAD)))
@pytest.mark.parametrize("mapped", [False, True])
def test_what_is_no_request_is_answered_like_everything_else(replying, case, mapped):
    sent, code, body, details, flags = BAD[case]
    config = {"mappers": [{"filter": {"response_flag_filter": {"flags": ["DPE"]}},
                           "status_code": 599},  # the flag comes later
                          {"filter": status("EQ", code), "status_code": 499,
                           "headers_to_add": [header("x-a", "%RESPONSE_CODE%")]}],
              "body_format": text("<%LOCAL_REPLY_BODY%> %RESPONSE_CODE% %RESPONSE_FLAGS%")}
    port, proxy = replying(config if mapped else None)
    with Client(port) as client:
        client.send(sent)
        answer = client.response()
    assert answer.status == (499 if mapped else code)
    assert answer.get("server") == "istio-envoy" and answer.get("date")
    assert answer.get("connection") == "close"
    if mapped:
        assert answer.body.decode() == f"<{body}> 499 -" and answer.get("x-a") == str(code)
    else:
        assert answer.body.decode() == body
        assert answer.get("content-type") == ("text/plain" if body else None)
    entry = proxy.wait_log()[0]
    assert entry["code"] == (499 if mapped else code)
    assert (entry["details"], entry["flags"]) == (details, flags)


def test_timeouts_are_mapped(start, serve):
    hcm = {"local_reply_config": {"body_format": text("%LOCAL_REPLY_BODY%!%RESPONSE_FLAGS%")},
           "request_timeout": "0.2s"}
    proxy = start(static([http_listener([mesh.route("up")], hcm=hcm)],
                         [cluster("up", serve(lambda r: response()))]))
    with Client(proxy.port()) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
        answer = client.response()
    assert (answer.status, answer.body) == (408, b"request timeout!-")
