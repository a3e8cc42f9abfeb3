"""A proxy in front of an HTTP/2 (gRPC) or HTTP/1 server: in plain text, with TLS, and over two hops with
mutual TLS between them, as two sidecars have it."""

import os
import pathlib

import peers
from controlplane import Authority

HTTP2 = {"explicit_http_config": {"http2_protocol_options": {"allow_connect": True}}}
HTTP1 = {"explicit_http_config": {"http_protocol_options": {}}}
NAME = "server.test"


class Certificates:
    """An authority and two identities, in files of `folder`."""

    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        authority = Authority()
        self.roots = os.path.join(folder, "roots.pem")
        pathlib.Path(self.roots).write_bytes(authority.roots_pem)
        self.pairs = {}
        for name in ("client", "server"):
            inner = os.path.join(folder, name)
            os.makedirs(inner, exist_ok=True)
            identity = authority.issue(authority.spiffe(name), dns=(NAME,) if name == "server" else ())
            self.pairs[name] = identity.write(inner)

    def common(self, name, alpn, verify=True):
        """common is the CommonTlsContext of one of the identities."""
        chain, key = self.pairs[name]
        context = {"alpn_protocols": list(alpn), "tls_certificates": [
            {"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}]}
        if verify:
            context["validation_context"] = {"trusted_ca": {"filename": self.roots}}
        return context

    def downstream(self, alpn, mutual):
        """downstream is a listener's transport socket."""
        return {"name": "tls", "typed_config": {
            "@type": "DownstreamTlsContext", "require_client_certificate": mutual,
            "common_tls_context": self.common("server", alpn, mutual)}}

    def upstream(self, alpn):
        """upstream is a cluster's transport socket, with the client's certificate."""
        return {"name": "tls", "typed_config": {
            "@type": "UpstreamTlsContext", "sni": NAME,
            "common_tls_context": self.common("client", alpn)}}


def cluster(name, port, protocol, **more):
    """cluster speaks HTTP2 or HTTP1 to a port of 127.0.0.1."""
    options = {"@type": "HttpProtocolOptions", **protocol}
    return peers.cluster(name, ("127.0.0.1", port), typed_extension_protocol_options={
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}, **more)


def listener(name, to, port=0, socket=None, hcm=None, route=None):
    """listener takes everything to a cluster, without time limits."""
    action = {"cluster": to, "timeout": "0s", **(route or {})}
    made = peers.http_listener([{"match": {"prefix": "/"}, "route": action}], name=name, hcm=hcm)
    made["address"]["socket_address"]["port_value"] = port
    if socket:
        made["filter_chains"][0]["transport_socket"] = socket
    return made


def start(proxy, folder, server_port, protocol=HTTP2, hcm=None):
    """start runs a proxy before a server: (proxy, {mode: port}) with the modes `plain` and `tls` (one
    hop) and `mtls` (two). Clients trust roots.pem of the folder."""
    os.makedirs(folder, exist_ok=True)
    certificates = Certificates(os.path.join(folder, "certs"))
    inner, = peers.free_ports(1)
    h2 = ["h2", "http/1.1"]
    running = peers.start(proxy, folder, peers.static(
        [listener("plain", "server", hcm=hcm),
         listener("tls", "server", socket=certificates.downstream(h2, False), hcm=hcm),
         listener("mtls", "inner", hcm=hcm),
         listener("inner", "server", inner, certificates.downstream(h2, True), hcm=hcm)],
        [cluster("server", server_port, protocol),
         cluster("inner", inner, HTTP2, transport_socket=certificates.upstream(["h2"]))]))
    return running, {mode: running.port(mode) for mode in ("plain", "tls", "mtls")}, certificates
