"""A gRPC server for grpc_transport_test: any method, bytes in and out, no generated code.

Prints its port, then serves until its standard input ends. What a request's bytes say is done:
`echo ...` is sent back, `big N` is answered with N bytes, `meta` with the request's metadata,
`three` with three messages at once, `abort` ends with PERMISSION_DENIED, `end` ends well, `ads`
becomes the scripted control plane below.
"""
import os
import sys
from concurrent import futures

os.environ["GRPC_VERBOSITY"] = "NONE"

import grpc

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def field(number, data):
    """A length-delimited protobuf field."""
    out = bytearray()
    for value in (number << 3 | 2, len(data)):
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out) + data


CLUSTER = b"type.googleapis.com/envoy.config.cluster.v3.Cluster"


def cluster(name, seconds):
    """An Any with a Cluster that has a connect_timeout."""
    message = field(1, name) + field(4, b"\x08" + bytes([seconds]))
    return field(2, field(1, CLUSTER) + field(2, message))


def response(version, *resources):
    """A DiscoveryResponse whose nonce is `n` and the version."""
    return (field(1, version) + b"".join(resources) + field(4, CLUSTER) +
            field(5, b"n" + version) + field(6, field(1, b"scripted")))


def control_plane(requests):
    """Two versions; the second answer is told back in the third as the name of a cluster."""
    yield response(b"1", cluster(b"a", 1), cluster(b"b", 2))
    ack = next(requests)
    yield response(b"2", cluster(b"a", 3), cluster(b"b", 2))
    nack = next(requests)
    name = (b"ack:" + str(b"n1" in ack).encode() + b",nack:" +
            str(b"n2" in nack and b"beast" in nack).encode())
    yield response(b"3", cluster(name, 4))
    next(requests)


def serve(requests, context):
    """One stream."""
    for request in requests:
        word, _, rest = request.partition(b" ")
        if CLUSTER in request:
            yield from control_plane(requests)
        elif word == b"echo":
            yield request
        elif word == b"big":
            yield bytes(int(rest))
        elif word == b"three":
            yield from (b"one", b"two", b"three")
        elif word == b"meta":
            yield "\n".join(f"{k}={v}" for k, v in context.invocation_metadata()).encode()
        elif word == b"abort":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
        elif word == b"end":
            return


class Handler(grpc.GenericRpcHandler):
    """Every method is `serve`."""

    def service(self, handler_call_details):
        return grpc.stream_stream_rpc_method_handler(serve)


def main():
    server = grpc.server(futures.ThreadPoolExecutor(8), options=UNLIMITED)
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


if __name__ == "__main__":
    main()
