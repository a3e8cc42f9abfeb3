"""The transport socket upstream_proxy_protocol: what servers are told of the client."""

import base64
import socket
import struct

import pytest

from controlplane import mesh
from harness.http1 import Client, Reader
from harness.proxy import cluster, http_listener, listener, static
from harness.tls import context
from harness.upstream import response

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TYPES = "type.googleapis.com/envoy.extensions."


def proxy_socket(version="V1", **more):
    return {"name": "envoy.transport_sockets.upstream_proxy_protocol", "typed_config": {
        "@type": TYPES + "transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
        "config": {"version": version, **more},
        "transport_socket": {"name": "raw", "typed_config": {
            "@type": TYPES + "transport_sockets.raw_buffer.v3.RawBuffer"}}}}


def accept_proxy(tlvs=None):
    return {"name": "envoy.filters.listener.proxy_protocol", "typed_config": {
        "@type": TYPES + "filters.listener.proxy_protocol.v3.ProxyProtocol",
        **({"pass_through_tlvs": tlvs} if tlvs else {})}}


def tlv(kind, value):
    return {"type": kind, "value": base64.b64encode(value).decode()}


class Header:
    """A PROXY header, version 1 or 2, as it is read from a connection."""

    def __init__(self, reader):
        if reader.take(1) == b"P":
            self.version, self.line = 1, b"P" + reader.line()
            return
        assert reader.take(11) == SIGNATURE[1:]
        self.version = 2
        self.command, self.family, length = struct.unpack(">BBH", reader.take(4))
        body = reader.take(length)
        self.tlvs = []
        if self.family != 0x11:
            return
        self.source = socket.inet_ntoa(body[:4]), struct.unpack(">H", body[8:10])[0]
        self.target = socket.inet_ntoa(body[4:8]), struct.unpack(">H", body[10:12])[0]
        at = 12
        while at < length:
            kind, size = struct.unpack(">BH", body[at:at + 3])
            self.tlvs.append((kind, body[at + 3:at + 3 + size]))
            at += 3 + size


class OneByOne:
    """A reader that takes no byte too many."""

    def __init__(self, sock):
        self.sock = sock

    def take(self, length):
        return b"".join(self.sock.recv(1) for _ in range(length))

    def line(self):
        got = b""
        while not got.endswith(b"\r\n"):
            got += self.sock.recv(1)
        return got[:-2]


def header_server(headers):
    def handle(sock):
        reader = Reader(sock)
        headers.append(Header(reader))
        sock.sendall(b"ok:" + reader.take(4))
    return handle


def tcp(start, serve, headers, socket_config, fields=None, **more):
    tcp_filter = mesh.tcp_proxy("up", "tcp")
    tcp_filter["typed_config"].update(fields or {})
    return start(static([listener([tcp_filter], **more)],
                        [cluster("up", serve(handle=header_server(headers)),
                                 transport_socket=socket_config)]))


def test_version_1(start, serve):
    headers = []
    proxy = tcp(start, serve, headers, proxy_socket())
    port = proxy.port()
    with Client(port) as client:
        client.send(b"ping")
        assert client.reader.rest() == b"ok:ping"
        own = client.sock.getsockname()[1]
    assert headers[0].line == b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d" % (own, port)


def test_version_2_with_tlvs(start, serve):
    headers = []
    fields = {"proxy_protocol_tlvs": [
        tlv(0xe1, b"one"), tlv(0xe3, b"three"),
        {"type": 0xe2, "format_string": {"text_format_source": {
            "inline_string": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}}]}
    config = proxy_socket("V2", added_tlvs=[tlv(0xe3, b"added"), tlv(0xe4, b"four")],
                          pass_through_tlvs={"match_type": "INCLUDE_ALL"})
    proxy = tcp(start, serve, headers, config, fields)
    port = proxy.port()
    with Client(port) as client:
        client.send(b"ping")
        assert client.reader.rest() == b"ok:ping"
        own = client.sock.getsockname()
    assert (headers[0].command, headers[0].family) == (0x21, 0x11)
    assert headers[0].source == own and headers[0].target == ("127.0.0.1", port)
    assert sorted(headers[0].tlvs) == [(0xe1, b"one"), (0xe2, b"127.0.0.1"), (0xe3, b"added"),
                                       (0xe4, b"four")]


@pytest.mark.parametrize("passed", [None, [0xe2]])
def test_header_of_the_client_is_passed_on(start, serve, passed):
    headers = []
    through = {"pass_through_tlvs": {"match_type": "INCLUDE", "tlv_type": passed}} if passed else {}
    proxy = tcp(start, serve, headers, proxy_socket("V2", **through),
                {"proxy_protocol_tlvs": [tlv(0xe2, b"not this one")]},
                listener_filters=[accept_proxy({"match_type": "INCLUDE_ALL"})])
    tlvs = b"\xe1\0\1a\xe2\0\1b"
    addresses = bytes([1, 2, 3, 4, 5, 6, 7, 8]) + struct.pack(">HH", 1000, 2000)
    with Client(proxy.port()) as client:
        client.send(SIGNATURE + struct.pack(">BBH", 0x21, 0x11, 12 + len(tlvs)) + addresses +
                    tlvs + b"ping")
        assert client.reader.rest() == b"ok:ping"
    assert headers[0].source == ("1.2.3.4", 1000) and headers[0].target == ("5.6.7.8", 2000)
    assert headers[0].tlvs == ([(0xe2, b"b")] if passed else [])


def test_each_client_has_its_own_connection(start, serve):
    """HTTP: what a connection says of its client is true of all requests on it."""
    lines = []

    def handle(sock):
        reader = Reader(sock)
        lines.append(Header(reader).line)
        while True:
            reader.request()
            sock.sendall(response(body=b"ok"))
    proxy = start(static([http_listener([mesh.route("up")])],
                         [cluster("up", serve(handle=handle), transport_socket=proxy_socket())]),
                  concurrency=1)
    port, own = proxy.port(), []
    for _ in range(2):
        with Client(port) as client:
            own.append(client.sock.getsockname()[1])
            for _ in range(3):
                assert client.ask().status == 200
    assert lines == [b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d" % (p, port) for p in own]


def test_inside_of_it_tls(start, serve, authority):
    headers = []

    tls = context(authority, authority.issue("spiffe://x/up"), server=True, require=False)

    def handle(sock):
        headers.append(Header(OneByOne(sock)))
        with tls.wrap_socket(sock, server_side=True) as server:
            server.sendall(b"ok:" + Reader(server).take(4))
            server.unwrap()
    config = proxy_socket()
    config["typed_config"]["transport_socket"] = {"name": "tls", "typed_config": {
        "@type": TYPES + "transport_sockets.tls.v3.UpstreamTlsContext"}}
    proxy = start(static([listener([mesh.tcp_proxy("up", "tcp")])],
                         [cluster("up", serve(handle=handle), transport_socket=config)]))
    with Client(proxy.port()) as client:
        client.send(b"ping")
        assert client.reader.take(7) == b"ok:ping"
    assert headers[0].version == 1
