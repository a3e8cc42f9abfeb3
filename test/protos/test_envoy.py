"""Verdicts and dumps beside a real Envoy, on fields that both honour."""

import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.request

import pytest

ENVOY = pathlib.Path(sys.prefix) / "bin" / "envoy"
BOOTSTRAP = "envoy.config.bootstrap.v3.Bootstrap"
CONFIG = """
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  clusters:
  - name: c
    connect_timeout: 0.25s
    {line}
"""

# one line of a cluster: is it accepted?
LINES = [
    "per_connection_buffer_limit_bytes: 010",
    "per_connection_buffer_limit_bytes: 0x10",
    "per_connection_buffer_limit_bytes: -1",
    "per_connection_buffer_limit_bytes: 4294967296",
    "ignore_health_on_host_removal: yes",
    'ignore_health_on_host_removal: "true"',
    'ignore_health_on_host_removal: "yes"',
    'ignore_health_on_host_removal: "T"',
    'ignore_health_on_host_removal: "off"',
    "ignore_health_on_host_removal: 1",
    "alt_stat_name: 5",
    'alt_stat_name: "5"',
    "alt_stat_name: 1.5",
    "alt_stat_name: yes",
    "alt_stat_name: null",
    "alt_stat_name: {a: 1}",
    "altStatName: x",
    "<<: {alt_stat_name: x}",
    "bogus: 1",
    'max_requests_per_connection: "5"',
    "max_requests_per_connection: 5.0",
    "max_requests_per_connection: 5.5",
    'lb_policy: "1"',
    "lb_policy: BOGUS",
    "lb_policy: random",
    "max_requests_per_connection: {value: 5}",
    "max_requests_per_connection: {value: x}",
    "lb_policy: 77",
    "cleanup_interval: 0s",
    "cleanup_interval: 5",
    "cleanup_interval: 5ms",
    "cleanup_interval: 0.000000001s",
    "cleanup_interval: 315576000001s",
    "circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 101}}}]}",
    "circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 99.5}}}]}",
    "circuit_breakers: {thresholds: {}}",
    'metadata: {filter_metadata: {"": {}}}',
    "metadata: {filter_metadata: {a: [1]}}",
    "outlier_detection: {max_ejection_percent: 101}",
    "outlier_detection: {interval: 0s}",
    "load_assignment: {endpoints: []}",
    "load_assignment: {cluster_name: c, endpoints: [{priority: 129}]}",
    "load_assignment: {cluster_name: c, endpoints: [{load_balancing_weight: 0}]}",
    "load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {}}}]}]}",
    "load_assignment: {cluster_name: c, policy: {overprovisioning_factor: 0}}",
    "upstream_bind_config: {source_address: {address: 127.0.0.1, port_value: 65536}}",
    "transport_socket: {}",
    "transport_socket: {name: envoy.transport_sockets.raw_buffer, typed_config: {'@type': a/b.C}}",
    "common_lb_config: {healthy_panic_threshold: {value: -1}}",
    "upstream_connection_options: {tcp_keepalive: {keepalive_time: 10}}",
]


def test_verdicts(tool, tmp_path):
    assert ENVOY.exists()
    differing, accepted = [], 0
    for line in LINES:
        text = CONFIG.format(line=line)
        path = tmp_path / "c.yaml"
        path.write_text(text)
        run = subprocess.run([ENVOY, "-c", path, "--mode", "validate", "-l", "critical"],
                             capture_output=True, timeout=60, check=False)
        theirs = run.returncode == 0
        mine, answer = tool.call("from-yaml", BOOTSTRAP, text)
        if mine:
            mine, answer = tool.call("unpack", BOOTSTRAP, answer)
        accepted += theirs
        if mine != theirs:
            why = answer.decode(errors="replace") if theirs else run.stderr.decode()[-400:]
            differing.append(f"{line}: ours {mine}, Envoy's {theirs}: {why}")
    assert not differing, "\n".join(differing)
    assert 10 < accepted < len(LINES) - 10


DUMP = {
    "node": {"id": "x<y>\u00e9\u007f\u2028", "cluster": "c",
             "metadata": {"b": [1, 2.5, 1e30, True, None], "a": {}}},
    "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
    "static_resources": {
        "secrets": [
            {"name": "s", "session_ticket_keys": {"keys": [{"inline_string": "k" * 80}]}},
            {"name": "g", "generic_secret": {"secret": {"inline_string": "psst"}}}],
        "clusters": [{
            "name": "c", "connect_timeout": "0.25s", "type": "STATIC", "track_timeout_budgets": False,
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}}},
            "outlier_detection": {"max_ejection_percent": 0, "success_rate_stdev_factor": 100},
            "circuit_breakers": {"thresholds": [{
                "priority": "HIGH", "max_requests": 4294967295,
                "retry_budget": {"budget_percent": {"value": 100 / 3}}}]},
            "transport_socket_matches": [{"name": "m", "match": {"x": "y"}, "transport_socket": {
                "name": "envoy.transport_sockets.raw_buffer", "typed_config": {
                    "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
                    "type_url": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
                    "value": {}}}}],
            "load_assignment": {"cluster_name": "c", "endpoints": [{"priority": 0, "lb_endpoints": [{
                "health_status": "DEGRADED", "load_balancing_weight": 1,
                "metadata": {"filter_metadata": {"envoy.lb": {"v": "1"}}},
                "endpoint": {"address": {"socket_address": {"address": "127.0.0.1",
                                                            "port_value": 1}}}}]}]}}]}}


def wait_for(path, proc):
    for _ in range(200):
        if path.exists() and path.read_text():
            return path.read_text().strip()
        assert proc.poll() is None, "Envoy ended"
        time.sleep(0.05)
    pytest.fail("Envoy did not open its admin port")


def same_order(mine, theirs, path=""):
    """Equal values, and the same order of members (a Struct's may differ)."""
    assert isinstance(mine, type(theirs)) or isinstance(mine, (int, float)), path
    if isinstance(mine, dict):
        if not path.endswith((".metadata", ".filter_metadata")):
            assert list(mine) == list(theirs), path
        assert set(mine) == set(theirs), path
        for key, value in mine.items():
            same_order(value, theirs[key], f"{path}.{key}")
    elif isinstance(mine, list):
        assert len(mine) == len(theirs), path
        for i, value in enumerate(mine):
            same_order(value, theirs[i], f"{path}[{i}]")
    else:
        assert mine == theirs, path


def test_config_dump(tool, tmp_path):
    """A bootstrap is shown as Envoy shows it, what is secret redacted alike."""
    config, address = tmp_path / "c.json", tmp_path / "admin"
    config.write_text(json.dumps(DUMP))
    proc = subprocess.Popen(
        [ENVOY, "-c", config, "-l", "critical", "--disable-hot-restart", "--concurrency", "1",
         "--admin-address-path", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", "")})
    try:
        with urllib.request.urlopen(f"http://{wait_for(address, proc)}/config_dump", timeout=20) as r:
            theirs = json.load(r)["configs"][0]["bootstrap"]
    finally:
        proc.kill()
        proc.wait()
    for added in ("extensions", "user_agent_name", "user_agent_build_version"):
        theirs["node"].pop(added, None)
    mine = json.loads(tool.ok("redact", BOOTSTRAP, tool.ok("from-json", BOOTSTRAP, json.dumps(DUMP))))
    same_order(mine, theirs)
    assert "psst" not in json.dumps(mine)
