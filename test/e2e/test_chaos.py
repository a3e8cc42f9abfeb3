"""Faults at random for a while: no request hangs, nothing leaks, and afterwards all is well.

CHAOS_SECONDS (60) is how long; CHAOS_SEED repeats a run."""

import os
import random
import socket
import ssl
import threading
import time

import pytest

from controlplane import mesh, xds
from harness import tls
from harness.http1 import Client, Closed, ask
from harness.proxy import dynamic, listener
from harness.upstream import HttpServer, Server, echo, response

SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))
REQUEST_SECONDS = 10  # after which a request counts as hung


class Chaos:
    def __init__(self, control_plane, authority, seed):
        self.random = random.Random(seed)
        self.cp, self.authority = control_plane, authority
        self.web = [HttpServer(self.answer, name=f"web{i}") for i in range(4)]
        self.tcp = [Server(echo) for _ in range(2)]
        self.weights = {"a": 1, "b": 1}
        self.problems = []
        self.done = {"ok": 0, "error": 0, "cut": 0}
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.down = set()

    def answer(self, request):
        kind = request.target.rpartition("/")[2]
        if kind == "slow":
            time.sleep(0.05)
        if kind == "error":
            return response(503)
        if kind == "cut":
            return None
        return response(body=request.body + b"." * 1000)

    # --- configuration --------------------------------------------------------------------
    def push(self, *kinds):
        breakers = {"thresholds": [{"max_connections": 50, "max_pending_requests": 50}]}
        outlier = {"consecutive_5xx": 5, "interval": "0.2s", "base_ejection_time": "0.5s"}
        timeout = f"{self.random.choice((1, 2, 3))}s"

        def clusters():
            return [mesh.eds_cluster(n, **{"connect_timeout": timeout}, circuit_breakers=breakers,
                                     outlier_detection=outlier) for n in ("a", "b")] + [
                mesh.eds_cluster("tcp", **{"connect_timeout": timeout})]

        def endpoints():
            chosen = self.random.sample(self.web, 3)
            return [xds.load_assignment("a", [s.endpoint for s in chosen]),
                    xds.load_assignment("b", [s.endpoint for s in self.web]),
                    xds.load_assignment("tcp", [s.endpoint for s in self.tcp])]

        def listeners():
            more = {"stream_idle_timeout": f"{self.random.choice((20, 30))}s"}
            secure = listener([mesh.hcm("secure", rds="r")], "secure")
            secure["filter_chains"][0]["transport_socket"] = mesh.downstream_tls(sds_cluster=None)
            return [listener([mesh.hcm("plain", rds="r", **more)], "plain"), secure,
                    listener([mesh.tcp_proxy("tcp")], "tcp")]

        def routes():
            retry = {"retry_on": "5xx,reset,connect-failure", "num_retries": 2}
            self.weights = {"a": self.random.randint(0, 5), "b": self.random.randint(1, 5)}
            return [mesh.route_config("r", [mesh.route(self.weights, timeout="5s",
                                                       retry_policy=retry)])]
        makers = {"Cluster": clusters, "ClusterLoadAssignment": endpoints, "Listener": listeners,
                  "RouteConfiguration": routes}
        self.cp.set_all({kind: [xds.message(kind, r) for r in makers[kind]()]
                         for kind in kinds or makers})

    def rotate(self):
        identity = self.authority.issue(self.authority.spiffe("server"))
        self.cp.set("Secret", [self.authority.secret_identity(identity),
                               self.authority.secret_roots()])

    # --- faults ---------------------------------------------------------------------------
    def stop_control_plane(self):
        self.cp.stop()
        if self.stopping.wait(self.random.random() * 2):
            pass
        self.cp.start()

    def restart_upstream(self):
        i = self.random.randrange(len(self.web))
        old = self.web[i]
        old.close()
        self.stopping.wait(self.random.random() * 0.5)
        self.web[i] = HttpServer(self.answer, name=old.name, port=old.port)

    def drop_upstream_connections(self):
        self.random.choice(self.web + self.tcp).drop_connections()

    def push_bad(self):
        self.cp.set("Cluster", [xds.message("Cluster", {**mesh.eds_cluster("a"),
                                                        "connect_timeout": "-1s"})])
        self.push("Cluster", "ClusterLoadAssignment")

    def faults(self):
        actions = [self.stop_control_plane, self.restart_upstream, self.drop_upstream_connections,
                   self.push_bad, self.rotate, lambda: self.push("Cluster", "ClusterLoadAssignment"),
                   lambda: self.push("ClusterLoadAssignment"), lambda: self.push("Listener"),
                   lambda: self.push("RouteConfiguration"), self.cp.close_streams]
        while not self.stopping.wait(self.random.random() * 0.4):
            self.random.choice(actions)()

    # --- load -----------------------------------------------------------------------------
    def count(self, kind):
        with self.lock:
            self.done[kind] += 1

    def guard(self, work, *arguments):
        """Runs one exchange: an answer or a clean break is fine, a hang is not."""
        begin = time.monotonic()
        try:
            work(*arguments)
        except (socket.timeout, TimeoutError):
            self.problems.append(f"{work.__name__} hung for {time.monotonic() - begin:.1f} s")
        except (Closed, OSError, ssl.SSLError):
            self.count("cut")
        except AssertionError as error:
            self.problems.append(str(error))

    def http(self, port, rng, context=None):
        client = tls.connect(port, context, timeout=REQUEST_SECONDS) if context else Client(
            port, timeout=REQUEST_SECONDS)
        with client:
            for _ in range(rng.randint(1, 10)):
                kind = rng.choice(("get", "get", "get", "slow", "error", "cut", "post", "leave"))
                if kind == "leave":
                    client.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\nhalf")
                    if rng.random() < 0.5:
                        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                               b"\1\0\0\0\0\0\0\0")
                    return
                body = b"b" * rng.randint(1, 100000) if kind == "post" else None
                answer = client.ask("POST" if body else "GET", f"/{kind}", body=body)
                if answer.status == 200:
                    assert answer.body == (body or b"") + b"." * 1000, "a body was mangled"
                    self.count("ok")
                else:
                    assert answer.status in (503, 504, 502, 404), f"status {answer.status}"
                    self.count("error")

    def stream(self, port, rng):
        with Client(port, timeout=REQUEST_SECONDS) as client:
            for _ in range(rng.randint(1, 10)):
                data = rng.randbytes(rng.randint(1, 50000))
                client.send(data)
                assert client.reader.take(len(data)) == data, "bytes were mangled"
                self.count("ok")

    def worker(self, number, proxy):
        rng = random.Random(number)
        caller = tls.context(self.authority, self.authority.issue(self.authority.spiffe("c")))
        while not self.stopping.is_set():
            ports = proxy.listener_ports()
            kind = ("plain", "plain", "secure", "tcp")[number % 4]
            if kind not in ports:
                time.sleep(0.05)
            elif kind == "tcp":
                self.guard(self.stream, ports[kind], rng)
            else:
                self.guard(self.http, ports[kind], rng, caller if kind == "secure" else None)


@pytest.mark.timeout(SECONDS * 2 + 120)
def test_random_faults(start, control_plane, authority):
    seed = int(os.environ.get("CHAOS_SEED", time.time()))
    chaos = Chaos(control_plane, authority, seed)
    chaos.rotate()
    chaos.push()
    proxy = start(dynamic(control_plane))
    threads = [threading.Thread(target=chaos.worker, args=(i, proxy)) for i in range(8)]
    threads.append(threading.Thread(target=chaos.faults))
    for thread in threads:
        thread.start()
    chaos.stopping.wait(SECONDS)
    chaos.stopping.set()
    for thread in threads:
        thread.join(REQUEST_SECONDS * 3)
        assert not thread.is_alive(), "a worker hangs"
    print(f"seed {seed}: {chaos.done}")
    assert chaos.problems == [], f"CHAOS_SEED={seed}"
    assert chaos.done["ok"] > SECONDS * 10
    chaos.push()
    for kind in ("Cluster", "Listener", "RouteConfiguration"):
        control_plane.wait_ack(kind, control_plane.resources(kind)[0], timeout=35)
    port = proxy.port("plain")
    proxy.wait(lambda: all(ask(port, "/get").status == 200 for _ in range(50)), 20,
               "50 requests in a row that succeed")
    active = "^cluster\\.(a|b|tcp)\\.upstream_rq_(active|pending_active)$"
    proxy.wait(lambda: sum(proxy.stats(active).values()) == 0, 10, "no request counted as active")
    for server in chaos.web + chaos.tcp:
        server.close()
