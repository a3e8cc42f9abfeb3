"""fault: delays, aborts and slow responses, for those that fit."""

import threading
import time

import pytest

from controlplane import mesh
from harness.filters import http_filter, override, refusal, routed, start_with
from harness.http1 import Client, ask
from harness.proxy import cluster
from harness.upstream import response

FAULT = http_filter("fault", "fault.v3.HTTPFault")
GRPC = {"Content-Type": "application/grpc"}
TEXT = b"fault filter abort"


def share(percent=100):
    return {"numerator": percent, "denominator": "HUNDRED"}


def abort(percent=100, **how):
    return {"abort": {**how, "percentage": share(percent)}}


def delay(percent=100, **how):
    return {"delay": {**how, "percentage": share(percent)}}


def limit(percent=100, **how):
    return {"response_rate_limit": {**how, "percentage": share(percent)}}


def run(start, serve, fault, size=10, **more):
    upstream = serve(lambda request: response(200, b"x" * size))
    return start_with(start, upstream, [FAULT], [
        routed("/", override("fault", "fault.v3.HTTPFault", **fault))], **more), upstream


def last(proxy, n=1):
    line = proxy.wait_log(n)[-1]
    return line["flags"], line["details"]


@pytest.mark.parametrize("how,headers,status,grpc", [
    ({"http_status": 418}, {}, 418, None),
    ({"http_status": 418}, GRPC, 200, "2"),
    ({"grpc_status": 5}, {}, 200, None),
    ({"grpc_status": 5}, GRPC, 200, "5"),
    ({"header_abort": {}}, {"x-envoy-fault-abort-request": "404"}, 404, None),
    ({"header_abort": {}}, {**GRPC, "x-envoy-fault-abort-grpc-request": "7"}, 200, "7"),
    ({"header_abort": {}}, {"x-envoy-fault-abort-grpc-request": "7"}, 200, None),
])
def test_abort(start, serve, how, headers, status, grpc):
    proxy, upstream = run(start, serve, abort(**how))
    got = ask(proxy.port(), headers=headers)
    assert (got.status, got.get("grpc-status")) == (status, grpc)
    assert (got.get("grpc-message") == TEXT.decode()) if headers.get("Content-Type") else \
        got.body == TEXT
    assert last(proxy) == ("FI", "fault_filter_abort")
    assert not upstream.requests
    assert proxy.stat("http.test.fault.aborts_injected") == 1
    assert proxy.stat("http.test.fault.active_faults") == 0


@pytest.mark.parametrize("headers", [
    {}, {"x-envoy-fault-abort-request": "100"}, {"x-envoy-fault-abort-request": "600"},
    {"x-envoy-fault-abort-request": "x"},
    {"x-envoy-fault-abort-request": "404", "x-envoy-fault-abort-request-percentage": "0"},
])
def test_no_abort_by_header(start, serve, headers):
    proxy, upstream = run(start, serve, abort(header_abort={}))
    assert ask(proxy.port(), headers=headers).status == 200
    assert proxy.stat("http.test.fault.aborts_injected") == 0


def test_header_cannot_ask_for_more(start, serve):
    proxy, _ = run(start, serve, abort(percent=0, header_abort={}))
    assert ask(proxy.port(), headers={"x-envoy-fault-abort-request": "404",
                                      "x-envoy-fault-abort-request-percentage": "100"}).status == 200


def test_delay_then_abort(start, serve):
    proxy, upstream = run(start, serve, {**delay(fixed_delay="0.3s"), **abort(http_status=500)})
    began = time.monotonic()
    assert ask(proxy.port(),
               headers={"x-envoy-downstream-service-cluster": "from"}).status == 500
    assert time.monotonic() - began >= 0.3
    assert last(proxy) == ("DI,FI", "fault_filter_abort")
    assert not upstream.requests
    stats = {n.removeprefix("http.test.fault."): v for n, v in proxy.stats("test.fault").items() if v}
    assert stats == {"aborts_injected": 1, "delays_injected": 1, "from.aborts_injected": 1,
                     "from.delays_injected": 1}


def test_no_cluster_stats(start, serve):
    proxy, _ = run(start, serve, {**abort(http_status=500),
                                  "disable_downstream_cluster_stats": True})
    ask(proxy.port(), headers={"x-envoy-downstream-service-cluster": "from"})
    assert proxy.stat("http.test.fault.aborts_injected") == 1
    assert proxy.stats("fault.from") == {}


def test_delay_by_header_holds_the_body(start, serve):
    proxy, upstream = run(start, serve, delay(header_delay={}))
    with Client(proxy.port()) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\nx-envoy-fault-delay-request: 300\r\n"
                    b"content-length: 6\r\n\r\nabc")
        proxy.wait_stat("http.test.fault.delays_injected")
        assert proxy.stat("http.test.fault.active_faults") == 1
        client.send(b"def")
        assert client.response().status == 200
    assert upstream.requests[0].body == b"abcdef"
    assert last(proxy) == ("DI", "via_upstream")
    proxy.wait(lambda: proxy.stat("http.test.fault.active_faults") == 0)


@pytest.mark.parametrize("headers", [
    {}, {"x-envoy-fault-delay-request": "x"}, {"x-envoy-fault-delay-request": "0"},
    {"x-envoy-fault-delay-request": "9000", "x-envoy-fault-delay-request-percentage": "0"},
])
def test_no_delay_by_header(start, serve, headers):
    proxy, _ = run(start, serve, delay(header_delay={}))
    assert ask(proxy.port(), headers=headers).status == 200
    assert last(proxy)[0] == "-"


def test_client_leaves_during_the_delay(start, serve):
    proxy, upstream = run(start, serve, delay(fixed_delay="60s"))
    client = Client(proxy.port())
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    proxy.wait_stat("http.test.fault.delays_injected")
    client.sock.close()
    assert "DC" in last(proxy)[0]
    proxy.wait(lambda: proxy.stat("http.test.fault.active_faults") == 0)
    assert not upstream.requests


def test_max_active_faults(start, serve):
    fault = {**delay(header_delay={}), "max_active_faults": 1}
    proxy, _ = run(start, serve, fault)
    slow = Client(proxy.port(), timeout=30)
    slow.send(b"GET / HTTP/1.1\r\nhost: a\r\nx-envoy-fault-delay-request: 60000\r\n\r\n")
    proxy.wait_stat("http.test.fault.active_faults")
    assert ask(proxy.port(), headers={"x-envoy-fault-delay-request": "60000"}).status == 200
    assert proxy.stat("http.test.fault.faults_overflow") == 1
    slow.sock.close()


@pytest.mark.parametrize("only,headers,status", [
    ({"upstream_cluster": "up"}, {}, 500),
    ({"upstream_cluster": "other"}, {}, 200),
    ({"downstream_nodes": ["n1", "n2"]}, {"x-envoy-downstream-service-node": "n2"}, 500),
    ({"downstream_nodes": ["n1", "n2"]}, {"x-envoy-downstream-service-node": "n3"}, 200),
    ({"downstream_nodes": ["n1", "n2"]}, {}, 200),
    ({"headers": [{"name": "x-f", "string_match": {"exact": "1"}}]}, {"x-f": "1"}, 500),
    ({"headers": [{"name": "x-f", "string_match": {"exact": "1"}}]}, {"x-f": "2"}, 200),
    ({"max_active_faults": 0}, {}, 200),
])
def test_who_fits(start, serve, only, headers, status):
    proxy, _ = run(start, serve, {**abort(http_status=500), **only})
    assert ask(proxy.port(), headers=headers).status == status


def test_share(start, serve):
    proxy, _ = run(start, serve, abort(percent=50, http_status=500))
    with Client(proxy.port()) as client:
        aborted = sum(client.ask().status == 500 for _ in range(200))
    assert 50 <= aborted <= 150  # 7 standard deviations


def test_unset_share_is_nobody(start, serve):
    proxy, _ = run(start, serve, {"abort": {"http_status": 500}, "delay": {"fixed_delay": "9s"}})
    assert ask(proxy.port()).status == 200
    assert last(proxy)[0] == "-"


def test_filter_config_without_override(start, serve):
    fault = http_filter("fault", "fault.v3.HTTPFault", **abort(http_status=503))
    none = override("fault", "fault.v3.HTTPFault")
    proxy = start_with(start, serve(), [fault], [routed("/none", none), mesh.route("up")])
    assert ask(proxy.port(), "/").status == 503
    assert ask(proxy.port(), "/none").status == 200


# --- rate of responses ----------------------------------------------------------------------------
def test_slow_response(start, serve):
    proxy, _ = run(start, serve, limit(fixed_limit={"limit_kbps": 20}), size=10000)
    began = time.monotonic()
    assert ask(proxy.port()).body == b"x" * 10000
    assert time.monotonic() - began >= 0.4
    assert last(proxy)[0] == "-"
    assert proxy.stat("http.test.fault.response_rl_injected") == 1
    proxy.wait(lambda: proxy.stat("http.test.fault.active_faults") == 0)


def test_slow_response_by_header(start, serve):
    proxy, _ = run(start, serve, limit(header_limit={}), size=20000)
    assert len(ask(proxy.port(), headers={"x-envoy-fault-throughput-response": "100"}).body) == 20000
    assert len(ask(proxy.port(), headers={"x-envoy-fault-throughput-response": "0"}).body) == 20000
    assert len(ask(proxy.port()).body) == 20000
    assert proxy.stat("http.test.fault.response_rl_injected") == 1


def test_slow_response_with_trailers(start, serve):
    chunk = b"%x\r\n%b\r\n" % (6000, b"x" * 6000)
    upstream = serve(lambda request: b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                     + chunk + b"0\r\nt: 1\r\n\r\n")
    options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}}}}
    fault = http_filter("fault", "fault.v3.HTTPFault", **limit(fixed_limit={"limit_kbps": 50}))
    proxy = start_with(start, upstream, [fault],
                       hcm={"http_protocol_options": {"enable_trailers": True}},
                       clusters=[cluster("up", upstream,
                                         typed_extension_protocol_options=options)])
    got = ask(proxy.port())
    assert (got.body, got.trailers) == (b"x" * 6000, [("t", "1")])


def test_slow_response_holds_the_upstream_back(start, serve):
    """No more than the buffer limit is taken from an upstream that is faster."""
    sent = threading.Event()
    size = 30_000_000

    def handle(sock):
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
        sent.set()
    upstream = serve(handle=handle)
    proxy, _ = run(start, lambda _: upstream, limit(fixed_limit={"limit_kbps": 1}))
    with Client(proxy.port()) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.reader.head().status == 200
        assert not sent.wait(1.5)
    proxy.wait(lambda: proxy.stat("http.test.fault.active_faults") == 0)


@pytest.mark.parametrize("fault", [
    {"abort": {"http_status": 199}}, {"abort": {"http_status": 600}}, {"abort": {}}, {"delay": {}},
    {"delay": {"fixed_delay": "0s"}}, {"response_rate_limit": {}},
    {"response_rate_limit": {"fixed_limit": {"limit_kbps": 0}}},
])
def test_refused(binary, tmp_path, fault):
    assert refusal(binary, tmp_path, [http_filter("fault", "fault.v3.HTTPFault", **fault)])
