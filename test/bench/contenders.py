"""The contenders: how each is found, configured, started and measured.

A contender is a row in CONTENDERS. Its configuration is a committed template in conf/, in which
@LISTEN@, @ORIGIN@, @ADMIN@ and @TMP@ are replaced by this run's ports and directory.
"""

import glob
import os
import shutil
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 5


class BenchError(Exception):
    """The bench cannot go on; the text says why."""


class Contender:
    """What is fixed about a contender; `program` is None if it is not on this machine."""

    def __init__(self, name, program, conf, argv, version_argv):
        self.name = name
        self.program = program
        self.conf = conf
        self.argv = argv
        self.version_argv = version_argv

    def version(self):
        """The first line of what the program says of itself."""
        if self.version_argv is None:
            return "this checkout"
        done = subprocess.run([self.program, *self.version_argv], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=START_TIMEOUT_S,
                              check=False)
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        # Envoy begins with the path of its program
        return lines[0].removeprefix(self.program).strip() if lines else "no version"


def find_envoy(deps):
    """Envoy from ATTACHE_ENVOY, the environment that tools/deps made, or the path; or None."""
    named = os.environ.get("ATTACHE_ENVOY")
    if named:
        return named
    for pattern in ("*/lib/python3*/site-packages/envoy/_bin/envoy",
                    "lib/python3*/site-packages/envoy/_bin/envoy"):
        for path in sorted(glob.glob(os.path.join(deps, pattern))):
            return path
    return shutil.which("envoy")


def find_program(name):
    """`name` on the path or where Debian keeps daemons; or None."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def contenders(tools_dir, attache, deps):
    """The rows, in the order in which they run."""
    envoy_argv = ["-c", "@CONF@", "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    return [
        Contender("forwarder", os.path.join(tools_dir, "forwarder"), None,
                  ["@ORIGIN@", "@LISTEN@"], None),
        Contender("attache", attache if os.path.exists(attache) else None, "envoy_{}.yaml",
                  envoy_argv, ["--version"]),
        Contender("nginx", find_program("nginx"), "nginx_{}.conf",
                  ["-c", "@CONF@", "-p", "@TMP@", "-e", "@TMP@/nginx.err"], ["-v"]),
        Contender("haproxy", find_program("haproxy"), "haproxy_{}.cfg",
                  ["-db", "-f", "@CONF@"], ["-v"]),
        Contender("envoy", find_envoy(deps), "envoy_{}.yaml", envoy_argv, ["--version"]),
    ]


def free_port():
    """A port on the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def children(pid):
    """Every descendant of `pid`."""
    found = []
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            with open(path, encoding="ascii") as file:
                kids = [int(word) for word in file.read().split()]
        except FileNotFoundError:
            continue
        for kid in kids:
            found += [kid, *children(kid)]
    return found


class Process:
    """A started program of this bench: its own process group, ended by its id."""

    def __init__(self, name, argv, log, core=None):
        self.name = name
        self.log = log
        pin = ["taskset", "-c", str(core)] if core is not None else []
        with open(log, "wb") as out:
            # pylint: disable-next=consider-using-with
            self.popen = subprocess.Popen([*pin, *argv], stdin=subprocess.DEVNULL, stdout=out,
                                          stderr=subprocess.STDOUT, start_new_session=True)

    def said(self):
        """The last lines it wrote."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-15:])

    def pids(self):
        """Its process and every descendant."""
        return [self.popen.pid, *children(self.popen.pid)]

    def cpu_ns(self):
        """User and system time of all its processes and threads so far, from the scheduler's own
        clock (the CPU clock of another process), which counts nanoseconds, not ticks."""
        total = 0
        for pid in self.pids():
            total += time.clock_gettime_ns((~pid << 3) | 2)
        return total

    def memory_kib(self):
        """Resident size and proportional size (which shares shared pages out) of all processes."""
        rss = pss = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                for line in file:
                    if line.startswith("Rss:"):
                        rss += int(line.split()[1])
                    elif line.startswith("Pss:"):
                        pss += int(line.split()[1])
        return rss, pss

    def wait_port(self, port):
        """Returns once `port` accepts; raises with the program's words if it ends or takes long."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.popen.poll() is not None:
                raise BenchError(f"{self.name} ended with status {self.popen.returncode}:\n"
                                 f"{self.said()}")
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        raise BenchError(f"{self.name} does not listen after {START_TIMEOUT_S} s:\n{self.said()}")

    def stop(self):
        """Ends it: SIGTERM, then SIGKILL to its group."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()


def fill(text, values):
    """`text` with every @KEY@ replaced."""
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    return text


def launch(contender, config_set, tmp, origin_port, core):
    """Starts a contender with its configuration of `config_set`; returns (process, port, admin) at
    once, before it listens."""
    listen, admin = free_port(), free_port()
    values = {"LISTEN": listen, "ORIGIN": origin_port, "ADMIN": admin, "TMP": tmp,
              "NAME": contender.name}
    if contender.conf is not None:
        template = contender.conf.format(config_set)
        with open(os.path.join(HERE, "conf", template), encoding="utf-8") as file:
            text = fill(file.read(), values)
        values["CONF"] = os.path.join(tmp, f"{contender.name}_{template}")
        with open(values["CONF"], "w", encoding="utf-8") as file:
            file.write(text)
    argv = [contender.program, *[fill(arg, values) for arg in contender.argv]]
    log = os.path.join(tmp, f"{contender.name}_{config_set}.log")
    return Process(contender.name, argv, log, core), listen, admin


def start(contender, config_set, tmp, origin_port, core):
    """launch, and then waits until it listens."""
    process, listen, admin = launch(contender, config_set, tmp, origin_port, core)
    try:
        process.wait_port(listen)
    except BenchError:
        process.stop()
        raise
    return process, listen, admin


def start_origin(tools_dir, tmp, body_len, core):
    """Starts the origin; returns (process, port)."""
    port = free_port()
    process = Process("origin", [os.path.join(tools_dir, "origin"), "-s", str(body_len),
                                 "-p", str(port)], os.path.join(tmp, "origin.log"), core)
    try:
        process.wait_port(port)
    except BenchError:
        process.stop()
        raise
    return process, port
