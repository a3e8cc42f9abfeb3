"""The filters grpc_web and grpc_stats. The upstream speaks gRPC's framing over HTTP/1.1."""

import base64
import struct

import pytest

from controlplane import mesh
from harness.http1 import Client, Reader, ask
from harness.proxy import cluster, http_listener, static
from harness.upstream import response

TYPES = "type.googleapis.com/envoy.extensions.filters.http"
ROUTER = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.router.v3.Router"}}
WEB = {"name": "envoy.filters.http.grpc_web",
       "typed_config": {"@type": f"{TYPES}.grpc_web.v3.GrpcWeb"}}
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
GRPC, PATH = "application/grpc", "/pkg.Svc/Method"
OK = b"grpc-status: 0\r\n"


def stats_filter(**fields):
    return {"name": "envoy.filters.http.grpc_stats",
            "typed_config": {"@type": f"{TYPES}.grpc_stats.v3.FilterConfig", **fields}}


def message(body, flags=0):
    return bytes([flags]) + struct.pack(">I", len(body)) + body


HELLO = message(b"hello")


def call(headers=None, body=HELLO, trailers=OK, status=200):
    """call is an upstream's answer with trailers."""
    fields = "".join(f"{n}: {v}\r\n" for n, v in (headers or {"content-type": GRPC}).items())
    chunks = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return (b"HTTP/1.1 %d Reason\r\n%btransfer-encoding: chunked\r\n\r\n%b0\r\n%b\r\n"
            % (status, fields.encode(), chunks, trailers))


def run(start, serve, filters, answer=None, handle=None):
    given = answer or call()
    upstream = serve(handle=handle) if handle else serve(
        given if callable(given) else (lambda request: given))
    up = cluster("up", upstream, typed_extension_protocol_options={OPTIONS: {
        "@type": f"type.googleapis.com/{OPTIONS}",
        "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}}}})
    return start(static([http_listener([mesh.route("up")], log="access.log", hcm={
        "http_filters": [*filters, ROUTER]})], [up])), upstream


def post(proxy, kind, body=HELLO, path=PATH, **headers):
    return ask(proxy.port(), path, method="POST", body=body,
               headers={"content-type": kind, **headers})


# --- grpc_web -------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["", "+proto"])
def test_binary(start, serve, kind):
    proxy, upstream = run(start, serve, [WEB], call(trailers=OK + b"grpc-message: ok\r\n"))
    answer = post(proxy, "application/grpc-web" + kind)
    assert answer.get("content-type") == "application/grpc-web+proto"
    assert answer.body == HELLO + message(b"grpc-status:0\r\ngrpc-message:ok\r\n", 0x80)
    asked = upstream.requests[0]
    assert (asked.get("content-type"), asked.get("te"), asked.get("grpc-accept-encoding")) == \
        (GRPC, "trailers", "identity")
    assert (asked.get("content-length"), asked.body) == (None, HELLO)
    stats = proxy.stats("grpc-web")
    assert stats == {f"cluster.up.grpc-web.pkg.Svc.Method.{name}": 1
                     for name in ("0", "success", "total")}


@pytest.mark.parametrize("kind", ["", "+proto"])
def test_text(start, serve, kind):
    proxy, upstream = run(start, serve, [WEB], call(body=HELLO + message(b"xy")))
    answer = post(proxy, "application/grpc-web-text" + kind, base64.b64encode(HELLO),
                  accept="application/grpc-web-text")
    assert upstream.requests[0].body == HELLO
    assert answer.get("content-type") == "application/grpc-web-text+proto"
    assert answer.body == b"".join(base64.b64encode(part) for part in (
        HELLO, message(b"xy"), message(b"grpc-status:0\r\n", 0x80)))


def test_text_in_pieces(start, serve):
    text = base64.b64encode(message(bytes(range(256))))
    proxy, upstream = run(start, serve, [WEB])
    with Client(proxy.port()) as client:
        client.send(b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web-text\r\n"
                    b"transfer-encoding: chunked\r\n\r\n" % PATH.encode())
        for at in range(0, len(text), 7):
            piece = text[at:at + 7]
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        client.send(b"0\r\n\r\n")
        assert client.response().status == 200
    assert upstream.requests[0].body == message(bytes(range(256)))


@pytest.mark.parametrize("body", [b"!!!!", b"AAAAA", base64.b64encode(HELLO[:4]) + b"AAAA"])
def test_text_that_is_no_base64(start, serve, body):
    proxy, upstream = run(start, serve, [WEB])
    answer = post(proxy, "application/grpc-web-text", body)
    assert (answer.status, answer.get("grpc-status"), answer.body) == (400, "13", b"")
    assert answer.get("grpc-message") == "Bad gRPC-web request, invalid base64 data."
    assert not upstream.requests
    assert proxy.wait_log(1)[0]["details"].startswith("grpc_base_64_decode_failed")


@pytest.mark.parametrize("status,headers,body,code,text", [
    (503, {"content-type": "text/plain"}, b"oops\nx", "14", "oops%0Ax"),
    (500, {"content-type": GRPC}, b"oops", "2", "oops"),
    (200, {"content-type": "text/html"}, b"<html>", "2", "<html>"),
    (404, {}, b"no", "12", "no"),
])
def test_answers_that_are_none_of_grpc(start, serve, status, headers, body, code, text):
    proxy, _ = run(start, serve, [WEB], response(status, body, headers))
    answer = post(proxy, "application/grpc-web")
    assert (answer.status, answer.get("grpc-status"), answer.get("grpc-message")) == \
        (status, code, text)
    assert (answer.get("content-length"), answer.body) == ("0", b"")
    assert answer.get("content-type") == "application/grpc-web+proto"


def test_head_that_is_all(start, serve):
    proxy, _ = run(start, serve, [WEB], response(200, b"", {
        "content-type": GRPC, "grpc-status": "7", "grpc-message": "no"}))
    answer = post(proxy, "application/grpc-web")
    assert (answer.get("grpc-status"), answer.get("grpc-message"), answer.body) == ("7", "no", b"")
    assert proxy.stat("cluster.up.grpc-web.pkg.Svc.Method.failure") == 1


@pytest.mark.parametrize("kind", ["text/plain", GRPC, "application/grpc-web+json"])
def test_others_pass(start, serve, kind):
    proxy, upstream = run(start, serve, [WEB])
    answer = post(proxy, kind)
    assert (answer.body, answer.get("content-type")) == (HELLO, GRPC)
    assert upstream.requests[0].get("content-type") == kind


def test_streamed_messages_pass_one_by_one(start, serve):
    taken = []

    def handle(sock):
        Reader(sock).request()
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n"
                     b"transfer-encoding: chunked\r\n\r\n")
        for number in range(3):
            sock.sendall(b"6\r\n%b\r\n" % message(b"%d" % number))
            proxy.wait(lambda number=number: len(taken) > number, what="the message")
        sock.sendall(b"0\r\n%b\r\n" % OK)
    proxy, _ = run(start, serve, [WEB], handle=handle)
    with Client(proxy.port()) as client:
        client.send(b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web-text\r\n"
                    b"accept: application/grpc-web-text\r\ncontent-length: 0\r\n\r\n" % PATH.encode())
        client.reader.head()
        for number in range(3):
            size = int(client.reader.line(), 16)
            assert client.reader.take(size) == base64.b64encode(message(b"%d" % number))
            client.reader.take(2)
            taken.append(number)


def test_a_message_is_encoded_as_it_comes(start, serve):
    """Its length is the upstream's word: a gigabyte that never comes is not waited for."""
    def handle(sock):
        Reader(sock).request()
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n"
                     b"transfer-encoding: chunked\r\n\r\na\r\n\0\x40\0\0\0hello\r\n")
        sock.recv(1)
    proxy, _ = run(start, serve, [WEB], handle=handle)
    with Client(proxy.port(), timeout=5) as client:
        client.send(b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web-text\r\n"
                    b"accept: application/grpc-web-text\r\ncontent-length: 0\r\n\r\n" % PATH.encode())
        client.reader.head()
        if not proxy.is_envoy:  # keeps the whole message
            size = int(client.reader.line(), 16)
            assert client.reader.take(size) == base64.b64encode(b"\0\x40\0\0\0hell")


# --- grpc_stats -----------------------------------------------------------------------------------
def counted(proxy):
    return {name.removeprefix("cluster.up.grpc."): value
            for name, value in proxy.stats("cluster.up.grpc").items()}


def test_stats_of_all_calls_together(start, serve):
    proxy, _ = run(start, serve, [stats_filter()], call(body=HELLO * 3))
    post(proxy, GRPC, HELLO * 2)
    post(proxy, GRPC + "+json", HELLO, "/other.Svc/M")
    post(proxy, "application/json", HELLO)
    post(proxy, GRPC, HELLO, "/no-method")
    assert counted(proxy) == {"0": 2, "success": 2, "total": 2, "request_message_count": 3,
                              "response_message_count": 6}


def test_stats_of_each_method(start, serve):
    answers = {"/pkg.Svc/Bad": call(trailers=b"grpc-status: 5\r\n"),
               "/pkg.Svc/Head": response(200, b"", {"content-type": GRPC, "grpc-status": "7"}),
               "/pkg.Svc/Html": response(503, b"x", {"content-type": "text/html"})}
    proxy, _ = run(start, serve, [stats_filter(stats_for_all_methods=True,
                                               replace_dots_in_grpc_service_name=True)],
                   lambda rq: answers.get(rq.target, call()))
    for path in [PATH, *answers]:
        post(proxy, GRPC, path=path)
    assert counted(proxy) == {
        "pkg_Svc.Method.0": 1, "pkg_Svc.Method.success": 1, "pkg_Svc.Method.total": 1,
        "pkg_Svc.Method.request_message_count": 1, "pkg_Svc.Method.response_message_count": 1,
        "pkg_Svc.Bad.5": 1, "pkg_Svc.Bad.failure": 1, "pkg_Svc.Bad.total": 1,
        "pkg_Svc.Bad.request_message_count": 1, "pkg_Svc.Bad.response_message_count": 1,
        "pkg_Svc.Head.7": 1, "pkg_Svc.Head.failure": 1, "pkg_Svc.Head.total": 1,
        "pkg_Svc.Head.request_message_count": 1, "pkg_Svc.Html.request_message_count": 1}


def test_stats_of_listed_methods(start, serve):
    proxy, _ = run(start, serve, [stats_filter(individual_method_stats_allowlist={
        "services": [{"name": "pkg.Svc", "method_names": ["Method"]}]})])
    post(proxy, GRPC)
    post(proxy, GRPC, path="/pkg.Svc/Other")
    stats = counted(proxy)
    assert (stats["pkg.Svc.Method.total"], stats["total"]) == (1, 1)
    assert not [name for name in stats if "Other" in name]


def test_connect_has_messages_but_no_status(start, serve):
    proxy, _ = run(start, serve, [stats_filter()])
    post(proxy, "application/connect+proto")
    assert counted(proxy) == {"request_message_count": 1, "response_message_count": 1}


def test_names_that_clients_choose_are_bounded(start, serve):
    proxy, _ = run(start, serve, [stats_filter(stats_for_all_methods=True)],
                   call(trailers=b""))
    with Client(proxy.port()) as client:
        for number in range(1000):
            client.ask("POST", f"/pkg.Svc/M{number}", {"content-type": GRPC}, HELLO)
    if not proxy.is_envoy:
        assert len(counted(proxy)) <= 800
        assert counted(proxy)["request_message_count"] > 0
