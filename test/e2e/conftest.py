"""Fixtures of the end-to-end tests.

The tests run against the binary in ATTACHE_BIN (build/release/attache). With ATTACHE_ORACLE set to
the path of an Envoy they run against that one as well, which shows that a test asks for what Envoy
does: ATTACHE_ORACLE=... pytest test/e2e -k oracle.
"""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from harness import ROOT  # noqa: E402
from harness.proxy import Proxy  # noqa: E402
from harness.upstream import HttpServer, Server  # noqa: E402
from controlplane import Authority, ControlPlane  # noqa: E402


def pytest_generate_tests(metafunc):
    if "binary" in metafunc.fixturenames:
        binaries = [pytest.param((os.environ.get("ATTACHE_BIN",
                                                 str(ROOT / "build/release/attache")), False),
                                 id="attache")]
        if os.environ.get("ATTACHE_ORACLE"):
            binaries.append(pytest.param((os.environ["ATTACHE_ORACLE"], True), id="oracle"))
        metafunc.parametrize("binary", binaries)


@pytest.fixture
def start(binary, tmp_path):
    """start(bootstrap, ...) starts a proxy. At the end of the test every one must end by SIGTERM
    with exit status 0, and no sanitizer may have complained."""
    path, is_envoy = binary
    if not os.access(path, os.X_OK):
        pytest.fail(f"{path} is not there (make)")
    proxies = []

    def starter(bootstrap, ready=True, **more):
        folder = tmp_path / f"proxy-{len(proxies)}"
        folder.mkdir()
        proxy = Proxy(path, folder, bootstrap, is_envoy=is_envoy, **more)
        proxies.append(proxy)
        return proxy.start(ready)
    yield starter
    problems = []
    for proxy in proxies:
        if proxy.process is None:
            continue
        died = proxy.process.poll()
        if died is not None and died < 0 and died not in (-9, -15):
            problems.append(f"died by signal {-died}\n{proxy.log()}")
        elif died is None and proxy.stop() != 0:
            problems.append(f"exit status {proxy.process.returncode}\n{proxy.log()}")
        problems += proxy.findings() and [proxy.log()]
    assert not problems, "\n".join(problems)


@pytest.fixture
def serve():
    """serve(answer) starts an HTTP upstream; serve(handle=...) a TCP one."""
    servers = []

    def starter(answer=None, handle=None, **more):
        servers.append(Server(handle, **more) if handle else HttpServer(answer, **more))
        return servers[-1]
    yield starter
    for server in servers:
        server.close()


@pytest.fixture
def control_plane():
    """A control plane on a free port, running."""
    server = ControlPlane().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def authority():
    return Authority()
