"""Pods as network namespaces: addresses, rules, sidecar, application. All of it lives in the
demo's own namespaces and goes away with them."""

import ctypes
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import world

CLONE_NEWNET = 0x40000000
HERE = os.path.dirname(os.path.abspath(__file__))
PROXY = f"{world.RUN}/bin/proxy"
libc = ctypes.CDLL(None, use_errno=True)


class DemoError(Exception):
    """Something without which the demo cannot go on."""


def run(*command, **more):
    """run runs a command to its end and returns its output; failure is a DemoError."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **more)
    if done.returncode != 0:
        raise DemoError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def make_bridge():
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", world.BRIDGE, "type", "bridge")
    run("ip", "addr", "add", f"{world.CONTROL}/24", "dev", world.BRIDGE)
    run("ip", "link", "set", world.BRIDGE, "up")


class Pod:
    def __init__(self, name):
        self.name = name
        self.address = world.POD_ADDRESS[name]
        self.folder = world.folder(name)
        self.wire = f"v-{name}"  # the end of its cable on the bridge
        self.processes = []

    def make(self, init):
        """make makes the namespace and lets `init` (attache-init) redirect its connections."""
        os.makedirs(self.folder, exist_ok=True)
        os.chown(self.folder, world.PROXY_UID, world.PROXY_UID)
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.wire, "type", "veth", "peer", "name", "eth0",
            "netns", self.name)
        run("ip", "link", "set", self.wire, "master", world.BRIDGE, "up")
        for words in ("link set lo up", "link set eth0 up",
                      f"addr add {self.address}/24 dev eth0", f"route add default via {world.CONTROL}"):
            run("ip", "-n", self.name, *words.split())
        self.init = [init, "-p", "15001", "-z", "15006", "-u", str(world.PROXY_UID),
                     "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*", "-d", "15090,15021,15020"]
        run(*self.inside(*self.init))

    def inside(self, *command):
        """inside is the command line that runs `command` in the pod."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *command]

    def start(self, *command, log, **more):
        """start starts a program in the pod; its output goes to the file `log`."""
        with open(f"{self.folder}/{log}", "ab") as out:
            process = subprocess.Popen(self.inside(*command), stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=out, cwd=self.folder, **more)
        self.processes.append(process)
        return process

    def start_sidecar(self):
        """start_sidecar starts the proxy as pilot-agent does, under its own user."""
        config = f"{self.folder}/envoy-rev.json"
        world.write_file(config, json.dumps(world.bootstrap(self.name), indent=1))
        self.sidecar = self.start(
            "setpriv", f"--reuid={world.PROXY_UID}", f"--regid={world.PROXY_UID}", "--clear-groups",
            "--no-new-privs", PROXY, "-c", config, "--drain-time-s", "45",
            "--drain-strategy", "immediate", "--local-address-ip-version", "v4",
            "--file-flush-interval-msec", "100", "--disable-hot-restart",
            "--allow-unknown-static-fields", "-l", "warning", "--concurrency", "2",
            log="proxy.log")

    def python(self, script, *arguments):
        """python is the command line of one of the demo's applications."""
        return [shutil.which("python3") or sys.executable, f"{HERE}/apps/{script}", *arguments]

    def call_in(self, function, *arguments):
        """call_in runs a function on a thread that is in the pod's network namespace."""
        result = {}

        def enter():
            try:
                fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
                if libc.setns(fd, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
                os.close(fd)
                result["value"] = function(*arguments)
            except Exception as error:  # handed to the caller below
                result["error"] = error
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if "error" in result:
            raise result["error"]
        return result["value"]

    def admin(self, path, method="GET"):
        """admin asks the sidecar's admin port and returns (status, text)."""
        def ask():
            connection = http.client.HTTPConnection("127.0.0.1", world.ADMIN_PORT, timeout=5)
            try:
                connection.request(method, path)
                response = connection.getresponse()
                return response.status, response.read().decode()
            finally:
                connection.close()
        return self.call_in(ask)

    def stats(self, pattern):
        """stats are the sidecar's counters and gauges that match a regex, {name: value}."""
        text = self.admin(f"/stats?filter={pattern}")[1]
        pairs = (line.rsplit(": ", 1) for line in text.splitlines() if ": " in line)
        return {name: int(value) for name, value in pairs if value.isdigit()}

    def is_ready(self):
        try:
            return self.admin("/ready")[0] == 200
        except OSError:
            return False

    def check_alive(self):
        for process in self.processes:
            if process is getattr(self, "sidecar", None) and process.poll() is not None:
                raise DemoError(f"the proxy of {self.name} ended with {process.returncode}:\n"
                                + tail(f"{self.folder}/proxy.log"))

    def log_lines(self):
        """log_lines are the entries of the sidecar's access log."""
        entries = []
        try:
            with open(world.log_path(self.name), encoding="utf-8") as src:
                for line in src:
                    if line.endswith("\n"):
                        entries.append(json.loads(line))
        except FileNotFoundError:
            pass
        return entries


def tail(path, lines=12):
    try:
        with open(path, encoding="utf-8", errors="replace") as src:
            return "".join(src.readlines()[-lines:])
    except OSError as error:
        return f"({error})\n"


def wait_until(condition, timeout, what, alive=()):
    """wait_until polls a condition and returns its value; DemoError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        for pod in alive:
            pod.check_alive()
        if time.monotonic() > deadline:
            raise DemoError(f"not within {timeout} s: {what}")
        time.sleep(0.05)


class Load:
    """An application in the client pod that calls a URL without rest; stop() ends it."""

    _number = 0

    def __init__(self, pod, url, threads=4, rate=50, count=0, **more):
        Load._number += 1
        self.path = f"{pod.folder}/load-{Load._number}.jsonl"
        open(self.path, "w", encoding="utf-8").close()
        options = ["--threads", str(threads), "--rate", str(rate), "--count", str(count)]
        for name, value in more.items():
            options += [f"--{name}", value]
        self.process = pod.start(*pod.python("load.py", url, self.path, *options), log="load.log")

    def records(self, since=0.0):
        with open(self.path, encoding="utf-8") as src:
            records = [json.loads(line) for line in src if line.endswith("\n")]
        return [r for r in records if r["t"] >= since]

    def wait(self, number, timeout=20, since=0.0):
        """wait waits for `number` records that began at `since` or later."""
        wait_until(lambda: len(self.records(since)) >= number or self.process.poll() is not None,
                   timeout, f"{number} requests")
        return self.records(since)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        return self.records()

    def join(self, timeout=30):
        self.process.wait(timeout)
        return self.records()


def failed(records):
    """failed are the records of requests that the application did not get an answer 200 for."""
    return [r for r in records if r["status"] != 200]


def share(records, version):
    """share is the part, from 0 to 1, of the answers that came from a version."""
    return sum(r.get("version") == version for r in records) / max(1, len(records))
