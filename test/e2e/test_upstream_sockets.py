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
