"""tools/deps names in one message what is missing, and is quick when nothing is."""
import os
import subprocess
import time

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
DEPS = os.path.join(ROOT, "tools/deps")


@pytest.fixture(name="machine")
def make_machine(tmp_path):
    """Returns a function that runs tools/deps on a machine described by stub programs."""
    stubs = tmp_path / "bin"
    stubs.mkdir()

    def stub(name, script):
        (stubs / name).write_text("#!/bin/sh\n" + script + "\n")
        (stubs / name).chmod(0o755)

    def run(group, uid=1000, installed="", cargo="", git=True):
        stub("id", f"echo {uid}")
        stub("dpkg-query", f"printf 'ii %s\\n' {installed}" if installed else "exit 1")
        stub("cargo", f"echo cargo {cargo}" if cargo else "exit 127")
        stub("apt-get", f"echo \"$@\" >>{tmp_path}/apt; exit 100")
        path = str(stubs) + ":/usr/bin:/bin"
        if not git:  # everything else of /usr/bin that is needed, by name
            tools = ["bash", "env", "dirname", "mkdir", "flock", "sort", "tr", "sed", "awk", "head", "cut", "tail",
                     "sha256sum", "python3", "grep", "readlink", "ln", "printf", "rm"]
            for name in tools:
                if not (stubs / name).exists():
                    (stubs / name).symlink_to(f"/usr/bin/{name}")
            path = str(stubs)
        return subprocess.run([DEPS, group], capture_output=True, text=True, check=False,
                              env={"PATH": path, "ATTACHE_DEPS": str(tmp_path / "cache"), "HOME": str(tmp_path)})
    run.apt = tmp_path / "apt"
    return run


def test_without_root_one_message_names_all(machine):
    result = machine("test", cargo="1.90.0")
    assert result.returncode == 1
    lines = [line for line in result.stderr.split("\n") if "apt-get install" in line]
    assert len(lines) == 1
    for package in ("gcc", "libevent-dev", "libgrpc-dev", "iptables", "check", "clang", "python3-venv"):
        assert f" {package} " in lines[0] + " "
    assert "nginx" not in result.stderr, "that is for the bench only"
    assert not machine.apt.exists(), "nothing is installed without root"


def test_only_what_is_missing_is_named(machine):
    result = machine("build", cargo="1.90.0", installed="gcc g++ make cmake")
    line = next(line for line in result.stderr.split("\n") if "apt-get install" in line) + " "
    assert " gcc " not in line and " cmake " not in line and " ninja-build " in line
    assert " clang " not in line and " iptables " not in line, "a plain make needs little"


@pytest.mark.parametrize("cargo", ["", "0.66.0"])
def test_source_of_boringssl_is_named_too(machine, cargo):
    result = machine("build", cargo=cargo, git=False)
    assert result.returncode == 1
    assert "apt-get install" in result.stderr and "a cargo of at least 1.85, or git" in result.stderr


def test_current_cargo_or_git_is_enough(machine):
    assert "or git" not in machine("build", cargo="1.85.0", git=False).stderr


def test_as_root_it_installs_and_says_why_it_could_not(machine):
    result = machine("build", uid=0, cargo="1.90.0")
    assert result.returncode == 1 and "apt-get failed" in result.stderr
    calls = machine.apt.read_text().split("\n")
    assert "install" in calls[0] and " libevent-dev" in calls[0]
    assert calls[1].startswith("update"), "an old list is refreshed before giving up"


def test_unknown_group_is_refused(machine):
    assert machine("nonsense").returncode == 2


def test_second_run_takes_less_than_two_seconds():
    start = time.monotonic()
    result = subprocess.run([DEPS, "test"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - start < 2
    assert result.stderr == "" and result.stdout == "", "it has nothing to say when all is there"


def test_environment_is_complete():
    """The interpreter finds the official protos, and the oracle runs."""
    python = os.path.join(ROOT, "tools/venv-python")
    code = ("import envoy.service.discovery.v3.ads_pb2_grpc, envoy.config.bootstrap.v3.bootstrap_pb2, sys;"
            "print(sys.prefix)")
    prefix = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    version = subprocess.run([os.path.join(prefix, "bin/envoy"), "--version"], capture_output=True, text=True,
                             check=True).stdout
    assert "/1.40.0/" in version
