"""connectrpc's conformance cases for gRPC and gRPC-Web through Attaché."""

import os

import pytest

import connect

CASES = {"passed on": 742, "gRPC-Web made gRPC": 342}


@pytest.mark.timeout(500)
@pytest.mark.parametrize("name", CASES)
def test_all_pass(name, tmp_path):
    if not os.path.exists(connect.tool("connectconformance")):
        pytest.skip("the suite is not there: tools/deps needs a go that can build it")
    passed, failed, text = connect.run("attache", tmp_path, name)
    assert not failed, text[-3000:]
    assert passed == CASES[name]
