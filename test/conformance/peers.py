"""The proxies that the suites compare: Attaché and Envoy from one bootstrap, HAProxy and nginx from a
configuration of the suite. Reuses the harness of the end-to-end tests."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test/e2e"))
from harness.proxy import Proxy, cluster, http_listener, listener, static  # noqa: E402,F401

DEPS = pathlib.Path(os.environ.get("ATTACHE_DEPS") or pathlib.Path(
    os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "attache")
START_SECONDS = 20


def attache():
    """attache is the path of the proxy under test."""
    return os.environ.get("ATTACHE_BIN", str(ROOT / "build/release/attache"))


def envoy():
    """envoy is the path of the oracle."""
    return os.environ.get("ATTACHE_ORACLE", str(DEPS / "venv/bin/envoy"))


def program(name):
    """program is `name` on the path or where Debian keeps daemons; None if it is not there."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def version(name):
    """version is what a proxy says of itself, in a word or two."""
    path, option = {"attache": (attache(), "--version"), "envoy": (envoy(), "--version"),
                    "haproxy": (program("haproxy"), "-v"), "nginx": (program("nginx"), "-v")}[name]
    done = subprocess.run([path, option], capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    for word in text.replace("/", " ").split():
        if word[:1].isdigit() and "." in word:
            return word.split("-")[0]
    return text.strip().split("\n")[0]


def start(name, folder, bootstrap, **more):
    """start runs Attaché or Envoy with a bootstrap (see harness.proxy) and waits until it is ready."""
    os.makedirs(folder, exist_ok=True)
    path = attache() if name == "attache" else envoy()
    return Proxy(path, folder, bootstrap, is_envoy=name == "envoy", **more).start()


def free_ports(number):
    """free_ports are ports of 127.0.0.1 that were free a moment ago."""
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class Program:
    """Another program that listens: started with a command, there when `port` accepts."""

    def __init__(self, command, folder, port, env=None):
        self.log_file = os.path.join(str(folder), os.path.basename(command[0]) + ".log")
        with open(self.log_file, "wb") as log:
            # pylint: disable-next=consider-using-with
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=str(folder), start_new_session=True,
                                            env={**os.environ, **(env or {})})
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise AssertionError(f"{command[0]} does not listen on {port}:\n"
                                         f"{self.log()}") from None
                time.sleep(0.05)

    def log(self):
        with open(self.log_file, encoding="utf-8", errors="replace") as src:
            return "".join(src.readlines()[-30:])

    def stop(self):
        """stop ends it and what it started."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, how)
            except ProcessLookupError:
                return
            try:
                self.process.wait(5)
                return
            except subprocess.TimeoutExpired:
                pass


def haproxy(folder, pairs):
    """haproxy forwards from each port of `pairs` to the other one."""
    parts = ["defaults", " mode http", " timeout connect 5s", " timeout client 30s",
             " timeout server 30s", " http-reuse never"]
    for front, back in pairs:
        parts += [f"frontend f{front}", f" bind 127.0.0.1:{front}", f" default_backend b{front}",
                  f"backend b{front}", f" server s 127.0.0.1:{back}"]
    os.makedirs(folder, exist_ok=True)
    conf = os.path.join(folder, "haproxy.cfg")
    pathlib.Path(conf).write_text("\n".join(parts) + "\n", encoding="utf-8")
    return Program([program("haproxy"), "-db", "-f", conf], folder, pairs[0][0])


def nginx(folder, pairs):
    """nginx forwards from each port of `pairs` to the other one, with HTTP/1.1 upstream."""
    servers = "\n".join(
        f"server {{ listen 127.0.0.1:{front}; location / {{ proxy_pass http://127.0.0.1:{back}; "
        "proxy_http_version 1.1; proxy_set_header Host $http_host; "
        "proxy_request_buffering off; } }" for front, back in pairs)
    folder = str(folder)
    os.makedirs(folder, exist_ok=True)
    temps = "".join(f"{name}_temp_path {folder}/{name};\n" for name in (
        "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf = os.path.join(folder, "nginx.conf")
    user = "user root;\n" if os.geteuid() == 0 else ""
    pathlib.Path(conf).write_text(
        f"{user}daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{temps}{servers}\n}}\n", encoding="utf-8")
    return Program([program("nginx"), "-c", conf, "-p", folder], folder, pairs[0][0])
