"""connectrpc's conformance cases for gRPC and gRPC-Web through Attaché."""

import os

import pytest

import connect

CASES = {"passed on": 742, "gRPC-Web made gRPC": 342}
# of the cases named flaky in connect.RUNS, which are 20
FLAKY_MAX = 8


@pytest.mark.timeout(500)
@pytest.mark.parametrize("name", CASES)
def test_all_pass(name, tmp_path):
    if not os.path.exists(connect.tool("connectconformance")):
        pytest.skip("the suite is not there: tools/deps needs a go that can build it")
    passed, failed, text = connect.run("attache", tmp_path, name)
    assert not failed, text[-3000:]
    flaky = connect.flaky(text)
    assert passed + flaky == CASES[name] and flaky <= FLAKY_MAX, text[-3000:]
