"""The proxy as a process: the real binary with a bootstrap in a file."""

import http.client
import json
import os
import re
import signal
import subprocess
import time

from . import ROOT  # noqa: F401  (sets the path to controlplane)
from controlplane import mesh, xds

START_SECONDS = 30
STOP_SECONDS = 15
# What a sanitizer prints when it found something.
SANITIZER = re.compile(r"(?m)^(==\d+==\s*ERROR|.*runtime error:|SUMMARY: \w+Sanitizer|WARNING: "
                       r"ThreadSanitizer).*$")


class Proxy:
    def __init__(self, binary, folder, bootstrap, args=(), concurrency=2, is_envoy=False,
                 log_level="warning", node=None):
        """`bootstrap` is a dictionary; where it says nothing about admin, a free port is taken."""
        self.binary, self.folder, self.is_envoy = binary, str(folder), is_envoy
        bootstrap = {"admin": {"address": xds.socket_address("127.0.0.1", 0)},
                     "node": {"id": node or "test-node", "cluster": "test"}, **bootstrap}
        self.config = os.path.join(self.folder, "bootstrap.json")
        with open(self.config, "w", encoding="utf-8") as out:
            json.dump(xds._expand(bootstrap), out, indent=1)
        self.admin_file = os.path.join(self.folder, "admin-address")
        self.log_file = os.path.join(self.folder, "proxy.log")
        self.command = [binary, "-c", self.config, "--concurrency", str(concurrency),
                        "-l", log_level, "--admin-address-path", self.admin_file,
                        "--file-flush-interval-msec", "50", "--disable-hot-restart", *args]
        self.process = None
        self.admin_port = None

    # --- life ---------------------------------------------------------------------------------
    def start(self, ready=True):
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, cwd=self.folder)
        self.wait(self._admin_is_up, START_SECONDS, "admin address")
        if ready:
            self.wait(self.is_ready, START_SECONDS, "/ready")
        return self

    def _admin_is_up(self):
        try:
            with open(self.admin_file, encoding="utf-8") as src:
                self.admin_port = int(src.read().strip().rpartition(":")[2])
            return self.admin("/server_info")[0] == 200
        except (OSError, ValueError, http.client.HTTPException):
            return False

    def is_ready(self):
        return self.admin("/ready")[0] == 200

    def wait(self, condition, timeout=10, what="a condition"):
        """wait polls condition() until it is true and returns its value."""
        deadline = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            if self.process.poll() is not None:
                raise AssertionError(f"the proxy ended with {self.process.returncode} before "
                                     f"{what}:\n{self.log()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout} s: {what}\n{self.log()}")
            time.sleep(0.02)

    def stop(self, how=signal.SIGTERM):
        """stop ends the process and returns its exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still there {STOP_SECONDS} s after signal {how}\n{self.log()}")

    def log(self):
        try:
            with open(self.log_file, encoding="utf-8", errors="replace") as src:
                return "".join(src.readlines()[-60:])
        except OSError:
            return ""

    def findings(self):
        """findings are the lines in which a sanitizer complains."""
        with open(self.log_file, encoding="utf-8", errors="replace") as src:
            return SANITIZER.findall(src.read())

    # --- admin --------------------------------------------------------------------------------
    def admin(self, path, method="GET"):
        """admin asks the admin port and returns (status, text)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def stats(self, pattern=""):
        """stats are the counters and gauges that match a regex, {name: value}."""
        text = self.admin("/stats" + (f"?filter={pattern}" if pattern else ""))[1]
        pairs = (line.rsplit(": ", 1) for line in text.splitlines() if ": " in line)
        return {name: int(value) for name, value in pairs if value.isdigit()}

    def stat(self, name):
        """stat is one counter or gauge; 0 when it does not exist (yet)."""
        return self.stats("^" + re.escape(name).replace("\\|", "%5C%7C") + "$").get(name, 0)

    def wait_stat(self, name, at_least=1, timeout=10):
        return self.wait(lambda: self.stat(name) >= at_least, timeout, f"{name} >= {at_least}")

    def listener_ports(self):
        """listener_ports are the ports that listeners are bound to, {name: port}."""
        statuses = json.loads(self.admin("/listeners?format=json")[1]).get("listener_statuses", [])
        return {s["name"]: s["local_address"]["socket_address"]["port_value"] for s in statuses}

    def port(self, listener="main"):
        """port is the port of a listener; it waits until there is one."""
        return self.wait(lambda: self.listener_ports().get(listener), 10, f"listener {listener}")

    def log_entries(self, name="access.log"):
        """log_entries are the JSON lines of an access log in the proxy's folder."""
        try:
            with open(os.path.join(self.folder, name), encoding="utf-8") as src:
                return [json.loads(line) for line in src if line.endswith("\n")]
        except FileNotFoundError:
            return []

    def wait_log(self, number=1, name="access.log", timeout=10):
        """wait_log waits for so many entries and returns them."""
        self.wait(lambda: len(self.log_entries(name)) >= number, timeout, f"{number} log entries")
        return self.log_entries(name)


# --- configuration --------------------------------------------------------------------------------
def cluster(name, *endpoints, **more):
    """cluster is a STATIC cluster of servers or (address, port) pairs."""
    pairs = [getattr(e, "endpoint", e) for e in endpoints]
    return mesh.static_cluster(name, pairs, **more)


def listener(filters, name="main", **more):
    """listener is one on a free port of 127.0.0.1, with one chain of these filters."""
    return {"name": name, "address": xds.socket_address("127.0.0.1", 0),
            "filter_chains": [{"filters": filters}], **more}


def http_listener(routes, name="main", log=None, domains=("*",), hcm=None, **more):
    """http_listener is an HTTP listener with inline routes; `hcm` are further fields of its
    connection manager."""
    filters = [mesh.hcm("test", route_config=mesh.route_config("local", routes, domains),
                        log=log, **(hcm or {}))]
    return listener(filters, name, **more)


def static(listeners, clusters, secrets=()):
    """static is a bootstrap of static resources."""
    return {"static_resources": {"listeners": list(listeners), "clusters": list(clusters),
                                 "secrets": list(secrets)}}


def dynamic(control_plane, sds=None, **more):
    """dynamic is a bootstrap whose listeners and clusters come from a control plane."""
    bootstrap = xds.bootstrap("test-node", f"127.0.0.1:{control_plane.port}", sds=sds, **more)
    bootstrap["node"]["cluster"] = "test"
    return bootstrap
