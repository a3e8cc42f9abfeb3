"""gRPC's interoperability cases through Attaché: the clients of Go and Python against the server of Go, in
plain text, with TLS, and over two proxies with mutual TLS between them."""

import os

import pytest

import grpc_interop

CLIENTS = ("go", "python")


@pytest.fixture(scope="module", name="results")
def make_results(tmp_path_factory):
    if not os.path.exists(grpc_interop.tool("server")):
        pytest.skip("the server of Go is not there: tools/deps needs a go that can build it")
    return grpc_interop.run("attache", str(tmp_path_factory.mktemp("grpc")), CLIENTS)


@pytest.mark.parametrize("mode", grpc_interop.MODES)
@pytest.mark.parametrize("client, case", [
    (client, case) for client in CLIENTS for case in grpc_interop.CLIENTS[client][1]])
def test_case(client, case, mode, results):
    assert not results[client, mode, case]
