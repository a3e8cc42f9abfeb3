"""upstream_bind_config and what else is set on connections to hosts."""

import socket

from controlplane import mesh
from harness.http1 import Client
from harness.proxy import cluster, listener, static


def address(ip):
    return {"address": ip, "port_value": 0}


def peer_of(start, serve, host="127.0.0.1", **fields):
    """The address that a server sees, as text; None if no connection comes about."""
    server = serve(handle=lambda sock: sock.sendall(sock.getpeername()[0].encode()), host=host)
    proxy = start(static([listener([mesh.tcp_proxy("up", "tcp")])],
                         [cluster("up", server, upstream_bind_config=fields)]))
    with Client(proxy.port()) as client:
        return proxy, client.reader.rest().decode()


def test_source_address(start, serve):
    assert peer_of(start, serve, source_address=address("127.0.0.6"))[1] == "127.0.0.6"


def test_source_address_of_the_right_family(start, serve):
    more = [{"address": address("127.0.0.7")}]
    seen = peer_of(start, serve, source_address=address("::1"), extra_source_addresses=more)[1]
    assert seen == "127.0.0.7"
    seen = peer_of(start, serve, source_address=address("::1"),
                   additional_source_addresses=[address("127.0.0.8")])[1]
    assert seen == "127.0.0.8"


def test_default_selector(start, serve):
    selector = {"name": "x", "typed_config": {
        "@type": "type.googleapis.com/envoy.config.upstream.local_address_selector.v3."
                 "DefaultLocalAddressSelector"}}
    assert peer_of(start, serve, source_address=address("127.0.0.6"),
                   local_address_selector=selector)[1] == "127.0.0.6"


def test_socket_options(start, serve):
    """A keep-alive option that the kernel refuses keeps the connection from being made; one that it
    takes does not."""
    def option(name, value):
        return {"level": socket.IPPROTO_TCP, "name": name, "int_value": value,
                "state": "STATE_PREBIND"}
    proxy, seen = peer_of(start, serve, source_address=address("127.0.0.6"),
                          socket_options=[option(socket.TCP_KEEPIDLE, 77)])
    assert seen == "127.0.0.6"
    proxy, seen = peer_of(start, serve, source_address=address("127.0.0.6"),
                          socket_options=[option(socket.TCP_KEEPIDLE, -1)])
    assert seen == "" and proxy.stat("cluster.up.upstream_cx_connect_fail") == 1


def test_address_that_is_not_ours(start, serve):
    proxy, seen = peer_of(start, serve, source_address=address("192.0.2.77"))
    assert seen == ""
    assert proxy.stat("cluster.up.bind_errors") == 1
    assert proxy.stat("cluster.up.upstream_cx_connect_fail") == 1
    assert proxy.stat("cluster.up.upstream_cx_active") == 0


def happy(start, first, *more, protocol=None, **fields):
    """A proxy whose only endpoint has several addresses."""
    up = cluster("up", first, **fields)
    endpoint = up["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    endpoint["additional_addresses"] = [
        {"address": {"socket_address": {"address": a, "port_value": p}}} for a, p in more]
    return start(static([listener([mesh.tcp_proxy("up", "tcp", log="access.log")])], [up]))


def nobody():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return closed.getsockname()


def test_another_address_of_the_same_endpoint(start, serve):
    upstream = serve(handle=lambda sock: sock.sendall(b"here"))
    proxy = happy(start, nobody(), nobody(), upstream.endpoint)
    for _ in range(3):
        with Client(proxy.port()) as client:
            assert client.reader.rest() == b"here"
    if not proxy.is_envoy:  # which counts attempts
        assert proxy.stat("cluster.up.upstream_cx_total") == 3
    assert proxy.stat("cluster.up.upstream_cx_connect_fail") == 0


def test_no_address_of_the_endpoint_answers(start):
    proxy = happy(start, nobody(), nobody())
    with Client(proxy.port()) as client:
        assert client.is_closed()
    assert proxy.stat("cluster.up.upstream_cx_connect_fail") == 1
    assert proxy.stat("cluster.up.upstream_cx_active") == 0
    assert proxy.wait_log()[0]["flags"] == "UF,URX"


def test_addresses_that_are_silent(start, serve):
    """The next one is tried 0.3 s later; the client does not wait for the timeout."""
    upstream = serve(handle=lambda sock: sock.sendall(b"here"))
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        fill = []
        for _ in range(4):
            fill.append(socket.socket())
            fill[-1].setblocking(False)
            fill[-1].connect_ex(full.getsockname())
        proxy = happy(start, full.getsockname(), upstream.endpoint, connect_timeout="30s")
        with Client(proxy.port(), timeout=15) as client:
            assert client.reader.rest() == b"here"
        for sock in fill:
            sock.close()
