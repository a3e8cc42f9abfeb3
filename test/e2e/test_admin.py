"""The admin port: Envoy's paths, parameters and formats, as its users ask for them."""

import http.client
import json
import re
import socket
import time

import pytest

from controlplane import mesh, xds
from google.protobuf import json_format
from harness.http1 import Client, ask
from harness.proxy import cluster, dynamic, http_listener, static

CONFIG_TYPES = "type.googleapis.com/envoy.admin.v3."
PLAIN, JSON = "text/plain; charset=UTF-8", "application/json"


def request(proxy, path, method="GET", body=None, headers=()):
    """(status, headers, text), with the path as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.admin_port, timeout=10)
    try:
        connection.putrequest(method, path)
        for name, value in headers:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def page(proxy, path):
    status, _, text = request(proxy, path)
    assert status == 200, text
    return json.loads(text)


def section(dump, name):
    return next((c for c in dump["configs"] if c["@type"] == CONFIG_TYPES + name), None)


def parsed(name, page_json):
    """What istioctl does first: everything must be a field of the official message."""
    return json_format.ParseDict(page_json, xds.message_class(name)(), ignore_unknown_fields=False)


@pytest.fixture
def simple(start, serve):
    upstream = serve(name="up")
    return start(static([http_listener([mesh.route("up")], traffic_direction="INBOUND")],
                        [cluster("up", upstream)]))


# --- what every page has ---------------------------------------------------------------------------
@pytest.mark.parametrize("path,status,kind", [
    ("/ready", 200, PLAIN), ("/stats", 200, PLAIN), ("/stats?format=json", 200, JSON),
    ("/stats/prometheus", 200, PLAIN), ("/clusters", 200, PLAIN), ("/certs", 200, JSON),
    ("/clusters?format=json", 200, JSON), ("/listeners", 200, PLAIN), ("/memory", 200, JSON),
    ("/listeners?format=json", 200, JSON), ("/server_info", 200, JSON), ("/config_dump", 200, JSON),
    ("/runtime", 200, JSON), ("/init_dump", 200, JSON), ("/help", 200, PLAIN),
    ("/hot_restart_version", 200, PLAIN), ("/contention", 200, PLAIN), ("/nope", 404, PLAIN),
    ("/", 200, "text/html; charset=UTF-8"), ("/logging", 405, PLAIN),
    ("/drain_listeners", 405, PLAIN), ("/quitquitquit", 405, PLAIN),
    ("/healthcheck/fail", 405, PLAIN), ("/healthcheck/ok", 405, PLAIN),
    ("/reset_counters", 405, PLAIN), ("/reopen_logs", 405, PLAIN), ("/cpuprofiler", 405, PLAIN),
    ("/heapprofiler", 405, PLAIN), ("/runtime_modify", 405, PLAIN),
    ("/stats?filter=(", 400, PLAIN), ("/stats?format=x", 400, PLAIN), ("/stats?type=x", 400, PLAIN),
    ("/stats?histogram_buckets=x", 400, PLAIN), ("/clusters?filter=(", 400, PLAIN)])
def test_status_and_headers(simple, path, status, kind):
    got, headers, text = request(simple, path)
    headers = {name.lower(): value for name, value in headers.items()}
    assert (got, headers["content-type"]) == (status, kind), text[:200]
    assert headers["cache-control"] == "no-cache, max-age=0"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["server"] == "envoy" and headers["date"]


def test_pages_that_agree(simple):
    """One connection, page after page; what the client closes is closed."""
    with Client(simple.admin_port) as client:
        for _ in range(20):
            answer = client.ask("GET", "/ready")
            assert (answer.status, answer.body) == (200, b"LIVE\n")
        answer = client.ask("GET", "/ready", headers={"connection": "close"})
        assert answer.status == 200 and client.is_closed()


def test_help_and_404_name_the_pages(simple):
    for status, path in ((200, "/help"), (404, "/nope")):
        got, _, text = request(simple, path)
        assert got == status and "admin commands are:\n" in text
        for name in ("/config_dump", "/drain_listeners (POST)", "/stats/prometheus", "/logging (POST)"):
            assert f"\n  {name}: " in text


def test_server_info(simple):
    info = page(simple, "/server_info")
    assert info["state"] == "LIVE" and info["hot_restart_version"] == "disabled"
    assert re.fullmatch(r"[0-9a-f]+/\d+\.\d+\.\d+/\w+/\w+/BoringSSL", info["version"])
    options = info["command_line_options"]
    assert options["concurrency"] == 2 and options["mode"] == "Serve"
    assert options["config_path"] == simple.config
    assert options["admin_address_path"] == simple.admin_file
    assert options["drain_time"] == "600s" and options["drain_strategy"] == "Gradual"
    assert options["file_flush_interval"] == "0.050s"
    assert info["node"]["id"] == "test-node" and info["node"]["cluster"] == "test"
    if not simple.is_envoy:
        parsed("envoy.admin.v3.ServerInfo", info)


# --- statistics ------------------------------------------------------------------------------------
def test_readiness_as_pilot_agent_asks(start, serve, control_plane):
    control_plane.set_all({"Cluster": [xds.message("Cluster", cluster("up", serve()))],
                           "Listener": [xds.message("Listener", http_listener([mesh.route("up")]))]})
    proxy = start(dynamic(control_plane))
    with Client(proxy.admin_port) as client:
        client.send(b"GET /stats?usedonly&filter=^(cluster_manager\\.cds|listener_manager\\.lds)\\."
                    b"(update_success|update_rejected)$ HTTP/1.1\r\nHost: h\r\n\r\n")
        lines = client.response().body.decode().splitlines()
        assert lines == ["cluster_manager.cds.update_success: 1",
                         "listener_manager.lds.update_success: 1"]
        client.send(b"GET /stats?usedonly&filter=^(server\\.state|listener_manager\\."
                    b"workers_started) HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.response().body == b"listener_manager.workers_started: 1\nserver.state: 0\n"
        client.send(b"GET /stats?usedonly&filter=downstream_cx_active$ HTTP/1.1\r\nHost: h\r\n\r\n")
        active = dict(line.split(": ") for line in client.response().body.decode().splitlines())
        assert active["listener.admin.downstream_cx_active"] == "1"


def test_stats_filters_and_types(simple):
    for _ in range(3):
        assert ask(simple.port()).status == 200
    one = "cluster.up.upstream_rq_200: 3\n"
    for query in ("filter=^cluster.up.upstream_rq_200$", "filter=upstream_rq_200&usedonly",
                  "filter=%5Ecluster%5C.up%5C.upstream_rq_200%24", "filter=upstream_rq_20&type=Counters"):
        text = request(simple, "/stats?" + query)[2]
        assert [x for x in text.splitlines() if not x.startswith("cluster.up.internal") and
                not x.startswith("cluster.up.external")] == [one.strip()], query
    assert request(simple, "/stats?filter=upstream_rq_200&type=Gauges")[2] == ""
    assert request(simple, "/stats?filter=.&invert_filter")[2] == ""
    everything = request(simple, "/stats")[2].splitlines()
    numbers = [x.split(": ")[0] for x in everything if x.split(": ")[1].isdigit()]
    assert numbers == sorted(numbers) and len(numbers) > 100


def test_stats_json(simple):
    ask(simple.port())
    simple.wait_stat("http.test.downstream_rq_completed")
    time.sleep(0.2)
    stats = page(simple, "/stats?format=json&filter=cluster.up.upstream_rq_200")["stats"]
    assert {"name": "cluster.up.upstream_rq_200", "value": 1} in stats
    assert page(simple, "/stats?format=json&filter=nothing") == {"stats": []}
    last = page(simple, "/stats?format=json&filter=http.test.downstream_rq_time$")["stats"][-1]
    assert last["histograms"]["supported_quantiles"] == [0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100]
    (quantiles,) = last["histograms"]["computed_quantiles"]
    assert quantiles["name"] == "http.test.downstream_rq_time" and len(quantiles["values"]) == 10
    for buckets in ("cumulative", "disjoint"):
        last = page(simple, "/stats?format=json&filter=http.test.downstream_rq_time$"
                            f"&histogram_buckets={buckets}")["stats"][-1]
        assert [b["upper_bound"] for b in last["histograms"][0]["buckets"]][:3] == [0.5, 1, 5]
    last = page(simple, "/stats?format=json&filter=http.test.downstream_rq_time$"
                        "&histogram_buckets=detailed")["stats"][-1]
    assert last["histograms"]["details"][0]["name"] == "http.test.downstream_rq_time"


def test_prometheus(simple):
    ask(simple.port())
    _, headers, text = request(simple, "/stats/prometheus?usedonly", headers=[
        ("accept", "text/plain;version=0.0.4;q=0.5,*/*;q=0.1")])
    assert "# TYPE envoy_cluster_upstream_rq_total counter\n" \
           'envoy_cluster_upstream_rq_total{envoy_cluster_name="up"} 1\n' in text
    assert 'envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="test"} 1' in text
    seen = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in seen, line
            seen.add(name)


def test_reset_counters(simple):
    ask(simple.port())
    assert simple.stat("cluster.up.upstream_rq_200") == 1
    assert request(simple, "/reset_counters", "POST")[2] == "OK\n"
    assert simple.stat("cluster.up.upstream_rq_200") == 0
    ask(simple.port())
    assert simple.stat("cluster.up.upstream_rq_200") == 1


# --- clusters, listeners ---------------------------------------------------------------------------
def test_clusters(simple):
    for _ in range(3):
        ask(simple.port())
    text = request(simple, "/clusters")[2]
    assert "up::default_priority::max_connections::1024\n" in text
    assert "up::added_via_api::false\n" in text
    assert re.search(r"(?m)^up::127\.0\.0\.1:\d+::rq_success::3$", text)
    assert re.search(r"(?m)^up::127\.0\.0\.1:\d+::health_flags::healthy$", text)
    statuses = page(simple, "/clusters?format=json")
    parsed("envoy.admin.v3.Clusters", statuses)
    (up,) = statuses["cluster_statuses"]
    (host,) = up["host_statuses"]
    assert {"name": "rq_total", "value": "3"} in host["stats"]
    assert host["health_status"] == {"eds_health_status": "HEALTHY"} and host["weight"] == 1
    assert up["circuit_breakers"]["thresholds"][1]["priority"] == "HIGH"
    assert request(simple, "/clusters?filter=^nope$")[2] == ""


def test_listeners(simple):
    (status,) = page(simple, "/listeners?format=json")["listener_statuses"]
    address = status["local_address"]["socket_address"]
    assert status["name"] == "main" and address["address"] == "127.0.0.1"
    assert request(simple, "/listeners")[2] == f"main::127.0.0.1:{address['port_value']}\n"


# --- /config_dump ----------------------------------------------------------------------------------
@pytest.fixture
def mesh_proxy(start, serve, control_plane):
    control_plane.set_all({
        "Cluster": [xds.message("Cluster", mesh.eds_cluster("up", service_name="svc"))],
        "ClusterLoadAssignment": [xds.message("ClusterLoadAssignment", xds.load_assignment(
            "svc", [serve().endpoint]))],
        "RouteConfiguration": [xds.message("RouteConfiguration",
                                           mesh.route_config("routes", [mesh.route("up")]))],
        "Listener": [xds.message("Listener", {
            "name": "main", "address": xds.socket_address("127.0.0.1", 0),
            "filter_chains": [{"filters": [mesh.hcm("test", rds="routes")]}]})]})
    proxy = start(dynamic(control_plane))
    assert ask(proxy.port()).status == 200
    return proxy


def test_config_dump_is_what_istioctl_parses(mesh_proxy):
    dump = page(mesh_proxy, "/config_dump?include_eds")
    parsed("envoy.admin.v3.ConfigDump", dump)
    names = [c["@type"].rpartition(".")[2] for c in dump["configs"]]
    assert names == ["BootstrapConfigDump", "ClustersConfigDump", "EndpointsConfigDump",
                     "ListenersConfigDump", "ScopedRoutesConfigDump", "RoutesConfigDump",
                     "SecretsConfigDump"][:len(names)]
    (up,) = section(dump, "ClustersConfigDump")["dynamic_active_clusters"]
    assert up["cluster"]["name"] == "up" and up["last_updated"] and up["version_info"]
    (listener,) = section(dump, "ListenersConfigDump")["dynamic_listeners"]
    assert listener["name"] == "main"
    assert listener["active_state"]["listener"]["address"]["socket_address"]["port_value"] == 0
    (routes,) = section(dump, "RoutesConfigDump")["dynamic_route_configs"]
    assert routes["route_config"]["virtual_hosts"][0]["domains"] == ["*"]
    endpoints = section(dump, "EndpointsConfigDump")["dynamic_endpoint_configs"]
    svc = [e["endpoint_config"] for e in endpoints if e["endpoint_config"]["cluster_name"] == "svc"]
    assert svc[0]["endpoints"][0]["lb_endpoints"][0]["health_status"] == "HEALTHY"
    assert section(dump, "BootstrapConfigDump")["bootstrap"]["node"]["id"] == "test-node"
    assert section(page(mesh_proxy, "/config_dump"), "EndpointsConfigDump") is None


def test_config_dump_resource_mask_and_regex(mesh_proxy):
    dump = page(mesh_proxy, "/config_dump?resource=dynamic_active_clusters&mask=cluster.name,"
                            "version_info")
    (one,) = dump["configs"]
    assert one["@type"] == CONFIG_TYPES + "ClustersConfigDump.DynamicCluster"
    assert one["cluster"] == {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                              "name": "up"}
    assert set(one) == {"@type", "cluster", "version_info"}
    node = page(mesh_proxy, "/config_dump?mask=bootstrap.node.id")
    assert node == {"configs": [{"@type": CONFIG_TYPES + "BootstrapConfigDump",
                                 "bootstrap": {"node": {"id": "test-node"}}}]}
    for regex, number in (("m.*", 1), ("main", 1), ("mai", 0), ("none", 0)):
        dump = page(mesh_proxy, f"/config_dump?resource=dynamic_listeners&name_regex={regex}")
        assert len(dump.get("configs", [])) == number


@pytest.mark.parametrize("query,status", [
    ("resource=nope", 404), ("resource=dynamic_endpoint_configs", 404), ("resource=bootstrap", 400),
    ("mask=nope", 400), ("mask=static_clusters.cluster", 400), ("name_regex=(", 400),
    ("resource=dynamic_active_clusters&mask=nope", 400)])
def test_config_dump_refuses(mesh_proxy, query, status):
    assert request(mesh_proxy, "/config_dump?" + query)[0] == status


def test_config_dump_shows_what_was_refused(mesh_proxy, control_plane):
    since = control_plane.mark()
    control_plane.set("Listener", [xds.message("Listener", {
        "name": "main", "address": xds.socket_address("127.0.0.1", 0),
        "filter_chains": [{"filters": [mesh.hcm("", rds="routes")]}]})])
    control_plane.wait_nack("Listener", since=since)
    # Envoy lists the refused version once more, without a name
    listener = next(c for c in page(mesh_proxy, "/config_dump?resource=dynamic_listeners")["configs"]
                    if c.get("name") == "main")
    failure = listener["error_state"]
    assert failure["details"] and failure["last_update_attempt"]
    assert failure["failed_configuration"]["name"] == "main"
    hcm = listener["active_state"]["listener"]["filter_chains"][0]["filters"][0]["typed_config"]
    assert hcm["stat_prefix"] == "test"
    assert ask(mesh_proxy.port()).status == 200


def test_config_dump_keeps_keys_secret(start, serve, control_plane, authority):
    identity = authority.issue(authority.spiffe("server"))
    control_plane.set_all({
        "Secret": [authority.secret_identity(identity), authority.secret_roots()],
        "Cluster": [xds.message("Cluster", cluster("up", serve()))],
        "Listener": [xds.message("Listener", {
            **http_listener([mesh.route("up")]),
            "filter_chains": [{
                "filters": http_listener([mesh.route("up")])["filter_chains"][0]["filters"],
                "transport_socket": mesh.downstream_tls(sds_cluster=None)}]})]})
    proxy = start(dynamic(control_plane))
    text = request(proxy, "/config_dump")[2]
    secrets = section(json.loads(text), "SecretsConfigDump")["dynamic_active_secrets"]
    by_name = {s["name"]: s["secret"] for s in secrets}
    key = by_name["default"]["tls_certificate"]["private_key"]
    assert list(key.values())[0] in ("[redacted]", "W3JlZGFjdGVkXQ==")
    assert by_name["ROOTCA"]["validation_context"]["trusted_ca"]
    assert "PRIVATE KEY" not in text and "BFZEFURSBLR" not in text
    certs = page(proxy, "/certs")
    parsed("envoy.admin.v3.Certificates", certs)
    (one,) = certs["certificates"]
    assert one["cert_chain"][0]["subject_alt_names"] == [{"uri": authority.spiffe("server")}]


def test_many_clusters_in_slices(start, serve):
    """A dump that takes many turns of the loop is whole and in order."""
    up = serve()
    proxy = start(static([http_listener([mesh.route("c0")])],
                         [cluster(f"c{n}", up) for n in range(1500)]))
    dump = page(proxy, "/config_dump?include_eds")
    names = [c["cluster"]["name"] for c in section(dump, "ClustersConfigDump")["static_clusters"]]
    assert sorted(names) == sorted(f"c{n}" for n in range(1500))
    found = section(dump, "EndpointsConfigDump")["static_endpoint_configs"]
    assert len(found) == 1500
    assert len(page(proxy, "/clusters?format=json")["cluster_statuses"]) == 1500


# --- what changes something ------------------------------------------------------------------------
def test_logging(simple):
    assert "  upstream: trace\n" in request(simple, "/logging?upstream=trace", "POST")[2]
    text = request(simple, "/logging?paths=upstream:info,http:error", "POST")[2]
    assert "  upstream: info\n" in text and "  http: error\n" in text
    for wrong in ("level=loud", "nope=info", "paths=nope:info", "paths=http", "level=info&http=info"):
        status, _, text = request(simple, "/logging?" + wrong, "POST")
        assert status == 400 and text.startswith("error: "), wrong
    assert "  http: error\n" in request(simple, "/logging", "POST")[2]


def test_health_checks_fail_by_hand(simple):
    assert request(simple, "/healthcheck/fail", "POST")[2] == "OK\n"
    assert simple.admin("/ready") == (503, "DRAINING\n")
    assert simple.stat("server.live") == 0
    simple.wait_stat("server.state")
    assert page(simple, "/server_info")["state"] == "DRAINING"
    assert request(simple, "/healthcheck/ok", "POST")[2] == "OK\n"
    assert simple.admin("/ready") == (200, "LIVE\n")
    assert simple.stat("server.live") == 1
    simple.wait(lambda: simple.stat("server.state") == 0, 10, "server.state 0")


def test_post_as_pilot_agent_sends_it(simple):
    """Valueless flags, an empty content-type and an empty body; any 2xx."""
    status, _, text = request(simple, "/drain_listeners?inboundonly&graceful&skip_exit", "POST",
                              body=b"", headers=[("content-type", "")])
    assert (status, text) == (200, "OK\n")
    assert ask(simple.port()).status == 200


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


@pytest.mark.parametrize("query,stops", [("?graceful", True), ("?inboundonly&graceful", True),
                                         ("?graceful&skip_exit", False)])
def test_the_end_of_a_drain(start, serve, query, stops):
    """The listeners stop accepting when the drain time is over; the process goes on."""
    proxy = start(static([http_listener([mesh.route("up")], traffic_direction="INBOUND")],
                         [cluster("up", serve())]), args=["--drain-time-s", "1"])
    port = proxy.port()
    assert request(proxy, "/drain_listeners" + query, "POST")[0] == 200
    assert accepts(port)
    if stops:
        proxy.wait(lambda: not accepts(port), 10, "refusal of connections")
    time.sleep(1.5)
    assert accepts(port) is not stops
    assert proxy.admin("/ready") == (200, "LIVE\n")


# --- bad input -------------------------------------------------------------------------------------
def test_a_body_that_is_too_large(simple):
    status, _, _ = request(simple, "/healthcheck/ok", "POST", body=b"x" * (1 << 20))
    assert status == (200 if simple.is_envoy else 413)
    assert simple.admin("/ready") == (200, "LIVE\n")


def test_no_script_in_pages_of_names(start, serve):
    """CVE-2026-73546: a name from the configuration is never markup."""
    name = "<script>alert(1)</script>"
    proxy = start(static([http_listener([mesh.route(name)])], [cluster(name, serve())]))
    ask(proxy.port())
    for path in ("/", "/stats?format=html", "/stats?format=active-html"):
        status, headers, text = request(proxy, path)
        assert status == 200 and "<script>alert" not in text
    for path in ("/stats", "/clusters", "/stats/prometheus"):
        status, headers, text = request(proxy, path)
        headers = {k.lower(): v for k, v in headers.items()}
        assert headers["content-type"] == PLAIN and headers["x-content-type-options"] == "nosniff"


def test_slow_client_does_not_hold_up_others(simple):
    slow = socket.create_connection(("127.0.0.1", simple.admin_port), timeout=5)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(50):
        slow.sendall(b"GET /stats/prometheus HTTP/1.1\r\nHost: h\r\n\r\n")
    begin = time.monotonic()
    for _ in range(20):
        assert simple.admin("/ready")[0] == 200
    assert time.monotonic() - begin < 5
    slow.close()
    assert simple.admin("/ready")[0] == 200
