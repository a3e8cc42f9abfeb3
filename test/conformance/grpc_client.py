"""grpc_client.py CASE ADDRESS [ROOTS] - a case of gRPC's interop service with grpcio. Messages are
written by hand: they have two fields that matter."""

import queue
import sys

import grpc

SERVICE = "/grpc.testing.TestService/"


def varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number, data):
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def simple_request(size=0, body=b"", status=None):
    """SimpleRequest: response_size, payload.body, response_status."""
    out = varint(2 << 3) + varint(size) if size else b""
    out += field(3, field(2, body)) if body else b""
    if status:
        out += field(7, varint(1 << 3) + varint(status[0]) + field(2, status[1].encode()))
    return out


def stream_request(sizes, body=b""):
    """StreamingOutputCallRequest: response_parameters, payload."""
    return b"".join(field(2, varint(1 << 3) + varint(s)) for s in sizes) + (
        field(3, field(2, body)) if body else b"")


def payload_size(reply):
    """The length of reply.payload.body, whose field is the first of both."""
    if not reply:
        return 0
    inner = reply[1:]
    while inner[0] & 128:
        inner = inner[1:]
    inner = inner[1:]
    assert inner[0] == 2 << 3 | 2, inner[:8]
    size, shift = 0, 0
    for byte in inner[1:]:
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return size
    raise AssertionError(inner[:16])


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def run(case, channel):
    unary = channel.unary_unary(SERVICE + "UnaryCall")
    duplex = channel.stream_stream(SERVICE + "FullDuplexCall")
    if case == "unary":
        assert channel.unary_unary(SERVICE + "EmptyCall")(b"", timeout=10) == b""
    elif case == "large":
        reply = unary(simple_request(314159, b"\0" * 271828), timeout=20)
        assert payload_size(reply) == 314159
    elif case == "server_streaming":
        sizes = [31415, 9, 2653, 58979]
        call = channel.unary_stream(SERVICE + "StreamingOutputCall")(stream_request(sizes), timeout=20)
        assert [payload_size(reply) for reply in call] == sizes
    elif case == "client_streaming":
        sizes = [27182, 8, 1828, 45904]
        call = channel.stream_unary(SERVICE + "StreamingInputCall")
        reply = call(iter([field(1, field(2, b"\0" * s)) for s in sizes]), timeout=20)
        assert reply == varint(1 << 3) + varint(sum(sizes)), reply
    elif case == "ping_pong":
        todo = queue.Queue()
        call = duplex(iter(todo.get, None), timeout=20)
        for size in (31415, 9, 2653):
            todo.put(stream_request([size], b"\0" * 100))
            assert payload_size(next(call)) == size
        todo.put(None)
        assert not list(call)
    elif case == "status":
        text = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
        got = code_of(lambda: unary(simple_request(status=(2, text)), timeout=10))
        assert got == (grpc.StatusCode.UNKNOWN, text), got
    elif case == "metadata":
        sent = (("x-grpc-test-echo-initial", "initial"),
                ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"))
        _, call = unary.with_call(simple_request(1), metadata=sent, timeout=10)
        assert dict(call.initial_metadata())["x-grpc-test-echo-initial"] == "initial"
        assert dict(call.trailing_metadata())["x-grpc-test-echo-trailing-bin"] == b"\xab\xab\xab"
    elif case == "deadline":
        late = stream_request([1]) + field(2, varint(1 << 3) + varint(1) + varint(2 << 3) +
                                           varint(2000000))
        got = code_of(lambda: list(duplex(iter([late]), timeout=0.5)))
        # the server counts the time too, and its reset may come first: a proxy passes it on, Envoy too,
        # as INTERNAL_ERROR
        assert got[0] in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED,
                          grpc.StatusCode.INTERNAL), got
    elif case == "cancel":
        todo = queue.Queue()
        todo.put(stream_request([31415]))
        call = duplex(iter(todo.get, None), timeout=20)
        assert payload_size(next(call)) == 31415
        call.cancel()
        todo.put(None)
        assert code_of(lambda: list(call))[0] == grpc.StatusCode.CANCELLED
    elif case == "unimplemented":
        got = code_of(lambda: channel.unary_unary("/grpc.testing.None/Call")(b"", timeout=10))
        assert got[0] == grpc.StatusCode.UNIMPLEMENTED, got
    else:
        raise SystemExit(f"no such case: {case}")


def main():
    case, address, *roots = sys.argv[1:]
    if roots:
        with open(roots[0], "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        channel = grpc.secure_channel(address, credentials, [
            ("grpc.ssl_target_name_override", "server.test")])
    else:
        channel = grpc.insecure_channel(address)
    with channel:
        run(case, channel)


if __name__ == "__main__":
    main()
