"""What the tests of api-protos share: the driver and the official descriptors."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "protos"))

import official  # noqa: E402

FILES = official.load()


class Tool:
    """The driver process (protos_tool.c)."""

    def __init__(self, path):
        self.proc = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def call(self, command, type_name, data):
        """Returns (ok, bytes)."""
        if isinstance(data, str):
            data = data.encode()
        self.proc.stdin.write(f"{command} {type_name} {len(data)}\n".encode() + data)
        self.proc.stdin.flush()
        words = self.proc.stdout.readline().split()
        assert len(words) == 2, f"the driver ended: {command} {type_name} {data[:2000]!r}"
        return words[0] == b"ok", self.proc.stdout.read(int(words[1]))

    def ok(self, command, type_name, data):
        good, answer = self.call(command, type_name, data)
        assert good, f"{command} {type_name}: {answer.decode()}"
        return answer

    def refused(self, command, type_name, data):
        good, answer = self.call(command, type_name, data)
        assert not good, f"{command} {type_name}: accepted"
        return answer.decode()

    def close(self):
        self.proc.stdin.close()
        assert self.proc.wait(30) == 0


@pytest.fixture(scope="session")
def tool():
    path = os.environ.get("ATTACHE_PROTOS_TOOL", str(ROOT / "build" / "asan" / "protos-tool"))
    assert os.access(path, os.X_OK), f"{path} is not there: make MODE=asan protos-tool"
    t = Tool(path)
    yield t
    t.close()


@pytest.fixture(scope="session")
def shared():
    """The data beside the checkout; tests that need it say so when it is absent."""
    path = pathlib.Path(os.environ.get("ATTACHE_SHARED", ROOT.parent / "shared")) / "istio"
    if not path.is_dir():
        if os.environ.get("ATTACHE_REQUIRE_SHARED") == "1":
            pytest.fail(f"{path} is not there")
        pytest.skip(f"{path} is not there")
    return path
