"""Workers and main together under ThreadSanitizer: traffic on four workers while listeners, routes,
clusters and endpoints change (file source: gRPC is not instrumented), logs are reopened and every
admin page is read."""

import json
import os
import random
import signal
import socket
import threading
import time

import pytest

from controlplane import mesh, xds
from harness import ROOT
from harness.http1 import Client, Closed
from harness.proxy import Proxy, cluster
from harness.upstream import Server, HttpServer, echo, response

BINARY = os.environ.get("ATTACHE_TSAN_BIN", str(ROOT / "build/tsan/attache"))
SECONDS = float(os.environ.get("TSAN_SECONDS", "12"))
PAGES = ("/stats", "/stats?format=json", "/stats/prometheus", "/config_dump", "/clusters",
         "/clusters?format=json", "/listeners", "/certs", "/server_info", "/ready", "/logging",
         "/memory", "/init_dump")

pytestmark = pytest.mark.skipif(not os.access(BINARY, os.X_OK),
                                reason="build/tsan/attache is not there (make MODE=tsan all)")


def free_ports(number):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


class Files:
    """Resources in files, replaced by rename as kubelet replaces those of a ConfigMap."""

    def __init__(self, folder, servers, ports):
        self.folder, self.servers, self.ports = folder, servers, ports
        self.turn = 0

    def source(self, name):
        return {"path_config_source": {"path": str(self.folder / f"{name}.json")},
                "resource_api_version": "V3"}

    def put(self, name, kind, resources):
        text = json.dumps({"version_info": str(self.turn), "resources": [
            {"@type": xds.type_url(kind), **xds._expand(r)} for r in resources]})
        part = self.folder / f".{name}.part"
        part.write_text(text)
        part.rename(self.folder / f"{name}.json")

    def routes(self):
        weights = [self.turn % 100, 100 - self.turn % 100]
        route = {"match": {"prefix": "/"}, "route": {
            "weighted_clusters": {"clusters": [
                {"name": "eds", "weight": weights[0]}, {"name": "static", "weight": weights[1]}]},
            "retry_policy": {"retry_on": "5xx,reset,connect-failure", "num_retries": 10}}}
        self.put("rds", "RouteConfiguration", [mesh.route_config("routes", [route])])

    def clusters(self):
        retries = {"circuit_breakers": {"thresholds": [{"max_retries": 100}]}}
        self.put("cds", "Cluster", [
            {"name": "eds", **retries, "type": "EDS", "connect_timeout": f"{5 + self.turn % 3}s",
             "eds_cluster_config": {"eds_config": self.source("eds"), "service_name": "eds"},
             "outlier_detection": {"consecutive_5xx": 1000}},
            cluster("static", self.servers[0], **retries), cluster("tcp", self.servers[2])])

    def endpoints(self):
        chosen = self.servers[:2] if self.turn % 2 else self.servers[:1]
        self.put("eds", "ClusterLoadAssignment",
                 [xds.load_assignment("eds", [s.endpoint for s in chosen])])

    def listener(self, name, port, filters):
        return {"name": name, "address": xds.socket_address("127.0.0.1", port),
                "stat_prefix": f"turn-{self.turn % 4}",  # another one each time
                "listener_filters": [{"name": "inspect", "typed_config": {
                    "@type": "TlsInspector"}}], "listener_filters_timeout": "0.05s",
                "continue_on_listener_filters_timeout": True,
                "filter_chains": [{"filters": filters}]}

    def listeners(self):
        hcm = mesh.hcm("test", log="access.log")
        hcm["typed_config"]["rds"] = {"route_config_name": "routes",
                                      "config_source": self.source("rds")}
        http, tcp, coming = self.ports
        resources = [self.listener("http", http, [hcm]),
                     self.listener("tcp", tcp, [mesh.tcp_proxy("tcp", log="access.log")])]
        if self.turn % 2:
            resources.append(self.listener("coming", coming, [hcm]))
        self.put("lds", "Listener", resources)

    def all(self):
        for change in (self.endpoints, self.routes, self.clusters, self.listeners):
            change()

    def bootstrap(self):
        return {"static_resources": {}, "dynamic_resources": {
            "lds_config": self.source("lds"), "cds_config": self.source("cds")}}


class Load:
    """Threads that ask until they are told to stop; what went wrong is kept."""

    def __init__(self):
        self.ending = threading.Event()
        self.wrong, self.bad = [], []
        self.good = 0
        self.lock = threading.Lock()
        self.threads = []

    def start(self, number, turn, *args):
        for i in range(number):
            thread = threading.Thread(target=self._run, args=(turn, i, *args), daemon=True)
            thread.start()
            self.threads.append(thread)

    def _run(self, turn, *args):
        while not self.ending.is_set():
            try:
                done = turn(*args)
            except AssertionError as problem:
                self.bad.append(problem)
                return
            except (OSError, Closed) as problem:
                with self.lock:
                    self.wrong.append(repr(problem))
                time.sleep(0.05)
                continue
            with self.lock:
                self.good += done

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(20)


def ask_some(number, port):
    with Client(port) as client:
        for i in range(random.randrange(1, 30)):
            body = b"x" * random.choice((0, 10, 5000)) if number % 2 else None
            answer = client.ask("POST" if body is not None else "GET", f"/{i}", body=body)
            assert answer.status == 200, answer
            if answer.get("connection") == "close":  # it drains
                return i + 1
        return i + 1


def echo_some(_, port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.settimeout(10)
        for _ in range(random.randrange(1, 5)):
            data = os.urandom(random.choice((1, 3000, 100000)))
            threading.Thread(target=sock.sendall, args=(data,), daemon=True).start()
            got = b""
            while len(got) < len(data):
                if not (part := sock.recv(65536)):
                    return 0  # drained
                got += part
            assert got == data
    return 1


def scrape(number, proxy):
    proxy.admin(PAGES[(number + random.randrange(len(PAGES))) % len(PAGES)])
    time.sleep(0.05)
    return 0


def come_and_go(_, port):
    """Clients of a listener that is not always there."""
    try:
        with Client(port) as client:
            client.ask()
    except (OSError, Closed):
        pass
    time.sleep(0.02)
    return 0


@pytest.fixture
def servers():
    def answer(request):
        return response(503 if random.random() < 0.05 else 200, b"x" * random.choice((1, 40000)))
    made = [HttpServer(answer), HttpServer(answer), Server(echo)]
    yield made
    for server in made:
        server.close()


def test_no_data_race(tmp_path, servers, monkeypatch):
    monkeypatch.setenv("TSAN_OPTIONS", "halt_on_error=0 second_deadlock_stack=1 exitcode=66")
    files = Files(tmp_path, servers, free_ports(3))
    files.all()
    proxy = Proxy(BINARY, tmp_path, files.bootstrap(), concurrency=4,
                  args=("--drain-time-s", "2")).start()
    load = Load()
    try:
        load.start(4, ask_some, files.ports[0])
        load.start(2, echo_some, files.ports[1])
        load.start(1, come_and_go, files.ports[2])
        load.start(2, scrape, proxy)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            files.turn += 1
            random.choice((files.endpoints, files.routes, files.clusters, files.listeners,
                           files.all))()
            if files.turn % 5 == 0:
                proxy.process.send_signal(signal.SIGUSR1)
            if files.turn % 7 == 0:
                proxy.admin("/logging?level=info", "POST")
                proxy.admin("/reset_counters", "POST")
            time.sleep(0.15)
        load.stop()
    finally:
        load.ending.set()
        status = proxy.stop()
    assert not proxy.findings(), proxy.log()
    assert status == 0, proxy.log()
    assert not load.bad, load.bad
    assert load.good > 100
    assert len(load.wrong) <= load.good // 20, load.wrong[:10]  # drained under the client
    assert len(proxy.log_entries()) > 100
