"""Upstream HTTP filters: between the router and each of its tries."""

import importlib
import json
import random
import subprocess

import pytest

from controlplane import mesh, xds
from harness import codecs
from harness.http1 import Client, Closed, ask
from harness.proxy import cluster, dynamic, http_listener, static
from harness.upstream import response

TYPES = "type.googleapis.com/envoy.extensions.filters.http"
CODEC = {"name": "envoy.filters.http.upstream_codec",
         "typed_config": {"@type": f"{TYPES}.upstream_codec.v3.UpstreamCodec"}}


def router(*filters):
    return {"name": "envoy.filters.http.router", "typed_config": {
        "@type": f"{TYPES}.router.v3.Router", "upstream_http_filters": list(filters)}}


def mutation(**fields):
    return {"name": "envoy.filters.http.header_mutation", "typed_config": {
        "@type": f"{TYPES}.header_mutation.v3.HeaderMutation", "mutations": fields}}


def append(name, value):
    return {"append": {"header": {"key": name, "value": value}}}


def buffer(limit):
    return {"name": "envoy.filters.http.buffer", "typed_config": {
        "@type": f"{TYPES}.buffer.v3.Buffer", "max_request_bytes": limit}}


def compressor(**fields):
    return {"name": "envoy.filters.http.compressor", "typed_config": {
        "@type": f"{TYPES}.compressor.v3.Compressor", "compressor_library": {
            "name": "gzip", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip"
            }}, **fields}}


def bootstrap(filters, up, **more):
    return static([http_listener([mesh.route("up", **more)], log="access.log",
                                 hcm={"http_filters": filters})], [cluster("up", up)])


def run(start, serve, filters, answer=None, **more):
    upstream = serve(answer or (lambda request: response(200, request.body)))
    return start(bootstrap([router(*filters, CODEC)], upstream, **more)), upstream


def test_heads_are_changed(start, serve):
    proxy, upstream = run(start, serve, [mutation(
        request_mutations=[append("x-up", "yes")], response_mutations=[append("x-down", "too")])])
    answer = ask(proxy.port(), method="POST", body=b"body")
    assert (answer.body, answer.get("x-down")) == (b"body", "too")
    assert upstream.requests[0].get("x-up") == "yes"


def test_order_of_filters(start, serve):
    proxy, upstream = run(start, serve, [
        mutation(request_mutations=[append("x", "1")], response_mutations=[append("y", "1")]),
        mutation(request_mutations=[append("x", "2")], response_mutations=[append("y", "2")])])
    assert ask(proxy.port()).get("y") == "2,1"
    assert upstream.requests[0].get("x") == "1,2"


def test_buffered_before_it_goes_out(start, serve):
    proxy, upstream = run(start, serve, [buffer(1000)])
    with Client(proxy.port()) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
                    b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
        assert client.response().body == b"abcdefg"
    assert upstream.requests[0].get("content-length") == "7"


def test_bodies_are_changed(start, serve):
    body = random.Random(5).randbytes(100) * 3000
    proxy, upstream = run(start, serve, [compressor(request_direction_config={})],
                          lambda rq: response(200, b"x" * 5000, {"content-type": "text/plain"}))
    with Client(proxy.port()) as client:
        for _ in range(3):
            answer = client.ask("POST", headers={"accept-encoding": "gzip"}, body=body)
            assert codecs.Gzip.stream().decompress(answer.body) == b"x" * 5000
    assert all(codecs.Gzip.stream().decompress(rq.body) == body for rq in upstream.requests)


def test_each_try_has_its_own(start, serve):
    answers = [response(503), response(200, b"fine")]
    proxy, upstream = run(start, serve, [mutation(response_mutations=[append("x-down", "too")])],
                          lambda rq: answers.pop(0),
                          retry_policy={"retry_on": "5xx", "num_retries": 2})
    answer = ask(proxy.port(), method="POST", body=b"twice")
    assert (answer.body, answer.get("x-down")) == (b"fine", "too")
    assert [rq.body for rq in upstream.requests] == [b"twice", b"twice"]


def test_disabled(start, serve):
    proxy, upstream = run(start, serve, [{**mutation(request_mutations=[append("x-up", "yes")]),
                                          "disabled": True}])
    assert ask(proxy.port()).status == 200
    assert upstream.requests[0].get("x-up") is None


def test_filter_that_fails_amid_the_response(start, serve):
    """Its head has gone: no second one follows, and nobody waits for the rest."""
    packed = codecs.Gzip.compress(random.Random(5).randbytes(200000))
    decompressor = {"name": "envoy.filters.http.decompressor", "typed_config": {
        "@type": f"{TYPES}.decompressor.v3.Decompressor", "decompressor_library": {
            "name": "gzip", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.compression.gzip.decompressor.v3.Gzip"
            }}}}
    proxy, _ = run(start, serve, [decompressor], lambda request: response(
        200, packed[:-5000], {"content-encoding": "gzip"}))
    with Client(proxy.port(), timeout=5) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        if proxy.is_envoy:
            assert client.reader.head().status == 200
        else:
            with pytest.raises(Closed):
                client.response()
    entry = proxy.wait_log(1)[0]
    assert entry["code"] == 200
    if not proxy.is_envoy:
        assert entry["details"] == "upstream_reset_after_response_started{protocol_error}"


def test_upstream_that_breaks_off(start, serve):
    proxy, _ = run(start, serve, [mutation(request_mutations=[append("x-up", "yes")])],
                   lambda rq: None)
    assert ask(proxy.port(), method="POST", body=b"x").status == 503
    assert proxy.wait_log(1)[0]["flags"] == "UC"


@pytest.mark.parametrize("filters", [
    [router(mutation(request_mutations=[append("x", "y")]))],
    [router({"name": "envoy.filters.http.cors",
             "typed_config": {"@type": f"{TYPES}.cors.v3.Cors"}}, CODEC)],
    [CODEC],
], ids=["without-codec", "not-upstream", "codec-downstream"])
def test_refused(binary, tmp_path, filters):
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps(xds._expand(bootstrap(filters, ("127.0.0.1", 1)))))
    done = subprocess.run([binary[0], "-c", str(file), "--mode", "validate"],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode != 0


def of_cluster(up, *filters):
    options = {"@type": "HttpProtocolOptions", "http_filters": list(filters),
               "explicit_http_config": {"http_protocol_options": {}}}
    return cluster("up", up, typed_extension_protocol_options={
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options})


def test_filters_of_a_cluster_count_more(start, serve):
    upstream = serve()
    listener = http_listener([mesh.route("up")], hcm={"http_filters": [
        router(mutation(request_mutations=[append("x-router", "yes")]), CODEC)]})
    proxy = start(static([listener], [of_cluster(
        upstream, mutation(request_mutations=[append("x-cluster", "yes")]), CODEC)]))
    assert ask(proxy.port()).status == 200
    assert upstream.requests[0].get("x-cluster") == "yes"
    assert upstream.requests[0].get("x-router") is None


def test_filters_of_a_cluster_that_changes(start, serve, control_plane):
    """Requests under way keep the filters that they began with."""
    for name in ("buffer.v3.buffer", "header_mutation.v3.header_mutation",
                 "upstream_codec.v3.upstream_codec"):  # known to the control plane then
        importlib.import_module(f"envoy.extensions.filters.http.{name}_pb2")
    upstream = serve(lambda request: response(200, request.body))
    listener = http_listener([mesh.route("up")])
    control_plane.set("Cluster", [xds.message("Cluster", of_cluster(upstream, buffer(1000), CODEC))])
    control_plane.set("Listener", [xds.message("Listener", listener)])
    proxy = start(dynamic(control_plane))
    with Client(proxy.port()) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc")
        proxy.wait_stat("cluster.up.upstream_rq_active")
        control_plane.set("Cluster", [xds.message("Cluster", of_cluster(
            upstream, mutation(request_mutations=[append("x-new", "yes")]), CODEC))])
        proxy.wait(lambda: ask(proxy.port()).status == 200 and upstream.requests[-1].get("x-new"))
        client.send(b"def")
        assert client.response().body == b"abcdef"


@pytest.mark.parametrize("filters,path", [
    ([mutation()], "http_filters"),
    ([{"name": "envoy.filters.http.fault", "typed_config": {
        "@type": f"{TYPES}.fault.v3.HTTPFault"}}, CODEC], "http_filters[0]")])
def test_filters_of_a_cluster_that_are_refused(binary, serve, tmp_path, filters, path):
    config = tmp_path / "bootstrap.json"
    config.write_text(json.dumps(xds._expand(static([], [of_cluster(serve(), *filters)]))))
    done = subprocess.run([binary[0], "--mode", "validate", "-c", str(config)],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    if not binary[1]:
        assert path in done.stderr + done.stdout
