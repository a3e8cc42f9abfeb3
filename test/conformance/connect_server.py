"""connect_server.py PROXY FOLDER SERVER [OPTION...] - what connectconformance takes for the server under
test: the server SERVER with a proxy before it. Options: `translate`: the proxy makes gRPC of gRPC-Web.

Both ends speak in messages of four bytes of length and a protobuf: ServerCompatRequest comes on the
standard input, ServerCompatResponse goes to the standard output with the proxy's port in it."""

import os
import signal
import subprocess
import sys
import tempfile

import gateway
import peers

HTTP_VERSION, VERSION_1 = 2, 1        # ServerCompatRequest.http_version, HTTP_VERSION_1
RESPONSE_PORT = 2                     # ServerCompatResponse
GRPC_OVER_HTTP2 = b"\x08\x02\x10\x02"  # protocol: PROTOCOL_GRPC, http_version: HTTP_VERSION_2
GRPC_WEB = {"name": "web", "typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"}}
ROUTER = {"name": "router", "typed_config": {"@type": "Router"}}


def read_message(source):
    size = int.from_bytes(source.read(4), "big")
    return source.read(size)


def varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def fields(message):
    """The fields of a message: {number: value}; the values of strings are bytes."""
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte, at = message[at], at + 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(message):
        tag = number()
        if tag & 7 == 0:
            found[tag >> 3] = number()
        else:
            size = number()
            found[tag >> 3], at = message[at:at + size], at + size
    return found


def main():
    proxy, folder, program, *options = sys.argv[1:]
    request = read_message(sys.stdin.buffer)
    if "translate" in options:  # the last value of a field counts
        request += GRPC_OVER_HTTP2
    # pylint: disable-next=consider-using-with
    server = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    server.stdin.write(len(request).to_bytes(4, "big") + request)
    server.stdin.flush()
    server.stdin.close()
    told = fields(read_message(server.stdout))
    protocol = gateway.HTTP1 if fields(request).get(HTTP_VERSION) == VERSION_1 else gateway.HTTP2
    hcm = {"http_protocol_options": {"enable_trailers": True}, "stream_idle_timeout": "0s"}
    if "translate" in options:
        hcm["http_filters"], protocol = [GRPC_WEB, ROUTER], gateway.HTTP2
    try:
        running = peers.start(proxy, tempfile.mkdtemp(dir=folder), peers.static(
            [gateway.listener("main", "server", hcm=hcm)],
            [gateway.cluster("server", told[RESPONSE_PORT], protocol)]))
    except AssertionError:
        server.kill()  # it holds our output open
        raise
    answer = b"\x0a\x09127.0.0.1" + varint(RESPONSE_PORT << 3) + varint(running.port())
    sys.stdout.buffer.write(len(answer).to_bytes(4, "big") + answer)
    sys.stdout.buffer.flush()
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pause()
    server.kill()
    running.process.kill()
    running.process.wait()
    findings = running.findings()
    os.write(2, "\n".join(findings).encode())
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
