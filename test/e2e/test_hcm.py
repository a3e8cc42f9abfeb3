"""What the connection manager makes of a request before it is routed, and of the response: who asks,
what is believed of it, and what others are told."""

import re
import time
import urllib.parse

from cryptography.hazmat.primitives import hashes, serialization
import pytest

from controlplane import mesh
from harness import http2
from harness.http1 import Client
from harness.proxy import cluster, http_listener, listener, static
from harness.tls import connect, context as tls_context

EXTENSION = "type.googleapis.com/envoy.extensions.http."
INTERNAL = {"internal_address_config": {"cidr_ranges": [
    {"address_prefix": "127.0.0.0", "prefix_len": 8},
    {"address_prefix": "10.0.0.0", "prefix_len": 8}]}}
EDGE = {"use_remote_address": True}
LOG = {"remote": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "details": "%RESPONSE_CODE_DETAILS%",
       "scheme": "%REQ(:SCHEME)%", "flags": "%RESPONSE_FLAGS%", "code": "%RESPONSE_CODE%"}


def xff(**more):
    return {"original_ip_detection_extensions": [{"name": "xff", "typed_config": {
        "@type": EXTENSION + "original_ip_detection.xff.v3.XffConfig", **more}}]}


def trusting(*addresses):
    return {"xff_trusted_cidrs": {"cidrs": [{"address_prefix": a, "prefix_len": 8}
                                            for a in addresses]}}


def by_header(**more):
    return {"original_ip_detection_extensions": [{"name": "header", "typed_config": {
        "@type": EXTENSION + "original_ip_detection.custom_header.v3.CustomHeaderConfig",
        "header_name": "X-Real-Ip", **more}}]}


def early(*mutations):
    return {"early_header_mutation_extensions": [{"name": "early", "typed_config": {
        "@type": EXTENSION + "early_header_mutation.header_mutation.v3.HeaderMutation",
        "mutations": list(mutations)}}]}


@pytest.fixture
def asking(start, serve):
    """asking(hcm) gives ask(fields, target) -> (response, request upstream or None, log entry)."""
    def starter(hcm=None, routes=None):
        upstream = serve()
        hcm = {"access_log": mesh.access_log("access.log", LOG), **(hcm or {})}
        proxy = start(static([http_listener(routes or [mesh.route("up")], hcm=hcm)],
                             [cluster("up", upstream)]))
        asked = [0]

        def ask(fields=(), target="/"):
            before = len(upstream.requests)
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
            with Client(proxy.port()) as client:
                client.send(f"GET {target} HTTP/1.1\r\nHost: h.example\r\n{lines}\r\n".encode())
                answer = client.response()
            asked[0] += 1
            entry = proxy.wait_log(asked[0])[-1]
            return answer, (upstream.requests[-1] if len(upstream.requests) > before else None), \
                entry
        ask.proxy = proxy
        return ask
    return starter


XFF = [None, "1.2.3.4", "10.0.0.1", "1.2.3.4, 10.0.0.1", "5.5.5.5,1.2.3.4 ,10.0.0.1,10.0.0.2",
       "bogus,10.0.0.1", "bogus", "1.2.3.4:80", "10.0.0.9,10.0.0.1"]
HERE = "127.0.0.1"
# configuration, the client's address for each of XFF, which of them are internal, does the field grow
DETECTION = [
    ({}, [HERE, "1.2.3.4", "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.1", HERE, HERE, "10.0.0.1"],
     {2}, False),
    (xff(), [HERE, "1.2.3.4", "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.1", HERE, HERE,
             "10.0.0.1"], {2}, False),
    (xff(xff_num_trusted_hops=1),
     [HERE, HERE, HERE, "1.2.3.4", "10.0.0.1", HERE, HERE, HERE, "10.0.0.9"], set(), False),
    (xff(skip_xff_append=False), [HERE, "1.2.3.4", "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.1",
                                  HERE, HERE, "10.0.0.1"], {2}, True),
    (xff(**trusting("10.0.0.0")), [HERE] * 9, set(), True),  # our peer is not to be trusted
    (xff(**trusting("10.0.0.0", "127.0.0.0")),
     [HERE, "1.2.3.4", "10.0.0.1", "1.2.3.4", "1.2.3.4", HERE, HERE, HERE, "10.0.0.9"], {2}, False),
    (xff(**trusting("10.0.0.0", "127.0.0.0"), skip_xff_append=False),
     [HERE, "1.2.3.4", "10.0.0.1", "1.2.3.4", "1.2.3.4", HERE, HERE, HERE, "10.0.0.9"], {2}, True),
    (EDGE, [HERE] * 9, {0}, True),
    ({**EDGE, "skip_xff_append": True}, [HERE] * 9, {0}, False),
]


@pytest.mark.parametrize("case", range(len(DETECTION)))
def test_who_asks_by_x_forwarded_for(asking, case):
    config, clients, internal, grows = DETECTION[case]
    ask = asking({**INTERNAL, **config})
    for i, field in enumerate(XFF):
        fields = [("x-forwarded-for", field)] if field else []
        _, seen, entry = ask([*fields, ("x-envoy-internal", "true")])
        assert entry["remote"] == clients[i], field
        assert seen.get("x-envoy-internal") == ("true" if i in internal else None), field
        got = seen.get("x-forwarded-for")
        if grows:
            assert got.startswith(field + "," if field else "") and got != field
        else:
            assert got == field


REAL = [None, "1.2.3.4", "10.0.0.1", "bogus", "1.2.3.4, 5.6.7.8", "::1"]


@pytest.mark.parametrize("reject", [None, 401, 200])
@pytest.mark.parametrize("trusted", [False, True])
def test_who_asks_by_a_field_of_its_own(asking, trusted, reject):
    ask = asking({**INTERNAL, **by_header(
        allow_extension_to_set_address_as_trusted=trusted,
        **({"reject_with_status": {"code": reject}} if reject else {}))})
    for real in REAL:
        good = real in ("1.2.3.4", "10.0.0.1", "::1")
        answer, seen, entry = ask([("x-real-ip", real)] if real else [])
        assert entry["remote"] == (real if good else HERE)
        if reject and not good:
            assert answer.status == (401 if reject == 401 else 403) and seen is None
            assert entry["details"] == "rejecting_because_detection_failed"
            continue
        assert answer.status == 200 and not seen.get("x-forwarded-for")
        internal = trusted and real == "10.0.0.1"
        assert seen.get("x-envoy-internal") == ("true" if internal else None)


# x-envoy-* that nobody outside may set (CVE-2023-27487, CVE-2024-45806), and those dropped at the edge
INNER = ["x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-envoy-max-retries", "x-envoy-ip-tags",
         "x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms",
         "x-envoy-hedge-on-per-try-timeout", "x-envoy-force-trace", "x-envoy-upstream-alt-stat-name",
         "x-envoy-upstream-rq-timeout-alt-response", "x-envoy-upstream-stream-duration-ms",
         "x-envoy-retriable-status-codes", "x-envoy-retriable-header-names", "x-envoy-original-url"]
OUTER = ["x-envoy-decorator-operation", "x-envoy-downstream-service-cluster",
         "x-envoy-downstream-service-node", "x-envoy-original-path", "x-envoy-original-host"]


@pytest.mark.parametrize("where", ["edge", "not edge"])
def test_cve_2024_45806_and_2023_27487_nobody_is_internal_by_default(asking, where):
    """A private address, the loopback interface, or a claim to be one of us make nobody one of us."""
    ask = asking(EDGE if where == "edge" else {})
    for claimed in (None, "10.0.0.1", "127.0.0.1", "192.168.1.1"):
        fields = [(n, "1") for n in INNER + OUTER] + [("x-envoy-internal", "true")]
        _, seen, _ = ask(fields + ([("x-forwarded-for", claimed)] if claimed else []))
        names = {n for n, _ in seen.headers}
        assert not names & set(INNER + ["x-envoy-internal"])
        assert names & set(OUTER) == (set() if where == "edge" else set(OUTER))
        external = seen.get("x-envoy-external-address")
        assert external == (HERE if where == "edge" else None)


def test_who_is_internal_keeps_its_fields(asking):
    ask = asking({**EDGE, **INTERNAL})
    _, seen, _ = ask([(n, "1") for n in OUTER] + [("x-envoy-ip-tags", "1"),
                                                  ("x-envoy-original-url", "1")])
    assert seen.get("x-envoy-internal") == "true" and not seen.get("x-envoy-external-address")
    assert {n for n, _ in seen.headers} >= set(OUTER) | {"x-envoy-ip-tags", "x-envoy-original-url"}


SCHEMES = [  # configuration, x-forwarded-proto, target; x-forwarded-proto upstream, :scheme
    ({}, None, "/", "http", "http"),
    ({}, "https", "/", "https", "https"),
    ({}, "HTTPS", "/", "HTTPS", "https"),
    ({}, "ftp", "/", "ftp", "http"),
    ({}, "https, http", "/", "https, http", "http"),
    ({}, None, "HTTPS://h.example/", "http", "https"),
    (EDGE, "https", "/", "http", "http"),
    ({**EDGE, "xff_num_trusted_hops": 1}, "https", "/", "https", "https"),
    ({"scheme_header_transformation": {"scheme_to_overwrite": "https"}}, "http", "/", "https",
     "https"),
    ({"scheme_header_transformation": {"scheme_to_overwrite": "http"}}, "https",
     "https://h.example/", "http", "http"),
    ({"scheme_header_transformation": {"match_upstream": True}}, "https", "/", "https", "http"),
    ({"scheme_header_transformation": {"match_upstream": True, "scheme_to_overwrite": "https"}},
     None, "/", "https", "https"),
]


@pytest.mark.parametrize("case", range(len(SCHEMES)))
def test_scheme(asking, case):
    config, said, target, proto, scheme = SCHEMES[case]
    _, seen, entry = asking(config)([("x-forwarded-proto", said)] if said else [], target)
    assert (seen.get("x-forwarded-proto"), entry["scheme"]) == (proto, scheme)


def test_https_target_over_plaintext_is_refused_at_the_edge(asking):
    ask = asking(EDGE)
    answer, seen, entry = ask(target="https://h.example/")
    assert answer.status == 403 and answer.body == b"Forbidden" and seen is None
    assert answer.get("connection") == "close"
    assert (entry["details"], entry["flags"]) == ("http1.https_url_on_plaintext_connection", "DPE")


def test_add_user_agent(asking):
    ask = asking({"add_user_agent": True})
    _, seen, _ = ask([("x-envoy-downstream-service-cluster", "liar")])
    assert seen.get("x-envoy-downstream-service-cluster") == "test"
    assert seen.get("x-envoy-downstream-service-node") == "test-node"
    assert seen.get("user-agent") == "test"
    assert ask([("user-agent", "own")])[1].get("user-agent") == "own"


def test_early_mutations_one_after_another(asking):
    ask = asking({**early(
        {"remove": "x-a"},
        {"append": {"header": {"key": "x-b", "value": "%REQ(x-a)% %PROTOCOL%"}}},
        {"append": {"header": {"key": "x-c", "value": "1"},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}},
        {"append": {"header": {"key": "x-d", "value": ""}}},
        {"remove_on_match": {"key_matcher": {"prefix": "x-drop-"}}},
        {"append": {"header": {"key": "x-forwarded-for", "value": "9.9.9.9"}}})})
    _, seen, entry = ask([("x-a", "1"), ("x-a", "2"), ("x-c", "0"), ("x-drop-1", "1"),
                          ("x-drop-2", "2")])
    assert seen.get("x-b") == "HTTP/1.1" and seen.get("x-c") == "1"
    assert not {n for n, _ in seen.headers} & {"x-a", "x-d", "x-drop-1", "x-drop-2"}
    assert entry["remote"] == "9.9.9.9"  # it comes before anything looks


UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")


@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize("preserve", [False, True])
def test_request_id(asking, edge, preserve):
    uuid = {"@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"}
    ask = asking({"use_remote_address": edge, "preserve_external_request_id": preserve,
                  "always_set_request_id_in_response": True,
                  "request_id_extension": {"typed_config": uuid}})
    answer, seen, _ = ask()
    assert UUID.match(seen.get("x-request-id"))
    assert answer.get("x-request-id") == seen.get("x-request-id")
    answer, seen, _ = ask([("x-request-id", "mine")])
    kept = preserve or not edge
    assert (seen.get("x-request-id") == "mine") == kept
    assert answer.get("x-request-id") == seen.get("x-request-id")


def test_force_trace_from_inside_tells_the_request_id(asking):
    ask = asking({**EDGE, **INTERNAL})
    answer, seen, _ = ask([("x-envoy-force-trace", "1")])
    assert answer.get("x-request-id") == seen.get("x-request-id") != None
    assert not ask()[0].get("x-request-id")
    ask = asking(EDGE)
    assert not ask([("x-envoy-force-trace", "1")])[0].get("x-request-id")


@pytest.mark.parametrize("config", [
    {**EDGE, **xff()}, {"xff_num_trusted_hops": 1, **xff()},
    xff(xff_num_trusted_hops=1, **trusting("10.0.0.0")),
    early({"append": {"header": {"key": ":path", "value": "/x"}}}),
    early({"append": {"header": {"key": "host", "value": "x"}}}),
    early({"append": {"header": {"key": "x", "value": "%NOPE%"}}})])
def test_configurations_that_contradict_themselves_are_refused(start, serve, config):
    refused = http_listener([mesh.route("up")], hcm=config)
    with pytest.raises(AssertionError, match="ended with 1"):
        start(static([refused], [cluster("up", serve())]))


# --- paths ----------------------------------------------------------------------------------------
# What the upstream sees and, as a route is chosen by the same text, what rules see (CVE-2026-73553).
NORMAL = {
    "cve_2026_73551": {"/a/..;/b": "/b", "/a/.;x/b": "/a/b", "/..;x/a": "/a"},
    "cve_2026_73511": {"/a;x=1/../b": "/b", "/a/b;p/../c": "/a/c", "/a/;/b": "/a/;/b",
                       "/a/..%3bx/b": "/a/..%3bx/b"},
    "dots": {"/a/%2e%2e/b": "/b", "/%2E%2e/a": "/a", "/a/../../../b": "/b", "/./a/.": "/a/",
             "/a\\..\\b": "/b", "/a/b/../?q=../x": "/a/?q=../x"},
    "double encoding": {"/a/%252e%252e/b": "/a/%252e%252e/b", "/a/%252fb": "/a/%252fb"},
    "overlong utf-8": {"/a/%c0%ae%c0%ae/b": "/a/%c0%ae%c0%ae/b"},
    "no escapes": {"/%zz/a": "/%zz/a", "/a%2": "/a%2", "/a%23b": "/a%23b"},
    "cve_2021_32779": {"/a#b": None, "/a?x#y": None},
    "nul": {"/a%00b": None},
}


@pytest.mark.parametrize("what", NORMAL)
def test_normal_paths(asking, what):
    ask = asking({"normalize_path": True})
    for target, wanted in NORMAL[what].items():
        answer, seen, entry = ask(target=target)
        if wanted is None:
            assert answer.status == 400 and answer.body == b"" and seen is None, target
            assert (entry["details"], entry["flags"]) == ("path_normalization_failed", "-")
        else:
            assert answer.status == 200 and seen.target == wanted, target


def test_cve_2026_73553_rules_and_upstream_see_one_path(asking):
    ask = asking({"normalize_path": True, "merge_slashes": True,
                  "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD"},
                 [{"match": {"prefix": "/private"}, "direct_response": {"status": 403}},
                  mesh.route("up")])
    for target in ("/private", "/a/../private", "/a/..;/private", "/%2e%2e/private", "//private",
                   "/a/%2e%2e%2fprivate", "/.;x/private", "/a/b/..%5c..%5cprivate",
                   "/.//private", "/%70rivate"):
        assert ask(target=target)[0].status == 403, target


ESCAPED = {"KEEP_UNCHANGED": [(200, "/a%2fb"), (200, "/a%5Cb"), (200, "/a/..%2fb")],
           "REJECT_REQUEST": [(400, None)] * 3,
           "UNESCAPE_AND_REDIRECT": [(307, "/a/b"), (307, "/a/b"), (307, "/b")],
           "UNESCAPE_AND_FORWARD": [(200, "/a/b"), (200, "/a/b"), (200, "/b")]}


@pytest.mark.parametrize("action", ESCAPED)
def test_escaped_slashes(asking, action):
    ask = asking({"normalize_path": True, "path_with_escaped_slashes_action": action})
    for target, (status, path) in zip(("/a%2fb", "/a%5Cb", "/a/..%2fb"), ESCAPED[action]):
        answer, seen, entry = ask(target=target)
        assert answer.status == status
        assert (answer.get("location") if status == 307 else seen and seen.target) == path
        if status != 200:
            assert entry["details"] == "path_normalization_failed"
    assert ask(target="/a?b=%2f")[1].target == "/a?b=%2f"


# --- x-forwarded-client-cert ----------------------------------------------------------------------
def inline(data):
    return {"inline_string": data.decode()}


@pytest.fixture
def certified(start, serve, authority):
    """certified(hcm) gives ask(fields, with_certificate) -> request upstream, over TLS; and the
    identity that is shown."""
    client = authority.issue("spiffe://td/client", dns=["a.example", "b.example"])
    server = authority.issue("spiffe://td/server")
    client.chain_pem += authority.roots_pem  # the chain has two

    def starter(hcm):
        upstream = serve()
        tls = {"name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
                     "DownstreamTlsContext",
            "common_tls_context": {
                "tls_certificates": [{"certificate_chain": inline(server.chain_pem),
                                      "private_key": inline(server.key_pem)}],
                "validation_context": {"trusted_ca": inline(authority.roots_pem)}}}}
        secure = http_listener([mesh.route("up")], hcm=hcm)
        secure["filter_chains"][0]["transport_socket"] = tls
        proxy = start(static([secure], [cluster("up", upstream)]))

        def ask(fields=(), certificate=True):
            context = tls_context(authority, client if certificate else None)
            with connect(proxy.port(), context) as connection:
                assert connection.ask(headers=fields).status == 200
            return upstream.requests[-1].get("x-forwarded-client-cert")
        ask.client = client
        return ask
    return starter


BEFORE = "By=spiffe://x;Hash=00;Subject=\"liar\""
MODES = {  # what becomes of BEFORE: with a certificate, and without one
    "SANITIZE": (None, None), "FORWARD_ONLY": (BEFORE, None),
    "APPEND_FORWARD": (BEFORE + ",OWN", None), "SANITIZE_SET": ("OWN", None),
    "ALWAYS_FORWARD_ONLY": (BEFORE, BEFORE)}


@pytest.mark.parametrize("mode", MODES)
def test_xfcc_modes(certified, mode):
    ask = certified({"forward_client_cert_details": mode,
                     "set_current_client_cert_details": {"uri": True}})
    fingerprint = ask.client.certificate.fingerprint(hashes.SHA256()).hex()
    own = f"By=spiffe://td/server;Hash={fingerprint};URI=spiffe://td/client"
    with_one, without = MODES[mode]
    fields = {"x-forwarded-client-cert": BEFORE}
    assert ask(fields) == (with_one.replace("OWN", own) if with_one else None)
    assert ask(fields, certificate=False) == without
    fresh = {"APPEND_FORWARD": own, "SANITIZE_SET": own}
    assert ask() == fresh.get(mode)


def url_encoded(pem):
    return urllib.parse.quote(pem.decode(), safe="-")


def test_xfcc_details(certified):
    ask = certified({"forward_client_cert_details": "SANITIZE_SET",
                     "set_current_client_cert_details": {
                         "subject": True, "cert": True, "chain": True, "dns": True, "uri": True}})
    leaf = ask.client.certificate
    pem = leaf.public_bytes(serialization.Encoding.PEM)
    assert ask() == (
        f"By=spiffe://td/server;Hash={leaf.fingerprint(hashes.SHA256()).hex()}"
        f";Cert=\"{url_encoded(pem)}\";Chain=\"{url_encoded(ask.client.chain_pem)}\";Subject=\"\""
        ";URI=spiffe://td/client;DNS=a.example;DNS=b.example")


# --- names, hosts, and what the response says -------------------------------------------------------
def test_underscores(asking):
    fields = [("a_b", "1"), ("_x", "1"), ("x-ok", "1")]

    def config(action):
        return {"common_http_protocol_options": {"headers_with_underscores_action": action}}
    names = {n for n, _ in asking(config("ALLOW"))(fields)[1].headers}
    assert names >= {"a_b", "_x", "x-ok"}
    names = {n for n, _ in asking(config("DROP_HEADER"))(fields)[1].headers}
    assert "x-ok" in names and not names & {"a_b", "_x"}
    answer, seen, entry = asking(config("REJECT_REQUEST"))(fields)
    assert answer.status == 400 and answer.body == b"Bad Request" and seen is None
    assert answer.get("connection") == "close"
    assert (entry["details"], entry["flags"]) == ("http1.unexpected_underscore", "DPE")


HOSTS = ["h.example.:80", "h.example.", "h.example:443", "[::1]:80", "[::1]", "1.2.3.4:99"]
STRIPPED = {
    "strip_any_host_port": ["h.example.", "h.example.", "h.example", "[::1]", "[::1]", "1.2.3.4"],
    "strip_trailing_host_dot": ["h.example:80", "h.example", "h.example:443", "[::1]:80", "[::1]",
                                "1.2.3.4:99"],
    "strip_matching_host_port": HOSTS}


@pytest.mark.parametrize("option", STRIPPED)
def test_strip_host(start, serve, option):
    upstream = serve()
    proxy = start(static([http_listener([mesh.route("up")], hcm={option: True})],
                         [cluster("up", upstream)]))
    cases = list(zip(HOSTS, STRIPPED[option]))
    if option == "strip_matching_host_port":
        cases += [(f"h.example:{proxy.port()}", "h.example"), (f"[::1]:{proxy.port()}", "[::1]")]
    for host, wanted in cases:
        with Client(proxy.port()) as client:
            client.ask(host=host)
        assert upstream.requests[-1].get("host") == wanted


SAYS = {  # the response's server and via where the upstream has none, and where it has
    "server_name": ({"server_name": "me"}, ("me", None), ("me", "dn")),
    "absent": ({"server_header_transformation": "APPEND_IF_ABSENT"}, ("istio-envoy", None),
               ("upst", "dn")),
    "pass": ({"server_header_transformation": "PASS_THROUGH"}, (None, None), ("upst", "dn")),
    "via": ({"via": "v1"}, ("istio-envoy", "v1"), ("istio-envoy", "dn, v1"))}


@pytest.mark.parametrize("what", SAYS)
def test_server_and_via(start, serve, what):
    config, *wanted = SAYS[what]
    upstream = serve(lambda r: b"HTTP/1.1 200 OK\r\n" + (
        b"Server: upst\r\nVia: dn\r\n" if r.target == "/has" else b"")
        + b"Content-Length: 0\r\n\r\n")
    proxy = start(static([http_listener([mesh.route("up")], hcm=config)],
                         [cluster("up", upstream)]))
    with Client(proxy.port()) as client:
        got = [(a.get("server"), a.get("via")) for a in (
            client.ask(target=t, headers={"via": "u"}) for t in ("/", "/has"))]
    assert got == wanted
    assert upstream.requests[-1].get("via") == ("u, v1" if what == "via" else "u")


# --- connections that end, and what is logged before the end --------------------------------------
def closed_by_peer(client):
    """closed_by_peer waits for the end of a connection and returns what came before it."""
    client.sock.settimeout(15)
    return client.sock.recv(100) == b""


ENDS = {"idle_timeout": "downstream_cx_idle_timeout",
        "max_connection_duration": "downstream_cx_max_duration_reached"}


@pytest.mark.parametrize("limit", ENDS)
def test_an_old_connection_takes_requests_until_drain_timeout(asking, limit):
    ask = asking({"common_http_protocol_options": {limit: "0.3s"}, "drain_timeout": "30s",
                  "delayed_close_timeout": "0.1s"})
    with Client(ask.proxy.port()) as client:
        assert not client.ask().get("connection")
        ask.proxy.wait_stat("http.test." + ENDS[limit])
        assert client.ask().get("connection") == "close"  # the last one
        assert ask.proxy.is_envoy or closed_by_peer(client)  # Envoy waits for the client, or the end


@pytest.mark.parametrize("limit", ENDS)
def test_drain_timeout_ends_a_connection_without_requests(asking, limit):
    ask = asking({"common_http_protocol_options": {limit: "0.3s"}, "drain_timeout": "0.3s",
                  "delayed_close_timeout": "0.1s"})
    with Client(ask.proxy.port()) as client:
        client.ask()
        assert closed_by_peer(client)
    with Client(ask.proxy.port()) as client:  # nothing was asked: nothing to wait for
        assert closed_by_peer(client)


def test_http1_safe_max_connection_duration(asking):
    """The connection ends with a response, never between two."""
    ask = asking({"common_http_protocol_options": {"max_connection_duration": "0.2s"},
                  "drain_timeout": "0.1s", "http1_safe_max_connection_duration": True})
    with Client(ask.proxy.port()) as client:
        client.ask()
        ask.proxy.wait_stat("http.test.downstream_cx_http1_soft_drain")
        time.sleep(0.5)
        assert client.ask().get("connection") == "close"


def test_access_log_options_http(asking, serve):
    fields = {"type": "%ACCESS_LOG_TYPE%", "code": "%RESPONSE_CODE%", "id": "%STREAM_ID%",
              "cluster": "%UPSTREAM_CLUSTER%"}
    ends = mesh.access_log("ends.log", fields)
    ends[0]["filter"] = {"log_type_filter": {"types": ["DownstreamEnd"]}}
    ask = asking({"access_log": mesh.access_log("access.log", fields) + ends,
                  "access_log_options": {"flush_access_log_on_new_request": True,
                                         "access_log_flush_interval": "0.2s"}})
    proxy = ask.proxy
    with Client(proxy.port()) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n")
        assert [e["type"] for e in proxy.wait_log(3)[:3]] == [
            "DownstreamStart", "DownstreamPeriodic", "DownstreamPeriodic"]
        client.send(b"x")
        assert client.response().status == 200
    end = proxy.wait_log(1, "ends.log")
    assert [e["type"] for e in end] == ["DownstreamEnd"] and end[0]["code"] == 200
    entries = proxy.log_entries()
    assert len({e["id"] for e in entries}) == 1 and {e["cluster"] for e in entries} == {"up"}
    assert [e["code"] for e in entries[:3]] == [0, 0, 0]


def test_access_log_options_tcp(start, serve):
    tcp = mesh.tcp_proxy("up")
    tcp["typed_config"].update({
        "access_log": mesh.access_log("access.log", {"type": "%ACCESS_LOG_TYPE%",
                                                     "bytes": "%BYTES_SENT%"}),
        "access_log_options": {"flush_access_log_on_connected": True,
                               "access_log_flush_interval": "0.2s"}})
    proxy = start(static([listener([tcp])], [cluster("up", serve())]))
    with Client(proxy.port()) as client:
        client.ask()
        # a tick may come before the upstream is connected
        proxy.wait(lambda: {e["type"] for e in proxy.log_entries()} >= {
            "TcpUpstreamConnected", "TcpPeriodic"}, 10, "entries")
    entries = proxy.wait(lambda: (proxy.log_entries()[-1:] or [{}])[0].get("type") ==
                         "TcpConnectionEnd" and proxy.log_entries(), 10, "the last entry")
    assert entries[-1]["bytes"] > 0


# --- requests that take too long ------------------------------------------------------------------
HEAD_PART = b"GET / HTTP/1.1\r\nHo"
BODY_PART = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab"
WHOLE = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LATE = {  # configuration, what is sent; status, body, details, flags, counter
    "head": ({"request_headers_timeout": "0.3s"}, HEAD_PART, 408, b"request header timeout",
             "request_header_timeout", "-", "header_timeout"),
    "request, in its head": ({"request_timeout": "0.3s"}, HEAD_PART, 408, b"request timeout",
                             "request_overall_timeout", "-", "timeout"),
    "request, in its body": ({"request_timeout": "0.3s"}, BODY_PART, 408, b"request timeout",
                             "request_overall_timeout", "-", "timeout"),
    "idle, in the head": ({"stream_idle_timeout": "0.3s"}, HEAD_PART, 408, b"stream timeout",
                          "stream_idle_timeout", "SI", "idle_timeout"),
    "idle, in the body": ({"stream_idle_timeout": "0.3s"}, BODY_PART, 408, b"stream timeout",
                          "stream_idle_timeout", "SI", "idle_timeout"),
    "idle, upstream": ({"stream_idle_timeout": "0.3s"}, WHOLE, 504, b"stream timeout",
                       "stream_idle_timeout", "SI", "idle_timeout"),
    "stream, in the body": ({"common_http_protocol_options": {"max_stream_duration": "0.3s"}},
                            BODY_PART, 408, b"downstream duration timeout",
                            "max_duration_timeout", "-", "max_duration_reached"),
    "stream, upstream": ({"common_http_protocol_options": {"max_stream_duration": "0.3s"}}, WHOLE,
                         504, b"downstream duration timeout", "max_duration_timeout", "-",
                         "max_duration_reached"),
}


@pytest.mark.parametrize("what", LATE)
def test_too_late(start, serve, what):
    config, sent, status, body, details, flags, counter = LATE[what]
    silent = serve(handle=lambda connection: time.sleep(20))
    hcm = {"access_log": mesh.access_log("access.log", LOG), **config}
    proxy = start(static([http_listener([mesh.route("up")], hcm=hcm)], [cluster("up", silent)]))
    with Client(proxy.port()) as client:
        client.send(sent)
        answer = client.response()
    assert (answer.status, answer.body) == (status, body)
    assert answer.get("connection") == (None if sent == WHOLE else "close")
    entry = proxy.wait_log()[0]
    assert (entry["code"], entry["details"], entry["flags"]) == (status, details, flags)
    assert proxy.stat("http.test.downstream_rq_" + counter) == 1
    assert proxy.stat("http.test.downstream_rq_rx_reset") == (0 if sent == WHOLE else 1)


def test_max_requests_per_connection(asking):
    ask = asking({"common_http_protocol_options": {"max_requests_per_connection": 2}})
    with Client(ask.proxy.port()) as client:
        assert not client.ask().get("connection")
        assert client.ask().get("connection") == "close"
        assert closed_by_peer(client)
    assert ask.proxy.stat("http.test.downstream_cx_max_requests_reached") == 1


# --- the same over HTTP/2 -------------------------------------------------------------------------
def test_http2_local_replies(start, serve):
    config = {"local_reply_config": {"body_format": {"json_format": {
        "body": "%LOCAL_REPLY_BODY%", "code": "%RESPONSE_CODE%"}}}}
    proxy = start(static([http_listener([{"match": {"prefix": "/up"}, "route": {"cluster": "up"}}],
                                        hcm=config)], [cluster("up", serve())]))
    with http2.Client(proxy.port()) as client:
        answer = client.ask(path="/none")
        assert (answer.status, answer.body) == (404, b'{"body":"","code":404}\n')
        assert answer.field("content-type") == "application/json"
        answer = client.ask(path="/none", headers=[("content-type", "application/grpc")])
        assert answer.status == 200 and answer.body == b""
        assert (answer.field("grpc-status"), answer.field("grpc-message")) == (
            "12", '{"body":"","code":404}')
        answer = client.ask(path="/up#fragment")  # CVE-2021-32779
        assert answer.status == 400 and answer.field("server") == "istio-envoy"


def test_http2_underscores_end_the_stream(start, serve):
    hcm = {"access_log": mesh.access_log("access.log", LOG), "common_http_protocol_options": {
        "headers_with_underscores_action": "REJECT_REQUEST"}}
    proxy = start(static([http_listener([mesh.route("up")], hcm=hcm)], [cluster("up", serve())]))
    with http2.Client(proxy.port()) as client:
        answer = client.ask(headers=[("a_b", "1")])
        assert answer.headers is None and answer.reset is not None
    entry = proxy.wait_log()[0]
    assert (entry["details"], entry["flags"]) == ("http2.unexpected_underscore", "DR")
