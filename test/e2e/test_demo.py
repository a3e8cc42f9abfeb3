"""The demo as a whole: its eight steps, and that it leaves nothing behind however it ends."""

import os
import re
import signal
import subprocess
import time

import pytest

from harness import ROOT

RUN = str(ROOT / "tools/demo/run")
INIT = os.environ.get("ATTACHE_INIT", str(ROOT / "build/release/attache-init"))


def command(binary, *args):
    return [RUN, "--proxy", binary[0] if isinstance(binary, tuple) else binary, "--init", INIT,
            *args]


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A kept demo of the developer is not touched, and a kept one of a test is ended."""
    monkeypatch.setenv("BUILD", str(tmp_path))
    monkeypatch.delenv("KEEP", raising=False)
    yield
    if (tmp_path / "demo.json").exists():
        subprocess.run([RUN, "--stop"], timeout=30, check=False)


@pytest.fixture(scope="module", autouse=True)
def possible():
    done = subprocess.run(command("/bin/false"), capture_output=True, text=True, timeout=60)
    if "namespaces cannot be made" in done.stderr:
        pytest.skip(done.stderr.strip())


def left(marker):
    """Processes whose command line names this demo's binary folder or its scripts."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as src:
                words = src.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if marker in words and "pytest" not in words:
            found.append(words)
    return found


def gone(marker):
    """Nothing of a demo is left: processes, mounts, interfaces, folders."""
    deadline = time.monotonic() + 5
    while left(marker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left(marker) == []
    with open("/proc/mounts", encoding="utf-8") as src:
        assert "attache-demo" not in src.read()
    assert "mesh0" not in os.listdir("/sys/class/net")
    assert not os.path.exists("/run/attache-demo")


def test_all_steps_pass(binary, tmp_path):
    done = subprocess.run(command(binary, "--logs", str(tmp_path / "logs")), capture_output=True,
                          text=True, timeout=170)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"(?m)^\((.)\)  (ok)", done.stdout) == [(c, "ok") for c in "abcdefgh"]
    for pod in ("client", "server-v1", "server-v2"):
        log = (tmp_path / "logs/pods" / pod / "proxy.log").read_text()
        assert "Sanitizer" not in log and "runtime error" not in log, log
    gone(str(tmp_path))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_when_it_is_ended(binary, tmp_path, how):
    process = subprocess.Popen(command(binary, "--logs", str(tmp_path / "logs")),
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT,
                                                                signal.default_int_handler))
    assert "up in" in process.stdout.readline()
    process.send_signal(how)
    assert process.wait(20) not in (0, 1)
    process.stdout.close()
    gone(str(tmp_path))


def test_a_proxy_that_ends_at_once_is_a_failure(tmp_path):
    fake = tmp_path / "proxy"
    fake.write_text("#!/bin/sh\necho cannot go on >&2\nexit 3\n")
    fake.chmod(0o755)
    done = subprocess.run(command(str(fake)), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ended with 3" in done.stderr and "cannot go on" in done.stderr
    gone(str(tmp_path))


def test_a_step_that_misses_is_a_failure(binary, tmp_path):
    """Without rules nothing is intercepted: the wire carries plain text, and step (a) says so."""
    nothing = tmp_path / "init"
    nothing.write_text("#!/bin/sh\nexit 0\n")
    nothing.chmod(0o755)
    done = subprocess.run([RUN, "--proxy", binary[0], "--init", str(nothing), "--steps", "a"],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "attache-demo" in done.stderr or "MISSED" in done.stdout
    gone(str(tmp_path))


def test_kept_demo_is_used_and_stopped(binary, tmp_path):
    done = subprocess.run(command(binary, "--keep", "--steps", "h"), capture_output=True,
                          text=True, timeout=100)
    assert done.returncode == 0 and "tools/demo/run --stop" in done.stdout, done.stdout

    def inside(*words):
        return subprocess.run([RUN, "--exec", *words], capture_output=True, text=True,
                              timeout=30).stdout
    assert "LIVE" in inside("client", "curl", "-s", "localhost:15000/ready")
    assert inside("client", "curl", "-s", "http://web.demo/split").startswith("hello from")
    assert subprocess.run([RUN, "--set", "weights.v1=0", "weights.v2=100"], check=False,
                          timeout=30).returncode == 0
    deadline = time.monotonic() + 10
    while {inside("client", "curl", "-s", "http://web.demo/split")
           for _ in range(6)} != {"hello from v2\n"}:
        assert time.monotonic() < deadline
    assert subprocess.run([RUN, "--stop"], timeout=30, check=False).returncode == 0
    gone(str(tmp_path))
    assert subprocess.run([RUN, "--stop"], capture_output=True, timeout=30,
                          check=False).returncode == 2
