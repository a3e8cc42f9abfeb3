"""TLS on both sides with secrets from SDS: identities, verification, rotation."""

import ssl

import pytest

from controlplane import ControlPlane, mesh
from controlplane import xds
from harness import tls
from harness.http1 import ask
from harness.proxy import cluster, dynamic, listener

SERVER, CLIENT = "server", "client"
INSPECTOR = {"listener_filters": [{"name": "envoy.filters.listener.tls_inspector",
                                   "typed_config": {"@type": "TlsInspector"}}]}


def uri(authority, name):
    return authority.spiffe(name)


def filters(log="access.log", to="up"):
    return [mesh.hcm("test", route_config=mesh.route_config("r", [mesh.route(to)]), log=log)]


def tls_listener(sds_cluster, log="access.log", name="main", **context):
    made = listener(filters(log), name, **INSPECTOR)
    made["filter_chains"][0]["transport_socket"] = mesh.downstream_tls(sds_cluster=sds_cluster)
    made["filter_chains"][0]["transport_socket"]["typed_config"].update(context)
    return made


@pytest.fixture(params=["ads", "own-stream"])
def secrets(request, tmp_path, control_plane):
    """Where secrets come from: (the server, its address for the bootstrap, cluster in sds())."""
    if request.param == "ads":
        yield control_plane, None, None
        return
    path = tls.socket_path(tmp_path)
    with ControlPlane(f"unix:{path}") as server:
        yield server, f"unix:{path}", "sds-grpc"


def give(server, authority, identity):
    return server.set("Secret", [authority.secret_identity(identity), authority.secret_roots()])


@pytest.fixture
def mutual(start, serve, control_plane, secrets, authority):
    """A proxy that takes mutual TLS and shows the identity of `server`."""
    server, address, sds_cluster = secrets
    identity = authority.issue(uri(authority, SERVER))
    give(server, authority, identity)
    control_plane.set_all({
        "Cluster": [xds.message("Cluster", cluster("up", serve()))],
        "Listener": [xds.message("Listener", tls_listener(sds_cluster))]})
    proxy = start(dynamic(control_plane, sds=address))
    return proxy, server, identity


def test_mutual_tls_and_identities_in_the_log(mutual, authority):
    proxy, _, identity = mutual
    caller = authority.issue(uri(authority, CLIENT))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = tls.context(authority, caller, alpn=["http/1.1"])
        context.minimum_version = context.maximum_version = version
        with tls.connect(proxy.port(), context, sni="some.host") as client:
            assert client.ask().status == 200
            assert f"{tls.peer(client).serial_number:x}" == identity.serial
            assert client.sock.selected_alpn_protocol() == "http/1.1"
            assert client.sock.version() == version.name.replace("v1_", "v1.")
    for entry, version in zip(proxy.wait_log(2), ("TLSv1.2", "TLSv1.3")):
        assert entry["peer"] == uri(authority, CLIENT) and entry["local"] == uri(authority, SERVER)
        assert int(entry["serial"], 16) == int(caller.serial, 16)
        assert entry["sni"] == "some.host" and entry["tls"] == version


def test_who_is_refused(mutual, authority):
    from controlplane import Authority
    proxy, _, _ = mutual
    port = proxy.port()
    stranger = Authority()
    long_ago = authority.issue(uri(authority, CLIENT), lifetime=-10)
    assert tls.refused(port, tls.context(authority)), "no certificate"
    other_root = tls.context(authority, stranger.issue(uri(authority, CLIENT)))
    assert tls.refused(port, other_root), "another authority"
    assert tls.refused(port, tls.context(authority, long_ago)), "expired"
    elsewhere = authority.issue("spiffe://other.domain/ns/demo/sa/client")
    assert tls.refused(port, tls.context(authority, elsewhere)), "another trust domain"
    no_uri = authority.issue(None, dns=["cluster.local"])
    assert tls.refused(port, tls.context(authority, no_uri)), "no URI"
    server_only = authority.issue(uri(authority, CLIENT), client=False)
    assert tls.refused(port, tls.context(authority, server_only)), "not for clients"
    old = tls.context(authority, authority.issue(uri(authority, CLIENT)))
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    assert tls.refused(port, old), "TLS 1.1"
    proxy.wait(lambda: sum(v for k, v in proxy.stats("ssl.fail_verify").items()) >= 3, 5,
               "counters of failed verification")
    assert not tls.refused(port, tls.context(authority, authority.issue(uri(authority, CLIENT))))


def test_rotation_keeps_connections(mutual, authority):
    proxy, server, identity = mutual
    port = proxy.port()
    caller = tls.context(authority, authority.issue(uri(authority, CLIENT)))
    with tls.connect(port, caller) as old:
        assert old.ask().status == 200
        renewed = authority.issue(uri(authority, SERVER))
        version = give(server, authority, renewed)
        server.wait_ack("Secret", version)

        def shows_new():
            with tls.connect(port, caller) as new:
                assert new.ask().status == 200
                return f"{tls.peer(new).serial_number:x}" == renewed.serial
        proxy.wait(shows_new, 5, "the new certificate")
        assert old.ask().status == 200
        assert f"{tls.peer(old).serial_number:x}" == identity.serial
    assert renewed.serial.lstrip("0") in proxy.admin("/certs")[1].lower()


def test_bad_secret_is_refused_and_the_old_stays(mutual, authority):
    proxy, server, identity = mutual
    port = proxy.port()
    other = authority.issue(uri(authority, SERVER))
    mixed = authority.secret_identity(identity)
    mixed.tls_certificate.private_key.inline_bytes = other.key_pem
    mark = server.mark()
    server.set("Secret", [mixed, authority.secret_roots()])
    nack = server.wait_nack("Secret", since=mark)
    assert identity.key_pem.decode() not in nack.error
    with tls.connect(port, tls.context(authority, other)) as client:
        assert client.ask().status == 200
        assert f"{tls.peer(client).serial_number:x}" == identity.serial
    server.wait_ack("Secret", give(server, authority, other))


def test_listener_waits_for_its_secret(start, serve, control_plane, secrets, authority):
    server, address, sds_cluster = secrets
    server.hold("Secret")
    give(server, authority, authority.issue(uri(authority, SERVER)))
    control_plane.set_all({
        "Cluster": [xds.message("Cluster", cluster("up", serve()))],
        "Listener": [xds.message("Listener", tls_listener(sds_cluster))]})
    proxy = start(dynamic(control_plane, sds=address), ready=False)
    server.wait_request("Secret")
    assert proxy.admin("/ready")[0] == 503
    server.release("Secret")
    proxy.wait(proxy.is_ready, 10, "/ready")
    caller = tls.context(authority, authority.issue(uri(authority, CLIENT)))
    with tls.connect(proxy.port(), caller) as client:
        assert client.ask().status == 200


def test_private_keys_are_not_shown(mutual, authority):
    proxy, _, identity = mutual
    import base64
    dump = proxy.admin("/config_dump")[1]
    assert "PRIVATE KEY" not in dump
    assert base64.b64encode(identity.key_pem).decode()[:60] not in dump


# --- upstream -------------------------------------------------------------------------------------
@pytest.fixture
def originate(start, serve, control_plane, secrets, authority):
    """originate(server identity, expected identities) is a proxy that speaks mutual TLS to an
    upstream that shows that identity, and the upstream."""
    server, address, sds_cluster = secrets
    give(server, authority, authority.issue(uri(authority, CLIENT)))

    def starter(shown, expected, issuer=None, **more):
        context = tls.context(authority, (issuer or authority).issue(shown), server=True)
        upstream = serve(tls=context)
        to = cluster("up", upstream, transport_socket=mesh.upstream_tls(
            "up.host", expected, sds_cluster=sds_cluster), **more)
        control_plane.set_all({
            "Cluster": [xds.message("Cluster", to)],
            "Listener": [xds.message("Listener", listener(filters()))]})
        return start(dynamic(control_plane, sds=address)), upstream
    return starter


def test_upstream_with_the_right_identity(originate, authority):
    right = uri(authority, SERVER)
    proxy, upstream = originate(right, ["spiffe://other/x", right])
    assert ask(proxy.port()).status == 200
    assert proxy.stat("cluster.up.ssl.handshake") == 1


@pytest.mark.parametrize("case", ["name", "authority"])
def test_upstream_with_the_wrong_identity_is_503(originate, authority, case):
    from controlplane import Authority
    right = uri(authority, SERVER)
    if case == "name":
        proxy, upstream = originate(uri(authority, "impostor"), [right])
        counter = "cluster.up.ssl.fail_verify_san"
    else:
        proxy, upstream = originate(right, [right], issuer=Authority())
        counter = "cluster.up.ssl.fail_verify_error"
    answer = ask(proxy.port())
    assert answer.status == 503
    assert upstream.requests == []
    entry = proxy.wait_log()[0]
    assert entry["flags"] == "UF"
    assert "CERTIFICATE_VERIFY_FAILED" in entry["details"]
    assert proxy.stat(counter) == 1


def test_upstream_without_tls_is_503(start, serve, control_plane, authority, originate):
    right = uri(authority, SERVER)
    proxy, upstream = originate(right, [right])
    plain = serve()
    to = cluster("up", plain, transport_socket=mesh.upstream_tls("x", [right], sds_cluster=None))
    give(control_plane, authority, authority.issue(uri(authority, CLIENT)))
    version = control_plane.set("Cluster", [xds.message("Cluster", to)])
    control_plane.wait_ack("Cluster", version)
    proxy.wait(lambda: ask(proxy.port()).status == 503, 10, "503")
    assert plain.requests == []


def test_upstream_uses_the_renewed_certificate(originate, secrets, authority):
    server, _, _ = secrets
    right = uri(authority, SERVER)
    shown = []
    proxy, upstream = originate(right, [right], max_requests_per_connection=1)
    renewed = authority.issue(uri(authority, CLIENT))

    def answer(request):
        shown.append(request)
        from harness.upstream import response
        return response()
    upstream.answer = answer
    assert ask(proxy.port()).status == 200
    server.wait_ack("Secret", give(server, authority, renewed))

    def in_use():
        assert ask(proxy.port()).status == 200
        text = proxy.admin("/certs")[1].lower()
        return renewed.serial.lstrip("0") in text
    proxy.wait(in_use, 5, "the renewed certificate")


# --- chains ---------------------------------------------------------------------------------------
def test_permissive_takes_both_and_strict_only_tls(start, serve, control_plane, authority):
    """Chains by transport protocol and ALPN, as virtualInbound has them. The destination is the
    listener's own port here, so chains are matched without one."""
    give(control_plane, authority, authority.issue(uri(authority, SERVER)))
    secure, plain = mesh.inbound_chains(80, filters(log="secure.log"), sds_cluster=None)
    plain = {**plain, "filters": filters(log="plain.log")}
    app_tls = {"name": "app-tls", "filter_chain_match": {"transport_protocol": "tls"},
               "filters": [mesh.tcp_proxy("app")]}
    for chain in (secure, plain):
        del chain["filter_chain_match"]["destination_port"]
    strict, = mesh.inbound_chains(80, filters(log="strict.log"), "STRICT", sds_cluster=None)
    del strict["filter_chain_match"]["destination_port"]
    app = serve(tls=tls.context(authority, authority.issue(uri(authority, "app")), server=True,
                                require=False), name="app")
    control_plane.set_all({
        "Cluster": [xds.message("Cluster", cluster("up", serve(name="up"))),
                    xds.message("Cluster", cluster("app", app))],
        "Listener": [
            xds.message("Listener", {**listener([], "permissive"), **INSPECTOR,
                                     "filter_chains": [secure, plain, app_tls]}),
            xds.message("Listener", {**listener([], "strict"), **INSPECTOR,
                                     "filter_chains": [strict]})]})
    proxy = start(dynamic(control_plane))
    caller = authority.issue(uri(authority, CLIENT))
    mesh_tls = tls.context(authority, caller, alpn=["istio-http/1.1", "istio"])
    own_tls = tls.context(authority, caller, alpn=["http/1.1"])
    port = proxy.port("permissive")
    assert ask(port).body == b"up"
    with tls.connect(port, mesh_tls) as client:
        assert client.ask().body == b"up"
    with tls.connect(port, own_tls) as client:
        assert client.ask().body == b"app"
    assert proxy.wait_log(1, "secure.log")[0]["peer"] == uri(authority, CLIENT)
    assert proxy.wait_log(1, "plain.log")[0]["peer"] in ("-", None)
    port = proxy.port("strict")
    with tls.connect(port, mesh_tls) as client:
        assert client.ask().body == b"up"
    with pytest.raises(Exception):
        ask(port)
    proxy.wait_stat("listener.127.0.0.1_0.no_filter_chain_match")
