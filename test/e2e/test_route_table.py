"""Route tables against Envoy's answers: the cases of route_cases.yaml, each on a listener of its own
in one proxy."""

import json
import pathlib
import time

import pytest
import yaml

from controlplane import mesh
from harness.http1 import Client
from harness.proxy import cluster, listener, static
from harness.upstream import response

CASES = yaml.safe_load((pathlib.Path(__file__).parent / "route_cases.yaml").read_text())
CLUSTERS = ("a", "b", "c", "d")
# What every request or response has, and what differs between two runs.
NOT_COMPARED = {"x-request-id", "x-forwarded-proto", "x-envoy-expected-rq-timeout-ms", "date",
                "server", "x-envoy-upstream-service-time", "content-length", "connection",
                "user-agent"}


def fields(headers):
    return sorted(f"{name}: {value}" for name, value in headers if name not in NOT_COMPARED)


def teller(name):
    """teller answers with what it was asked."""
    def answer(request):
        told = {"cluster": name, "target": request.target, "headers": fields(request.headers)}
        return response(body=json.dumps(told).encode())
    return answer


def ask(port, request):
    """ask returns the answer in the words of route_cases.yaml."""
    host, sent = request.get("host", "test"), request.get("headers", [])
    method = request.get("method", "GET")
    with Client(port) as client:
        lines = [f"{method} {request['target']} HTTP/1.1", f"Host: {host}", *sent]
        client.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
        got = client.response(method)
    answer = {"status": got.status}
    if got.body.startswith(b'{"cluster"'):
        told = json.loads(got.body)
        answer["cluster"] = told["cluster"]
        if told["target"] != request["target"]:
            answer["target"] = told["target"]
        if told["headers"] != sorted([*sent, f"host: {host}"]):
            answer["headers"] = told["headers"]
    elif got.body:
        answer["body"] = got.body.decode("latin-1")
    if fields(got.headers):
        answer["response"] = fields(got.headers)
    return answer


def test_route_cases(start, serve):
    listeners = [listener([mesh.hcm(f"case{i}", route_config=case["config"],
                                    **case.get("hcm", {}))], f"case{i}")
                 for i, case in enumerate(CASES)]
    proxy = start(static(listeners, [cluster(n, serve(teller(n))) for n in CLUSTERS]))
    ports = proxy.listener_ports()
    wrong = []
    for i, case in enumerate(CASES):
        for request in case["requests"]:
            got = ask(ports[f"case{i}"], request["ask"])
            if got != request["answer"]:
                wrong.append(f"{case['name']}: {request['ask']}\n    want {request['answer']}\n"
                             f"    got  {got}")
    assert not wrong, "\n".join(wrong)


def slow(seconds):
    def answer(_):
        time.sleep(seconds)
        return response(body=b"late")
    return answer


@pytest.mark.parametrize("route,headers,details", [
    ({"max_stream_duration": {"max_stream_duration": "0.3s"}}, {}, "max_duration_timeout"),
    ({"max_stream_duration": {"grpc_timeout_header_max": "0s"}}, {"grpc-timeout": "300m"},
     "max_duration_timeout"),
    ({"max_stream_duration": {"grpc_timeout_header_max": "0.3s"}}, {}, "via_upstream"),
    ({"max_stream_duration": {}, "timeout": "0.3s"}, {}, "via_upstream"),
    ({"max_grpc_timeout": "0.3s", "timeout": "0s"}, {"content-type": "application/grpc"},
     "response_timeout"),
    ({"max_grpc_timeout": "0s", "grpc_timeout_offset": "0.1s"},
     {"content-type": "application/grpc", "grpc-timeout": "300m"}, "response_timeout"),
])
def test_durations(start, serve, route, headers, details):
    upstream = serve(slow(2))
    filters = [mesh.hcm("test", log="access.log", route_config=mesh.route_config("r", [
        {"match": {"prefix": "/"}, "route": {"cluster": "up", **route}}]))]
    proxy = start(static([listener(filters)], [cluster("up", upstream)]))
    with Client(proxy.port()) as client:
        client.ask(headers=headers)
    assert proxy.wait_log()[0]["details"] == details


def test_auto_host_rewrite(start, serve):
    upstream = serve(teller("up"))
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "up", "auto_host_rewrite": True,
                                                   "append_x_forwarded_host": True}}]
    host = {"endpoint": {"hostname": "my.host",
                         "address": {"socket_address": {"address": upstream.host,
                                                        "port_value": upstream.port}}}}
    named = {**cluster("up", upstream), "load_assignment": {
        "cluster_name": "up", "endpoints": [{"lb_endpoints": [host]}]}}
    proxy = start(static([listener([mesh.hcm("test", route_config=mesh.route_config("r", routes))])],
                         [named]))
    answer = ask(proxy.port(), {"target": "/"})
    assert answer["headers"] == ["host: my.host", "x-envoy-original-host: test",
                                 "x-forwarded-host: test"]


@pytest.mark.parametrize("connection_manager,route,allowed", [
    (None, True, True), (True, False, False), (False, True, True), (True, None, True),
    (None, None, False)])
def test_upgrades_of_a_route(start, serve, connection_manager, route, allowed):
    def configs(enabled):
        return [] if enabled is None else [{"upgrade_type": "WebSocket", "enabled": enabled}]
    upstream = serve(lambda _: b"HTTP/1.1 101 Up\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    routes = [{"match": {"prefix": "/"},
               "route": {"cluster": "up", "upgrade_configs": configs(route)}}]
    filters = [mesh.hcm("test", route_config=mesh.route_config("r", routes),
                        upgrade_configs=configs(connection_manager))]
    proxy = start(static([listener(filters)], [cluster("up", upstream)]))
    with Client(proxy.port()) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\n"
                    b"Upgrade: websocket\r\n\r\n")
        assert client.response().status == (101 if allowed else 403)


def test_redirect_rewrites_the_logged_path(start):
    routes = [{"match": {"prefix": "/p"}, "redirect": {"prefix_rewrite": "/new"}},
              {"match": {"prefix": "/r"}, "redirect": {"path_redirect": "/new"}}]
    filters = [mesh.hcm("test", log="access.log",
                        route_config=mesh.route_config("r", routes))]
    proxy = start(static([listener(filters)], []))
    assert ask(proxy.port(), {"target": "/p/a?x"})["response"] == ["location: http://test/new/a?x"]
    assert ask(proxy.port(), {"target": "/r?x"})["response"] == ["location: http://test/new?x"]
    paths = {entry["path"] for entry in proxy.wait_log(2)}
    assert paths == {"/new/a?x", "/r?x"}
