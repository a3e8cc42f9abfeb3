"""Active health checks: what is asked, what follows from the answer, and what is told of it."""

import json
import os
import time

from controlplane import mesh, xds
from harness import tls
from harness.http1 import ask
from harness.http2 import Http2Server, upstream_options
from harness.proxy import cluster, http_listener, static
from harness.upstream import response

FAST = {"timeout": "2s", "interval": "0.1s", "no_traffic_interval": "0.1s",
        "unhealthy_threshold": 1, "healthy_threshold": 1}
NO_PANIC = {"healthy_panic_threshold": {"value": 0}}


def http_check(path="/hc", more=None, **http):
    return {**FAST, **(more or {}), "http_health_check": {"path": path, **http}}


def flags(proxy, server, name="up"):
    """flags are the health flags of a host in /clusters; None: it is not there."""
    start = f"{name}::127.0.0.1:{server.port}::health_flags::"
    for line in proxy.admin("/clusters")[1].splitlines():
        if line.startswith(start):
            return line[len(start):]
    return None


def wait_flags(proxy, server, wanted, name="up"):
    proxy.wait(lambda: flags(proxy, server, name) == wanted, 15,
               f"{wanted}, not {flags(proxy, server, name)}")


def served(proxy, status):
    """The workers hear of what /clusters shows a moment later."""
    port = proxy.port()
    proxy.wait(lambda: ask(port).status == status, 10, f"status {status}")


def hc(proxy, stat, name="up"):
    return proxy.stat(f"cluster.{name}.health_check.{stat}")


def events(proxy, name="events.log"):
    return proxy.log_entries(name)


def kind_of(event):
    return next(key for key in event if key.endswith(("_event", "_host")))


def checked(server, path="/hc"):
    return [r for r in server.requests if r.start[1] == path]


class Answer:
    """An answer that a test changes."""

    def __init__(self, status=200, headers=(), body=b"", delay=0):
        self.status, self.headers, self.body, self.delay = status, headers, body, delay

    def __call__(self, request):
        if request.start[1] != "/hc":
            return response(body=b"data")
        if self.delay:
            time.sleep(self.delay)
        return response(self.status, self.body, self.headers)


def begin(start, server, check, **more):
    more.setdefault("common_lb_config", NO_PANIC)
    return start(static([http_listener([mesh.route("up")])],
                        [cluster("up", server, health_checks=[check], **more)]))


# --- what is asked --------------------------------------------------------------------------------
def test_request_of_a_check(start, serve):
    server = serve(Answer())
    proxy = begin(start, server, http_check(
        host="check.example", method="POST", send={"text": "68656c6c6f"},
        request_headers_to_add=[{"header": {"key": "x-added", "value": "yes"}}],
        request_headers_to_remove=["user-agent"]))
    request = checked(server)[0]
    assert request.start == ["POST", "/hc", "HTTP/1.1"]
    assert request.body == b"hello"
    assert dict(request.headers) == {"host": "check.example", "x-added": "yes",
                                     "content-length": "5"}
    wait_flags(proxy, server, "healthy")
    proxy.wait(lambda: len(checked(server)) >= 4, 10, "more checks")
    assert server.connections == 1  # the connection is used again


def test_defaults_of_the_request(start, serve):
    server = serve(Answer())
    begin(start, server, http_check(more={"reuse_connection": False}))
    deadline = time.monotonic() + 10
    while len(checked(server)) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert checked(server)[0].start == ["GET", "/hc", "HTTP/1.1"]
    assert dict(checked(server)[0].headers) == {"host": "up", "user-agent": "Envoy/HC"}
    assert server.connections >= 3


def test_where_and_under_what_name_an_endpoint_is_checked(start, serve):
    data, health = serve(Answer()), serve(Answer())
    other = serve(Answer(503))
    endpoints = [
        {"endpoint": {"address": xds.socket_address("127.0.0.1", data.port),
                      "health_check_config": {"port_value": health.port, "hostname": "its-name"}}},
        {"endpoint": {"address": xds.socket_address("127.0.0.1", other.port),
                      "health_check_config": {"disable_active_health_check": True}}}]
    up = {**cluster("up", health_checks=[http_check()]),
          "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": endpoints}]}}
    proxy = start(static([http_listener([mesh.route("up")])], [up]))
    assert dict(checked(health)[0].headers)["host"] == "its-name"
    wait_flags(proxy, data, "healthy")
    assert flags(proxy, other) == "healthy"
    assert not checked(data) and not checked(other)
    assert hc(proxy, "healthy") == 1


# --- what follows ---------------------------------------------------------------------------------
def test_statuses_and_thresholds(start, serve):
    answer = Answer()
    server = serve(answer)
    proxy = begin(start, server, http_check(
        more={"healthy_threshold": 3, "unhealthy_threshold": 3, "event_log_path": "events.log"},
        expected_statuses=[{"start": 200, "end": 202}],
        retriable_statuses=[{"start": 500, "end": 501}]))
    assert flags(proxy, server) == "healthy"  # one check is enough at the beginning
    served(proxy, 200)
    answer.status = 201
    seen = hc(proxy, "success")
    proxy.wait(lambda: hc(proxy, "success") >= seen + 2, 10, "201 to pass")
    assert flags(proxy, server) == "healthy" and hc(proxy, "failure") == 0
    answer.status = 500  # three times in a row
    wait_flags(proxy, server, "/failed_active_hc")
    assert hc(proxy, "failure") >= 3 and hc(proxy, "network_failure") == 0
    served(proxy, 503)
    assert proxy.stat("cluster.up.membership_healthy") == 0 and hc(proxy, "healthy") == 0
    before = hc(proxy, "success")
    answer.status = 200
    wait_flags(proxy, server, "healthy")
    assert hc(proxy, "success") >= before + 3
    served(proxy, 200)
    failures = hc(proxy, "failure")
    answer.status = 418  # at once
    wait_flags(proxy, server, "/failed_active_hc")
    first = [e for e in proxy.wait_log(4, "events.log")]
    assert [kind_of(e) for e in first][:4] == ["add_healthy_event", "eject_unhealthy_event",
                                               "add_healthy_event", "eject_unhealthy_event"]
    assert first[3]["eject_unhealthy_event"] == {"failure_type": "ACTIVE",
                                                 "http_status_code": 418}
    assert failures >= 3


def test_events(start, serve):
    answer = Answer()
    server = serve(answer)
    proxy = begin(start, server, http_check(more={
        "event_log_path": "events.log", "always_log_health_check_failures": True,
        "always_log_health_check_success": True}))
    proxy.wait(lambda: len(events(proxy)) >= 2, 10, "events")
    answer.headers = [("x-envoy-degraded", "true")]
    wait_flags(proxy, server, "/degraded_active_hc")
    assert proxy.stat("cluster.up.membership_degraded") == 1 and hc(proxy, "degraded") == 1
    served(proxy, 200)  # better than none
    answer.headers = ()
    wait_flags(proxy, server, "healthy")
    answer.status = 503
    wait_flags(proxy, server, "/failed_active_hc")
    wanted = {"add_healthy_event", "successful_health_check_event", "degraded_healthy_host",
              "no_longer_degraded_host", "eject_unhealthy_event", "health_check_failure_event"}
    proxy.wait(lambda: {kind_of(e) for e in events(proxy)} == wanted, 10, "all events")
    by_kind = {}
    for event in events(proxy):
        by_kind.setdefault(kind_of(event), event)
    assert by_kind["add_healthy_event"]["add_healthy_event"] == {"first_check": True}
    assert by_kind["health_check_failure_event"]["health_check_failure_event"] == {
        "failure_type": "ACTIVE", "first_check": False, "http_status_code": 503}
    for event in by_kind.values():
        assert event["health_checker_type"] == "HTTP" and event["cluster_name"] == "up"
        assert event["host"]["socket_address"] == {
            "protocol": "TCP", "address": "127.0.0.1", "port_value": server.port,
            "resolver_name": "", "ipv4_compat": False, "network_namespace_filepath": ""}
        assert event["locality"] == {"region": "", "zone": "", "sub_zone": ""}
        assert event["timestamp"].endswith("Z")


def test_payload_and_service_name(start, serve):
    answer = Answer(body=b"xx one yy two zz",
                    headers=[("x-envoy-upstream-healthchecked-cluster", "other")])
    server = serve(answer)
    proxy = begin(start, server, http_check(
        receive=[{"text": b"one".hex()}, {"text": b"two".hex()}],
        service_name_matcher={"prefix": "mine"}))
    wait_flags(proxy, server, "/failed_active_hc")
    assert hc(proxy, "verify_cluster") > 0
    answer.headers = [("x-envoy-upstream-healthchecked-cluster", "mine-too")]
    wait_flags(proxy, server, "healthy")
    answer.body = b"two before one"
    wait_flags(proxy, server, "/failed_active_hc")
    answer.body = b"-" * 1020 + b"one two"  # behind the first 1024 bytes
    time.sleep(0.5)
    assert flags(proxy, server) == "/failed_active_hc"


def test_timeout_and_refused_connection(start, serve):
    answer = Answer()
    server = serve(answer)
    proxy = begin(start, server, http_check(more={
        "timeout": "0.3s", "unhealthy_threshold": 2, "event_log_path": "events.log"}))
    answer.delay = 1
    wait_flags(proxy, server, "/failed_active_hc/active_hc_timeout")
    assert hc(proxy, "network_failure") >= 2
    server.close()
    wait_flags(proxy, server, "/failed_active_hc")
    eject = [e for e in proxy.wait_log(2, "events.log") if kind_of(e) == "eject_unhealthy_event"]
    assert eject[0]["eject_unhealthy_event"] == {"failure_type": "NETWORK_TIMEOUT",
                                                 "http_status_code": 0}


def test_host_asks_to_be_left_out(start, serve):
    server = serve()
    said = []

    def answer(request):
        if request.start[1] == "/hc":
            return None if said else response()
        said.append(1)
        return response(headers=[("x-envoy-immediate-health-check-fail", "true")])
    server.answer = answer
    proxy = begin(start, server, http_check())
    served(proxy, 200)
    wait_flags(proxy, server, "/failed_active_hc/excluded_via_immediate_hc_fail")
    assert proxy.stat("cluster.up.membership_excluded") == 1
    assert hc(proxy, "passive_failure") == 1
    served(proxy, 503)
    said.clear()
    wait_flags(proxy, server, "healthy")
    assert proxy.stat("cluster.up.membership_excluded") == 0


def test_panic_when_none_is_healthy(start, serve):
    servers = [serve(Answer(503)) for _ in range(2)]
    proxy = start(static([http_listener([mesh.route("up")])],
                         [cluster("up", *servers, health_checks=[http_check()])]))
    for server in servers:
        assert flags(proxy, server) == "/failed_active_hc"
    served(proxy, 200)
    assert proxy.stat("cluster.up.lb_healthy_panic") >= 1


# --- when -----------------------------------------------------------------------------------------
def test_cluster_is_warm_after_the_first_checks(start, serve):
    late = serve(Answer(delay=1.5))
    proxy = start(static([http_listener([mesh.route("up")])],
                         [cluster("up", late, health_checks=[http_check()])]), ready=False)
    assert not proxy.is_ready()
    proxy.wait(proxy.is_ready, 15, "readiness")
    assert flags(proxy, late) == "healthy" and checked(late)


def test_no_hurry_without_traffic(start, serve):
    server = serve(Answer())
    proxy = begin(start, server, http_check(more={"no_traffic_interval": "1s"}))
    time.sleep(0.7)
    assert len(checked(server)) == 1
    served(proxy, 200)  # counts from the next check on
    proxy.wait(lambda: len(checked(server)) >= 8, 15, "checks every 0.1 s")


# --- others ---------------------------------------------------------------------------------------
def test_tcp(start, serve):
    got, reply = [], [b"+PO", b"NG\r\n"]

    def handle(sock):
        while data := sock.recv(100):
            got.append(data)
            for part in reply:
                sock.sendall(part)
                time.sleep(0.01)
    server = serve(handle=handle)
    proxy = begin(start, server, {**FAST, "timeout": "0.5s", "tcp_health_check": {
        "send": {"text": b"PING".hex()}, "receive": [{"text": b"PONG".hex()}]}})
    assert flags(proxy, server) == "healthy"
    proxy.wait(lambda: len(got) >= 3, 10, "checks")
    assert got[0] == b"PING" and server.connections == 1
    reply[:] = [b"-ERR\r\n"]
    wait_flags(proxy, server, "/failed_active_hc/active_hc_timeout")
    reply[:] = [b"PONG"]
    wait_flags(proxy, server, "healthy")


def test_tcp_connection_is_enough(start, serve):
    server = serve(handle=lambda sock: sock.recv(1))
    proxy = begin(start, server, {**FAST, "tcp_health_check": {}})
    assert flags(proxy, server) == "healthy"
    proxy.wait(lambda: server.connections >= 3, 10, "checks")  # each with its own
    server.close()
    wait_flags(proxy, server, "/failed_active_hc")


class GrpcHealth(Http2Server):
    """grpc.health.v1.Health."""

    def __init__(self, **more):
        self.serving, self.status, self.bodies = 1, "0", []
        super().__init__(on_end=self._answer, **more)

    def _answer(self, link, stream):
        self.bodies.append(link.bodies[stream])
        if self.serving is None:
            link.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc"),
                                       ("grpc-status", self.status)], end_stream=True)
            return
        message = bytes([8, self.serving]) if self.serving else b""
        link.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        link.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message)
        link.send_headers(stream, [("grpc-status", self.status)], end_stream=True)


def test_grpc(start):
    server = GrpcHealth()
    try:
        proxy = begin(start, server, {**FAST, "event_log_path": "events.log",
                                      "grpc_health_check": {
            "service_name": "s" * 200, "authority": "grpc.example",
            "initial_metadata": [{"header": {"key": "x-meta", "value": "data"}}]}},
            **upstream_options(http2={}))
        assert flags(proxy, server) == "healthy"
        head = server.seen[0]
        assert (head[":method"], head[":path"], head[":authority"]) == (
            "POST", "/grpc.health.v1.Health/Check", "grpc.example")
        assert (head["te"], head["content-type"], head["user-agent"], head["x-meta"]) == (
            "trailers", "application/grpc", "Envoy/HC", "data")
        assert head["grpc-timeout"] == "2000m"
        assert server.bodies[0] == (b"\0" + (203).to_bytes(4, "big") + b"\x0a\xc8\x01" +
                                    b"s" * 200)
        for serving, status in ((2, "0"), (0, "0"), (1, "14"), (None, "5")):
            server.serving, server.status = serving, status
            wait_flags(proxy, server, "/failed_active_hc")
            server.serving, server.status = 1, "0"
            wait_flags(proxy, server, "healthy")
        assert hc(proxy, "network_failure") == 0 and server.connections == 1
        server.drop_connections()
        eject = next(e for e in events(proxy) if kind_of(e) == "eject_unhealthy_event")
        assert eject["health_checker_type"] == "GRPC"
    finally:
        server.close()


def test_http2_and_tls(start, tmp_path):
    from controlplane import Authority
    authority = Authority("cluster.local", str(tmp_path))
    identity = authority.issue(authority.spiffe("server"), dns=["up"])
    roots = tmp_path / "roots.pem"
    roots.write_bytes(authority.roots_pem)
    seen = []

    def answer(link, stream):
        seen.append(link.heads[stream])
        link.send_headers(stream, [(":status", "200")], end_stream=True)
    server = Http2Server(on_end=answer, tls=tls.context(authority, identity, server=True,
                                                        alpn=["custom", "h2"], require=False))
    try:
        proxy = begin(start, server, {**http_check(codec_client_type="HTTP2"),
                                      "tls_options": {"alpn_protocols": ["custom"]}},
                      transport_socket={"name": "tls", "typed_config": {
                          "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
                                   "UpstreamTlsContext", "sni": "up",
                          "common_tls_context": {"validation_context": {
                              "trusted_ca": {"filename": str(roots)}}}}})
        assert flags(proxy, server) == "healthy"
        assert seen[0][":path"] == "/hc" and seen[0][":scheme"] == "https"
    finally:
        server.close()


# --- discovery ------------------------------------------------------------------------------------
def eds(folder, *endpoints):
    """Writes endpoints for a cluster `up`; each a server or (server, health_status)."""
    lb = []
    for e in endpoints:
        server, status = e if isinstance(e, tuple) else (e, "HEALTHY")
        lb.append({"endpoint": {"address": xds.socket_address("127.0.0.1", server.port)},
                   "health_status": status})
    resource = {"@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": "up", "endpoints": [{"lb_endpoints": lb}]}
    path = folder / "eds.json"
    with open(str(path) + ".new", "w", encoding="utf-8") as out:
        json.dump(xds._expand({"resources": [resource]}), out)
    os.rename(str(path) + ".new", path)
    return str(path)


def eds_cluster(path, check, **more):
    up = {**cluster("up", health_checks=[check], **more), "type": "EDS",
          "eds_cluster_config": {"eds_config": {"path_config_source": {"path": path},
                                                "resource_api_version": "V3"}}}
    up.pop("load_assignment", None)
    return up


def test_endpoint_that_is_taken_away_stays_while_healthy(start, serve, tmp_path):
    one, two = serve(Answer()), serve(Answer())
    path = eds(tmp_path, one, two)
    proxy = start(static([http_listener([mesh.route("up")])], [eds_cluster(path, http_check())]))
    assert flags(proxy, two) == "healthy"
    eds(tmp_path, one)
    wait_flags(proxy, two, "/pending_dynamic_removal")
    assert proxy.stat("cluster.up.membership_total") == 2
    two.answer = Answer(503)
    proxy.wait(lambda: flags(proxy, two) is None, 10, "the host to go")
    assert proxy.stat("cluster.up.membership_total") == 1
    eds(tmp_path, one, two)  # it comes back, and is failed until it passes
    wait_flags(proxy, two, "/failed_active_hc")
    two.answer = Answer()
    wait_flags(proxy, two, "healthy")


def test_endpoint_goes_at_once(start, serve, tmp_path):
    one, two = serve(Answer()), serve(Answer())
    path = eds(tmp_path, one, two)
    proxy = start(static([http_listener([mesh.route("up")])],
                         [eds_cluster(path, http_check(), ignore_health_on_host_removal=True)]))
    eds(tmp_path, one)
    proxy.wait(lambda: flags(proxy, two) is None, 10, "the host to go")


def test_draining_endpoints(start, serve, tmp_path):
    servers = [serve() for _ in range(3)]
    path = eds(tmp_path, servers[0], (servers[1], "DRAINING"), (servers[2], "DRAINING"))
    up = eds_cluster(path, http_check())
    del up["health_checks"]
    proxy = start(static([http_listener([mesh.route("up")])], [up]))
    assert flags(proxy, servers[1]) == "/eds_status_draining"
    assert proxy.stat("cluster.up.membership_excluded") == 2
    for _ in range(20):  # two of three are not healthy, and still there is no panic
        served(proxy, 200)
    assert not servers[1].requests and not servers[2].requests


def test_control_plane_and_checks_together(start, serve, tmp_path):
    one, two = serve(Answer()), serve(Answer(503))
    path = eds(tmp_path, (one, "UNHEALTHY"), (two, "DEGRADED"))
    proxy = start(static([http_listener([mesh.route("up")])], [eds_cluster(path, http_check())]))
    assert flags(proxy, one) == "/failed_eds_health"
    assert flags(proxy, two) == "/failed_active_hc/degraded_eds_health"
    host = json.loads(proxy.admin("/clusters?format=json")[1])["cluster_statuses"][0][
        "host_statuses"][1]
    assert host["health_status"] == {"failed_active_health_check": True,
                                     "eds_health_status": "DEGRADED"}
