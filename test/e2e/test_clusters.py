"""What the configuration of a cluster does to its requests."""

from controlplane import mesh
from harness.http1 import ask
from harness.proxy import cluster, http_listener, static
from harness.upstream import response

OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def http_options(**fields):
    return {OPTIONS: {"@type": "type.googleapis.com/" + OPTIONS, **fields}}


def test_some_requests_are_dropped(start, serve):
    up = cluster("up", serve())
    up["load_assignment"]["policy"] = {"drop_overloads": [
        {"category": "test", "drop_percentage": {"numerator": 50}}]}
    proxy = start(static([http_listener([mesh.route("up")], log="access.log")], [up]))
    answers = [ask(proxy.port()) for _ in range(60)]
    dropped = [a for a in answers if a.status == 503]
    assert 10 < len(dropped) < 50 and {a.status for a in answers} == {200, 503}
    assert {(a.body, a.get("x-envoy-drop-overload")) for a in dropped} == {(b"drop overload", "true")}
    entries = [e for e in proxy.wait_log(60) if str(e["code"]) == "503"]
    assert {e["flags"] for e in entries} == {"DO"}


def test_all_requests_are_dropped(start, serve):
    up = cluster("up", serve())
    up["load_assignment"]["policy"] = {"drop_overloads": [
        {"category": "test", "drop_percentage": {"numerator": 100}}]}
    proxy = start(static([http_listener([mesh.route("up")], log="access.log")], [up]))
    answer = ask(proxy.port())
    assert (answer.status, answer.body) == (503, b"unconditional drop overload")
    assert answer.get("x-envoy-unconditional-drop-overload") == "true"
    assert proxy.wait_log()[0]["flags"] == "UDO"


def test_a_header_names_the_destination(start, serve):
    one, two = serve(name="one"), serve(name="two")
    proxy = start(static([http_listener([mesh.route("dst")], log="access.log")], [{
        "name": "dst", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": {"use_http_header": True}}]))
    for upstream in (one, two, one):
        host, port = upstream.endpoint
        answer = ask(proxy.port(), headers=[("x-envoy-original-dst-host", f"{host}:{port}")])
        assert answer.status == 200 and answer.body == upstream.name.encode()
    # without a destination the request would come back to the listener it came from
    for headers in ([], [("x-envoy-original-dst-host", "nowhere")]):
        assert ask(proxy.port(), headers=headers).status == 503
    refused = [e["flags"] for e in proxy.wait_log(5) if str(e["code"]) == "503"]
    assert refused == ["UH", "UH"]
    assert proxy.stat("cluster.dst.original_dst_host_invalid") >= 1


def test_large_response_heads(start, serve):
    upstream = serve(lambda r: response(headers=[("x-big", "x" * 20000)]))
    options = http_options(explicit_http_config={"http_protocol_options": {}},
                           common_http_protocol_options={"max_response_headers_kb": 10})
    proxy = start(static([http_listener([mesh.route("up")]), http_listener(
        [mesh.route("small")], name="second")],
                         [cluster("up", upstream),
                          cluster("small", upstream, typed_extension_protocol_options=options)]))
    assert ask(proxy.port()).status == 200
    assert ask(proxy.port("second")).status in (502, 503)


def test_connections_are_renewed(start, serve):
    options = http_options(explicit_http_config={"http_protocol_options": {}},
                           common_http_protocol_options={"max_requests_per_connection": 2})
    proxy = start(static([http_listener([mesh.route("up")])], [
        cluster("up", serve(), typed_extension_protocol_options=options)]), concurrency=1)
    for _ in range(6):
        assert ask(proxy.port()).status == 200
    assert proxy.stat("cluster.up.upstream_cx_total") == 3
    proxy.wait(lambda: proxy.stat("cluster.up.upstream_cx_max_requests") == 3)


def test_priorities_and_weights(start, serve):
    first, second, spare = serve(name="1"), serve(name="2"), serve(name="3")

    def endpoint(upstream, **more):
        host, port = upstream.endpoint
        return {"endpoint": {"address": {"socket_address": {
            "address": host, "port_value": port}}}, **more}
    proxy = start(static([http_listener([mesh.route("up")])], [{
        "name": "up", "load_assignment": {"cluster_name": "up", "endpoints": [
            {"lb_endpoints": [endpoint(first, load_balancing_weight=1),
                              endpoint(second, load_balancing_weight=3)]},
            {"priority": 1, "lb_endpoints": [endpoint(spare)]}]}}]), concurrency=1)
    bodies = [ask(proxy.port()).body for _ in range(40)]
    assert bodies.count(b"3") == 0
    assert 9 <= bodies.count(b"1") <= 11
