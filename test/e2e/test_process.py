"""The process: command line, refusal of a wrong bootstrap, signals, drain, admin."""

import json
import os
import resource
import signal
import subprocess
import time

import pytest

from controlplane import mesh, xds
from harness.http1 import Client, Closed, ask
from harness.proxy import cluster, http_listener, static


def simple(start, serve, **more):
    upstream = serve(name="up")
    return start(static([http_listener([mesh.route("up")], log="access.log")],
                        [cluster("up", upstream)]), **more), upstream


def validate(binary, tmp_path, bootstrap, *args):
    path = tmp_path / "check.json"
    path.write_text(bootstrap if isinstance(bootstrap, str) else json.dumps(
        xds._expand(bootstrap)))
    return subprocess.run([binary[0], "-c", str(path), "--mode", "validate", *args],
                          capture_output=True, text=True, timeout=30)


def test_version_and_help(binary):
    for flag in ("--version", "--help"):
        done = subprocess.run([binary[0], flag], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0 and done.stdout.strip()


def test_validate_accepts_a_good_bootstrap(binary, tmp_path):
    good = static([http_listener([mesh.route("up")])], [cluster("up", ("127.0.0.1", 9))])
    assert validate(binary, tmp_path, good).returncode == 0


@pytest.mark.parametrize("kind,words", [
    ("syntax", ""), ("unknown-field", "no_such_field"), ("unknown-type", "NoSuchType"),
    ("wrong-type", "connect_timeout"), ("bad-value", "lb_policy"), ("missing", "eds_config")])
def test_wrong_bootstrap_is_refused(binary, tmp_path, kind, words):
    bootstrap = static([http_listener([mesh.route("up")])], [cluster("up", ("127.0.0.1", 9))])
    target = bootstrap["static_resources"]["clusters"][0]
    if kind == "unknown-field":
        target["no_such_field"] = 1
    if kind == "unknown-type":
        bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0][
            "typed_config"]["@type"] = "type.googleapis.com/NoSuchType"
    if kind == "wrong-type":
        target["connect_timeout"] = {"seconds": []}
    if kind == "bad-value":
        target["lb_policy"] = "NO_SUCH_POLICY"
    if kind == "missing":
        target["type"] = "EDS"
        del target["load_assignment"]
    done = validate(binary, tmp_path, '{"node": [' if kind == "syntax" else bootstrap)
    assert done.returncode == 1
    if not binary[1]:
        said = done.stdout + done.stderr
        assert words in said and "check.json" in said


def test_no_such_file(binary, tmp_path):
    done = subprocess.run([binary[0], "-c", str(tmp_path / "none.json"), "--disable-hot-restart"],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "none.json" in done.stdout + done.stderr


def test_config_yaml_is_merged_over_the_file(start, serve):
    proxy, _ = simple(start, serve, args=["--config-yaml", "node: {id: from-yaml}"])
    assert json.loads(proxy.admin("/server_info")[1])["node"]["id"] == "from-yaml"
    assert ask(proxy.port()).status == 200


def test_sigterm_ends_with_0(start, serve):
    proxy, _ = simple(start, serve)
    with Client(proxy.port()) as client:
        assert client.ask().status == 200
        begin = time.monotonic()
        assert proxy.stop(signal.SIGTERM) == 0
        assert time.monotonic() - begin < 10


def test_quitquitquit(start, serve):
    proxy, _ = simple(start, serve)
    assert proxy.admin("/quitquitquit")[0] == 405
    assert proxy.admin("/quitquitquit", "POST")[0] == 200
    assert proxy.process.wait(10) == 0


def test_admin_pages(start, serve):
    proxy, _ = simple(start, serve)
    for _ in range(3):
        assert ask(proxy.port()).status == 200
    assert proxy.admin("/ready") == (200, "LIVE\n")
    assert json.loads(proxy.admin("/server_info")[1])["state"] == "LIVE"
    status, text = proxy.admin("/stats/prometheus")
    assert status == 200
    assert 'envoy_cluster_upstream_rq_total{envoy_cluster_name="up"} 3' in text
    assert "# TYPE envoy_cluster_upstream_rq_total counter" in text
    dump = json.loads(proxy.admin("/config_dump")[1])
    kinds = [c["@type"].rpartition(".")[2] for c in dump["configs"]]
    assert {"BootstrapConfigDump", "ClustersConfigDump", "ListenersConfigDump",
            "RoutesConfigDump"} <= set(kinds)
    clusters = json.loads(proxy.admin("/clusters?format=json")[1])["cluster_statuses"]
    assert [c["name"] for c in clusters] == ["up"]
    stats = json.loads(proxy.admin("/stats?format=json&filter=cluster.up.upstream_rq_200")[1])
    assert {"name": "cluster.up.upstream_rq_200", "value": 3} in stats["stats"]
    assert proxy.admin("/listeners")[1].startswith("main::127.0.0.1:")
    assert "/config_dump" in proxy.admin("/help")[1]
    assert proxy.admin("/no-such-page")[0] == 404
    assert proxy.stat("server.live") == 1
    assert proxy.stat("listener_manager.workers_started") == 1


def test_raw_regex_in_the_target(start, serve):
    """pilot-agent sends ^, (, | and $ unescaped."""
    proxy, _ = simple(start, serve)
    with Client(proxy.admin_port) as client:
        client.send(b"GET /stats?usedonly&filter=^(server\\.state|listener_manager\\."
                    b"workers_started)$ HTTP/1.1\r\nHost: h\r\n\r\n")
        body = client.response().body.decode()
    assert body == "listener_manager.workers_started: 1\nserver.state: 0\n"


def test_logging_levels(start, serve):
    proxy, _ = simple(start, serve)
    status, text = proxy.admin("/logging?level=debug", "POST")
    assert status == 200 and "debug" in text
    assert proxy.admin("/logging?level=loud", "POST")[0] == 400
    assert proxy.admin("/logging?level=info")[0] == 405


def test_drain_listeners_stops_accepting(start, serve):
    proxy, _ = simple(start, serve)
    port = proxy.port()
    assert proxy.admin("/drain_listeners", "POST")[0] == 200

    def refuses():
        try:
            ask(port, timeout=1)
            return False
        except Closed:  # it was accepted just before
            return False
        except OSError:
            return True
    proxy.wait(refuses, 10, "refusal of connections")


def test_graceful_drain_closes_after_answers(start, serve):
    proxy, _ = simple(start, serve, args=["--drain-time-s", "2", "--drain-strategy", "immediate"])
    port = proxy.port()
    with Client(port) as client:
        assert client.ask().get("connection") is None
        assert proxy.admin("/drain_listeners?graceful&skip_exit", "POST")[0] == 200
        answer = client.ask()
        assert answer.status == 200 and answer.get("connection") == "close"
        assert client.is_closed()
    assert ask(port).status == 200  # still accepting while it drains


def test_access_log_is_reopened(start, serve):
    proxy, _ = simple(start, serve)
    path = os.path.join(proxy.folder, "access.log")
    ask(proxy.port(), "/one")
    proxy.wait_log(1)
    os.rename(path, path + ".1")
    ask(proxy.port(), "/two")
    proxy.process.send_signal(signal.SIGUSR1)
    proxy.wait(lambda: os.path.exists(path), 5, "the new file")
    ask(proxy.port(), "/three")
    proxy.wait(lambda: "/three" in [e["path"] for e in proxy.log_entries()], 5, "the new entry")
    assert {e["path"] for e in proxy.log_entries("access.log.1")} >= {"/one"}


def test_out_of_file_descriptors(start, serve):
    """It pauses accepting and recovers."""
    upstream = serve()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        proxy = start(static([http_listener([mesh.route("up")])], [cluster("up", upstream)]),
                      concurrency=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if proxy.is_envoy:
        pytest.skip("Envoy ends the process here")
    port = proxy.port()
    held = [Client(port) for _ in range(300)]
    time.sleep(0.5)
    for client in held:
        client.sock.close()
    proxy.wait(lambda: ask(port).status == 200, 10, "recovery")
