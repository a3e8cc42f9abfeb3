"""Listener filters: what the first bytes of a connection say, and which filter chain gets it."""

import socket
import ssl
import struct
import time

import pytest

from controlplane import mesh, xds
from harness.http1 import Client, ask
from harness.proxy import cluster, static

LISTENER = "envoy.extensions.filters.listener."
V2 = b"\r\n\r\n\0\r\nQUIT\n"
ADDRESSES = bytes([10, 1, 2, 3, 10, 5, 6, 7]) + struct.pack("!HH", 1111, 2222)
REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


def listener_filter(kind, version="v3", disabled=None, **fields):
    """listener_filter is one by the last part of its name: "tls_inspector"."""
    message = "".join(word.capitalize() for word in kind.split("_"))
    entry = {"name": "envoy.filters.listener." + kind,
             "typed_config": {"@type": f"{LISTENER}{kind}.{version}.{message}", **fields}}
    return {**entry, "filter_disabled": disabled} if disabled else entry


def inspectors(disabled=None):
    return [listener_filter(kind, disabled=disabled)
            for kind in ("tls_inspector", "http_inspector")]


def greet(name):
    """greet is a server that says its name at once, and then what it got."""
    def handle(sock):
        sock.sendall(b"<%s>" % name.encode())
        while (data := sock.recv(65536)):
            sock.sendall(data)
    return handle


@pytest.fixture
def proxy_of(start, serve):
    """proxy_of(filters, {name: match}, ...) starts a proxy whose chains lead each to the server of
    their name; None as a match makes it the default chain."""
    def starter(filters, chains, **more):
        servers = {name: serve(handle=greet(name)) for name in chains}
        made = {name: {"filters": [mesh.tcp_proxy(name, "tcp", log="access.log")],
                       "filter_chain_match": match} for name, match in chains.items()}
        default = next((name for name, match in chains.items() if match is None), None)
        one = {"name": "main", "address": xds.socket_address("127.0.0.1", 0),
               "listener_filters": filters, "listener_filters_timeout": "0s",
               "filter_chains": [c for name, c in made.items() if name != default], **more}
        if default:
            one["default_filter_chain"] = {"filters": made[default]["filters"]}
        return start(static([one], [cluster(n, s) for n, s in servers.items()]))
    return starter


def talk(port, data, drip=False):
    """talk sends the bytes, at once or one by one, and returns the server's greeting and echo."""
    with Client(port) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in ([bytes([b]) for b in data] if drip else [data]):
            client.send(piece)
            if drip:
                time.sleep(0.002)
        greeting = b""
        while not greeting.endswith(b">"):
            greeting += client.reader.take(1)
        return greeting[1:-1].decode()


BY_PROTOCOL = {
    "http11": {"application_protocols": ["http/1.1"]},
    "http10": {"application_protocols": ["http/1.0"]},
    "h2c": {"application_protocols": ["h2c"]},
    "tls": {"transport_protocol": "tls"},
    "tcp": None,
}


@pytest.mark.parametrize("drip", [False, True], ids=["whole", "byte by byte"])
def test_protocols_choose_the_chain(proxy_of, drip):
    """What a server in the test saw of it: the bytes of every protocol reach its chain whole."""
    proxy = proxy_of(inspectors(), BY_PROTOCOL)
    port = proxy.port()
    assert talk(port, b"GET /a HTTP/1.1\r\n", drip) == "http11"
    assert talk(port, b"OPTIONS * HTTP/1.0\r\n", drip) == "http10"
    assert talk(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", drip) == "h2c"
    assert talk(port, b"\x00\x01\x02\x03\x04\x05", drip) == "tcp"
    assert talk(port, b"EHLO mail\r\n", drip) == "tcp"
    assert talk(port, b"SSH-2.0-client\r\n", drip) == "tcp"
    assert talk(port, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\xff", drip) == "tcp"
    stats = proxy.stats("inspector")
    assert stats["http_inspector.http11_found"] == 1
    assert stats["http_inspector.http10_found"] == 1
    assert stats["http_inspector.http2_found"] == 1
    assert stats["http_inspector.http_not_found"] == 4
    assert stats["tls_inspector.tls_not_found"] == 7
    assert stats["tls_inspector.tls_found"] == 0


def test_first_impossible_byte(proxy_of):
    """A protocol in which the server answers a few bytes must not wait for more of them. (Envoy's
    inspectors decide at 5 bytes and at the end of the line.)"""
    proxy = proxy_of(inspectors(), {"http": {"application_protocols": ["http/1.1"]}, "tcp": None})
    late = b"\0\0\0\n" if proxy.is_envoy else b""
    for data in (b"\x16\x04", b"\x03\x00\x00", b"*1\r", b"USER\n", b"a\0", b"GET ?", b"GET / HTTQ"):
        data += late
        assert talk(proxy.port(), data) == "tcp", data


def test_tls_is_left_unread(proxy_of, serve):
    """A TLS connection is matched by its name and goes on to the server that ends it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["x", "istio"])
    proxy = proxy_of(inspectors(), {
        "exact": {"server_names": ["a.example.com"]},
        "suffix": {"server_names": ["*.example.com"]},
        "alpn": {"application_protocols": ["istio"], "transport_protocol": "tls"},
        "plain": {"transport_protocol": "raw_buffer"}})

    def hello(name):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        return outgoing.read()
    assert talk(proxy.port(), hello("a.example.com")) == "exact"
    assert talk(proxy.port(), hello("A.Example.com"), drip=True) == "exact"
    assert talk(proxy.port(), hello("b.c.example.com")) == "suffix"
    assert talk(proxy.port(), hello("other.org")) == "alpn"
    assert talk(proxy.port(), hello(None)) == "alpn"
    assert talk(proxy.port(), b"GET / HTTP/1.1\r\n") == "plain"
    stats = proxy.stats("tls_inspector")
    assert stats["tls_inspector.tls_found"] == 5 and stats["tls_inspector.tls_not_found"] == 1
    assert stats["tls_inspector.sni_found"] == 4 and stats["tls_inspector.sni_not_found"] == 1
    assert stats["tls_inspector.alpn_found"] == 5


@pytest.mark.parametrize("close", [False, True])
def test_malformed_hello(proxy_of, close):
    """By default it is not TLS; with the option the connection ends."""
    more = {"close_connection_on_client_hello_parsing_errors": True} if close else {}
    proxy = proxy_of([listener_filter("tls_inspector", **more)], {"tcp": None, "tls": {
        "transport_protocol": "tls"}})
    hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\xff"
    if not close:
        assert talk(proxy.port(), hello) == "tcp"
        return
    with Client(proxy.port()) as client:
        client.send(hello)
        assert client.is_closed()


def test_disabled_by_port(start, serve):
    """A filter is left out for the ports of its predicate: a server that speaks first is reached at
    once there, and HTTP is not looked for."""
    quiet = serve(handle=greet("quiet"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    only = {"or_match": {"rules": [
        {"and_match": {"rules": [
            {"destination_port_range": {"start": port, "end": port + 1}}, {"any_match": True}]}},
        {"not_match": {"any_match": True}}]}}
    rest = {"not_match": only}

    def one(name, disabled):
        return {"name": name, "address": xds.socket_address("127.0.0.1", port),
                "listener_filters": inspectors(disabled), "listener_filters_timeout": "0s",
                "filter_chains": [
                    {"filters": [mesh.tcp_proxy("quiet", "http")],
                     "filter_chain_match": {"application_protocols": ["http/1.1"]}},
                    {"filters": [mesh.tcp_proxy("quiet", "tcp")]}]}
    proxy = start(static([one("main", only)], [cluster("quiet", quiet)]))
    assert talk(port, b"") == "quiet"  # nothing was sent at all
    assert talk(port, b"GET / HTTP/1.1\r\n") == "quiet"
    assert proxy.stat("tcp.tcp.downstream_cx_total") == 2
    proxy.stop()
    proxy = start(static([one("main", rest)], [cluster("quiet", quiet)]))
    assert talk(port, b"GET / HTTP/1.1\r\n") == "quiet"
    assert proxy.stat("tcp.http.downstream_cx_total") == 1


@pytest.mark.parametrize("go_on", [False, True])
def test_timeout(proxy_of, go_on):
    """Nothing comes: the connection ends, or goes on with what is known."""
    proxy = proxy_of(inspectors(), {"tcp": {"transport_protocol": "raw_buffer"}},
                     listener_filters_timeout="0.2s", continue_on_listener_filters_timeout=go_on)
    port = proxy.port()
    if go_on:
        assert talk(port, b"") == "tcp"
    else:
        with Client(port) as client:
            assert client.is_closed()
    address = next(n for n in proxy.stats("downstream_pre_cx_timeout") if "admin" not in n)
    assert proxy.stat(address) == 1


def test_client_that_leaves(proxy_of):
    proxy = proxy_of(inspectors(), {"tcp": None, "x": {"server_names": ["x"]}})
    with Client(proxy.port()) as client:
        client.send(b"GE")
        time.sleep(0.1)
    name = next(n for n in proxy.stats("downstream_listener_filter_remote_close"))
    proxy.wait_stat(name)


# --- PROXY protocol -------------------------------------------------------------------------------
def v2(body=ADDRESSES, command=0x21, family=0x11):
    return V2 + bytes([command, family]) + struct.pack("!H", len(body)) + body


def tlv(kind, value):
    return bytes([kind]) + struct.pack("!H", len(value)) + value


FOUND = {
    "v1": (b"PROXY TCP4 10.1.2.3 10.5.6.7 1111 2222\r\n", "10.1.2.3:1111", "v1"),
    "v1 IPv6": (b"PROXY TCP6 2001:db8::1 2001:db8::2 1111 2222\r\n", "[2001:db8::1]:1111", "v1"),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None, "v1"),
    "v1 unknown with addresses": (b"PROXY UNKNOWN ff:: ff:: 1 2\r\n", None, "v1"),
    "v2": (v2(), "10.1.2.3:1111", "v2"),
    "v2 with TLVs": (v2(ADDRESSES + tlv(2, b"name") + tlv(0xee, b"\xff\0")), "10.1.2.3:1111",
                     "v2"),
    "v2 IPv6": (v2(socket.inet_pton(socket.AF_INET6, "2001:db8::1")
                   + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
                   + struct.pack("!HH", 1111, 2222), family=0x21), "[2001:db8::1]:1111", "v2"),
    "v2 datagram": (v2(family=0x12), "10.1.2.3:1111", "v2"),
    # CVE-2024-23327: of LOCAL nothing is to be read
    "v2 LOCAL CVE-2024-23327": (v2(b"", 0x20, 0), None, "v2"),
    "v2 LOCAL with addresses CVE-2024-23327": (v2(command=0x20), None, "v2"),
    "v2 LOCAL with anything CVE-2024-23327": (v2(b"abc", 0x20, 0x55), None, "v2"),
}


@pytest.mark.parametrize("drip", [False, True], ids=["whole", "byte by byte"])
def test_proxy_header(proxy_of, drip):
    """Both versions; the header is taken off, what follows it is not."""
    proxy = proxy_of([listener_filter("proxy_protocol")], {"tcp": {}})
    port = proxy.port()
    for number, (what, (header, remote, _)) in enumerate(FOUND.items(), 1):
        with Client(port) as client:
            own = "%s:%d" % client.sock.getsockname()
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in ([bytes([b]) for b in header] if drip else [header]):
                client.send(piece)
            client.send(b"payload")
            assert client.reader.take(12) == b"<tcp>payload", what
        assert proxy.wait_log(number)[-1]["remote"] == (remote or own), what
    for version in ("v1", "v2"):
        assert proxy.stat(f"proxy_proto.versions.{version}.found") == sum(
            v == version for *_, v in FOUND.values())


BAD = {
    "no parameters": b"PROXY TCP4\r\n",
    "line feed alone": b"PROXY UNKNOWN\n" + b"a" * 100,
    "no end in 107 bytes": b"PROXY UNKNOWN " + b"a" * 100,
    "no address": b"PROXY TCP4 10.1.2 10.5.6.7 1 2\r\n",
    "other family": b"PROXY TCP6 10.1.2.3 10.5.6.7 1 2\r\n",
    "no host": b"PROXY TCP4 0.0.0.0 10.5.6.7 1 2\r\n",
    "more fields": b"PROXY TCP4 10.1.2.3 10.5.6.7 1 2 3\r\n",
    "two spaces": b"PROXY TCP4  10.1.2.3 10.5.6.7 1 2\r\n",
    "port": b"PROXY TCP4 10.1.2.3 10.5.6.7 70000 2\r\n",
    "v1 family": b"PROXY UDP4 10.1.2.3 10.5.6.7 1 2\r\n",
    "word": b"PROXY UNKNOWNX\r\n",
    "version 1 in 2": v2(command=0x11),
    "command": v2(command=0x22),
    "too short": v2(ADDRESSES[:8]),
    "no protocol": v2(family=0x10),
    "no family": v2(b"", family=0),
    "Unix": v2(b"a" * 216, family=0x31),
    "family": v2(family=0x41),
    "multicast": v2(bytes([224, 0, 0, 1]) + ADDRESSES[4:]),
    # CVE-2026-47692: lengths that do not agree would let a payload begin inside of the header
    "TLV over the end CVE-2026-47692": v2(ADDRESSES + b"\x02\x00\x09a"),
    "TLV without a length CVE-2026-47692": v2(ADDRESSES + b"\x02\x00"),
    "one byte of a TLV CVE-2026-47692": v2(ADDRESSES + b"\x02"),
}


def test_bad_proxy_header(proxy_of):
    proxy = proxy_of([listener_filter("proxy_protocol")], {"tcp": {}})
    for what, header in BAD.items():
        with Client(proxy.port()) as client:
            client.send(header + REQUEST)
            assert client.is_closed(), what
    for data in (b"GET / HTTP/1.1\r\n", b"proxy TCP4 10.1.2.3 10.5.6.7 1 2\r\n",
                 b"\r\n\r\r" + b"a" * (20 if proxy.is_envoy else 0)):
        with Client(proxy.port()) as client:
            client.send(data)
            assert client.is_closed(), data
    stats = proxy.stats("proxy_proto")
    ones = sum(header.startswith(b"PROXY") for header in BAD.values())
    assert stats["proxy_proto.versions.v1.error"] == ones
    assert stats["proxy_proto.versions.v2.error"] == len(BAD) - ones
    assert stats["proxy_proto.not_found_disallowed"] == 3
    assert stats["downstream_cx_proxy_proto_error"] == len(BAD) + 3
    assert proxy.stat("tcp.tcp.downstream_cx_total") == 0


def test_without_proxy_header(proxy_of):
    """allow_requests_without_proxy_protocol: not even the signature's first bytes are waited for
    longer than they fit. A version that is not allowed is payload then."""
    proxy = proxy_of([listener_filter(
        "proxy_protocol", allow_requests_without_proxy_protocol=True, stat_prefix="pre",
        disallowed_versions=["V1"])], {"tcp": {}})
    header = FOUND["v1"][0]
    for data, seen in ((b"PX", b"PX"), (b"\r\n\r\n\0x", b"\r\n\r\n\0x"), (header, header),
                       (v2() + b"x", b"x")):
        with Client(proxy.port()) as client:
            client.send(data)
            assert client.reader.take(5 + len(seen)) == b"<tcp>" + seen
    stats = proxy.stats("proxy_proto")
    assert stats["proxy_proto.pre.not_found_allowed"] == 3
    assert stats["proxy_proto.pre.versions.v2.found"] == 1


def test_disallowed_version(proxy_of):
    proxy = proxy_of([listener_filter("proxy_protocol", disallowed_versions=["V2"])], {"tcp": {}})
    with Client(proxy.port()) as client:
        client.send(v2() + b"x")
        assert client.is_closed()
    assert talk(proxy.port(), FOUND["v1"][0]) == "tcp"
    assert proxy.stat("proxy_proto.versions.v2.disallowed") == 1


def test_proxied_addresses_choose_the_chain(proxy_of):
    """The header's addresses are those of the match; the direct source is the socket's."""
    proxy = proxy_of([listener_filter("proxy_protocol"), *inspectors()], {
        "port": {"destination_port": 2222},
        "range": {"prefix_ranges": [{"address_prefix": "10.5.0.0", "prefix_len": 16}]},
        "source": {"source_prefix_ranges": [{"address_prefix": "10.1.0.0", "prefix_len": 16}],
                   "direct_source_prefix_ranges": [
                       {"address_prefix": "127.0.0.0", "prefix_len": 8}]},
        "local": {"source_type": "SAME_IP_OR_LOOPBACK"},
        "other": None})

    def go(source, dest, port):
        header = f"PROXY TCP4 {source} {dest} 1 {port}\r\n".encode()
        return talk(proxy.port(), header + b"GET / HTTP/1.1\r\n")
    assert go("10.1.2.3", "10.5.6.7", 2222) == "port"
    assert go("10.1.2.3", "10.5.6.7", 1) == "range"
    assert go("10.1.2.3", "10.9.6.7", 1) == "source"
    assert go("127.0.0.1", "10.9.6.7", 1) == "other"  # the direct source had been matched before
    assert proxy.stat("http_inspector.http11_found") == 4


def test_hand_over(start, serve):
    """use_original_dst: the listener of exactly that address, else the wildcard of its port, else
    none; none of them has a socket of its own. The other's filters run after those of the first."""
    names = ("exact", "wildcard", "own", "other port", "http")
    servers = {n: serve(handle=greet(n)) for n in names}

    def one(name, address, port, **more):
        return {"name": name, "address": xds.socket_address(address, port),
                "bind_to_port": False, **more,
                "filter_chains": [{"filters": [mesh.tcp_proxy(name, name.replace(" ", "-"))]}]}
    sniffing = one("other port", "10.5.6.8", 2223, listener_filters=inspectors(),
                   listener_filters_timeout="0s")
    sniffing["filter_chains"].insert(0, {
        "filter_chain_match": {"application_protocols": ["http/1.1"]},
        "filters": [mesh.tcp_proxy("http", "http")]})
    listeners = [
        one("own", "127.0.0.1", 0, bind_to_port=True, use_original_dst=True,
            listener_filters=[listener_filter("proxy_protocol")]),
        one("exact", "10.5.6.7", 2222), one("wildcard", "0.0.0.0", 2222), sniffing]
    proxy = start(static(listeners, [cluster(n, s) for n, s in servers.items()]))
    port = proxy.port("own")

    def go(to, number, data=b"x\0\0\0\0\0"):
        return talk(port, f"PROXY TCP4 10.1.2.3 {to} 1 {number}\r\n".encode() + data)
    assert go("10.5.6.7", 2222) == "exact"
    assert go("10.5.6.9", 2222) == "wildcard"
    assert go("10.5.6.9", 2223) == "own"
    assert go("10.5.6.8", 2223) == "other port"
    assert go("10.5.6.8", 2223, b"GET / HTTP/1.1\r\n") == "http"
    assert proxy.stat("tcp.own.downstream_cx_total") == 1
    totals = {n: v for n, v in proxy.stats("^listener.*downstream_cx_total").items()
              if "worker" not in n and "admin" not in n}
    assert sorted(totals.values()) == [1, 1, 1, 2]


def may_be_transparent():
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
            return True
        except PermissionError:
            return False


@pytest.mark.skipif(not may_be_transparent(), reason="needs CAP_NET_ADMIN")
def test_original_source(start, serve):
    """Hosts see the client's address, over tcp_proxy and over HTTP, and no connection is used for
    another client."""
    peers = []

    def handle(sock):
        peers.append(sock.getpeername()[0])
        while sock.recv(65536):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    up = serve(handle=handle)
    filters = {"tcp": [mesh.tcp_proxy("up", "tcp")], "http": [
        mesh.hcm("h", route_config=mesh.route_config("r", [mesh.route("up")]))]}
    listeners = [{"name": n, "address": xds.socket_address("127.0.0.1", 0),
                  "listener_filters": [listener_filter("original_src", mark=0)],
                  "filter_chains": [{"filters": f}]} for n, f in filters.items()]
    proxy = start(static(listeners, [cluster("up", up)]))
    for name in filters:
        peers.clear()
        for source in ("127.0.0.9", "127.0.0.8", "127.0.0.9"):
            with socket.create_connection(("127.0.0.1", proxy.port(name)),
                                          source_address=(source, 0)) as sock:
                sock.settimeout(10)
                sock.sendall(REQUEST)
                assert sock.recv(100).startswith(b"HTTP/1.1 200")
        assert set(peers) == {"127.0.0.9", "127.0.0.8"}, name
        assert peers[:2] == ["127.0.0.9", "127.0.0.8"], name


def test_large_hello(proxy_of):
    """A ClientHello over the limit ends the connection."""
    proxy = proxy_of([listener_filter("tls_inspector", max_client_hello_size=1000)],
                     {"tcp": None, "tls": {"transport_protocol": "tls"}})
    with Client(proxy.port()) as client:
        client.send(b"\x16\x03\x01\x10\x00\x01\x00\x0f\xfc\x03\x03" + b"\0" * 2000)
        assert client.is_closed()
    assert proxy.stat("tls_inspector.client_hello_too_large") == 1


def test_filters_and_http(start, serve):
    """The whole way of Istio's inbound listener with an HTTP chain behind the inspectors."""
    upstream = serve(name="up")
    chain = {"filter_chain_match": {"application_protocols": ["http/1.1", "h2c"],
                                    "transport_protocol": "raw_buffer"},
             "filters": [mesh.hcm("in", route_config=mesh.route_config("r", [mesh.route("up")]))]}
    quiet = serve(handle=greet("quiet"))
    never = {"destination_port_range": {"start": 1, "end": 2}}
    one = {"name": "main", "address": xds.socket_address("127.0.0.1", 0),
           "traffic_direction": "INBOUND", "continue_on_listener_filters_timeout": True,
           "listener_filters_timeout": "0s", "max_connections_to_accept_per_socket_event": 1,
           "connection_balance_config": {"exact_balance": {}},
           "listener_filters": [
               listener_filter("original_dst"),
               listener_filter("tls_inspector", disabled=never, initial_read_buffer_size=512),
               listener_filter("http_inspector", disabled=never)],
           "filter_chains": [chain, {"filters": [mesh.tcp_proxy("quiet", "tcp")],
                                     "filter_chain_match": {"transport_protocol": "raw_buffer"}}]}
    proxy = start(static([one], [cluster("up", upstream), cluster("quiet", quiet)]))
    port = proxy.port()
    for _ in range(3):
        assert ask(port).body == b"up"
    assert talk(port, b"\0" * 6) == "quiet"
