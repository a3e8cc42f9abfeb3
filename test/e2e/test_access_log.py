"""Access logs: formats, filters, TLS fields, files that are rotated or do not take what they are given."""

import hashlib
import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from controlplane import mesh, xds
from harness import tls
from harness.http1 import Client, ask
from harness.proxy import cluster, dynamic, http_listener, listener, static
from harness.upstream import response

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def file_log(path="access.log", where=None, **fields):
    made = {"name": "envoy.access_loggers.file",
            "typed_config": {"@type": "FileAccessLog", "path": path, **fields}}
    return {**made, "filter": where} if where else made


def text_format(text, **more):
    return {"log_format": {"text_format_source": {"inline_string": text}, **more}}


def json_format(fields, **more):
    return {"log_format": {"json_format": fields, **more}}


def proxy_with(start, serve, *logs, routes=None, upstream=None, **more):
    upstream = upstream or serve()
    routes = routes or [mesh.route("up")]
    return start(static([http_listener(routes, hcm={"access_log": list(logs)})],
                        [cluster("up", upstream)]), **more)


def lines(proxy, name="access.log"):
    try:
        with open(os.path.join(proxy.folder, name), "rb") as src:
            return src.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def wait_lines(proxy, number=1, name="access.log"):
    proxy.wait(lambda: len(lines(proxy, name)) >= number, what=f"{number} lines")
    return lines(proxy, name)


# --- formats --------------------------------------------------------------------------------------
def test_default_format(start, serve):
    upstream = serve()
    proxy = proxy_with(start, serve, file_log(), upstream=upstream)
    assert ask(proxy.port(), "/a?b=c", headers=[("user-agent", "some agent")]).status == 200
    line = wait_lines(proxy)[0].decode()
    host = ":".join(map(str, upstream.endpoint))
    assert re.fullmatch(rf'\[{TIME}\] "GET /a\?b=c HTTP/1\.1" 200 - 0 \d+ \d+ \d+ "-" '
                        rf'"some agent" "{UUID}" "test" "{re.escape(host)}"', line), line


def test_json_keeps_types(start, serve):
    fields = {"z": "%PROTOCOL%", "code": "%RESPONSE_CODE%", "absent": "%REQ(none)%",
              "number": "%BYTES_RECEIVED%", "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
              "flags": "%RESPONSE_FLAGS%", "parts": "<%RESPONSE_CODE%|%REQ(none)%>", "seven": 7,
              "yes": True, "nested": {"list": ["%REQ(:METHOD)%", None, {"q": "%REQ(none)%"}]}}
    proxy = proxy_with(start, serve, file_log("a", **json_format(fields)),
                       file_log("b", **json_format(fields, omit_empty_values=True)))
    ask(proxy.port(), method="POST", body=b"abc")
    assert wait_lines(proxy, name="a")[0] == (
        b'{"absent":null,"attempts":1,"code":200,"flags":"-","nested":{"list":["POST",null,'
        b'{"q":null}]},"number":3,"parts":"<200|->","seven":7,"yes":true,"z":"HTTP/1.1"}')
    assert wait_lines(proxy, name="b")[0] == (
        b'{"attempts":1,"code":200,"flags":"-","nested":{"list":["POST"]},"number":3,'
        b'"parts":"<200|>","seven":7,"yes":true,"z":"HTTP/1.1"}')


def test_what_a_client_sends_stays_in_its_field(start, serve):
    """Quotes, control characters and bytes that are no UTF-8, in JSON."""
    proxy = proxy_with(start, serve, file_log(**json_format({"v": "%REQ(x-v)%"})))
    sent = {b'a"},{"forged":"b\\': rb'a\"},{\"forged\":\"b\\', b"tab\there": rb"tab\there",
            "\u00e9\u20ac".encode(): "\u00e9\u20ac".encode(), b"\xff\xc3\xa9 \"": rb"\u00ff\u00c3\u00a9 \u0022"}
    for value in sent:
        with Client(proxy.port()) as client:
            client.send(b"GET / HTTP/1.1\r\nhost: a\r\nx-v: " + value + b"\r\n\r\n")
            assert client.response().status == 200
    got = wait_lines(proxy, len(sent))
    assert sorted(got) == sorted(b'{"v":"' + escaped + b'"}' for escaped in sent.values())
    for line in got:
        json.loads(line)


def test_text_and_omit_empty(start, serve):
    text = "%REQ(:METHOD)%|%REQ(none)%|%REQ(none?:path):3%|%TRAILER(x)%|100%%\n"
    proxy = proxy_with(start, serve, file_log("a", **text_format(text)),
                       file_log("b", **text_format(text, omit_empty_values=True)))
    ask(proxy.port(), "/path")
    assert wait_lines(proxy, name="a") == [b"GET|-|/pa|-|100%"]
    assert wait_lines(proxy, name="b") == [b"GET||/pa||100%"]


def test_local_replies_and_failures(start, serve):
    fields = {k: f"%{k}%" for k in ("RESPONSE_CODE", "RESPONSE_FLAGS", "RESPONSE_FLAGS_LONG",
                                    "RESPONSE_CODE_DETAILS", "UPSTREAM_HOST", "UPSTREAM_CLUSTER",
                                    "UPSTREAM_REMOTE_ADDRESS", "RESPONSE_DURATION", "ROUTE_NAME",
                                    "UPSTREAM_TRANSPORT_FAILURE_REASON")}
    routes = [{"match": {"prefix": "/direct"}, "name": "d",
               "direct_response": {"status": 418, "body": {"inline_string": "x"}}},
              {"match": {"prefix": "/up"}, "name": "u", "route": {"cluster": "up"}}]
    proxy = proxy_with(start, serve, file_log(**json_format(fields)), routes=routes,
                       upstream=("127.0.0.1", 1))
    none = dict.fromkeys(fields)
    for number, (path, want) in enumerate((
            ("/direct", {"RESPONSE_CODE": 418, "RESPONSE_CODE_DETAILS": "direct_response",
                         "RESPONSE_FLAGS": "-", "RESPONSE_FLAGS_LONG": "-", "ROUTE_NAME": "d"}),
            ("/nowhere", {"RESPONSE_CODE": 404, "RESPONSE_CODE_DETAILS": "route_not_found",
                          "RESPONSE_FLAGS": "NR", "RESPONSE_FLAGS_LONG": "NoRouteFound"}),
            ("/up", {"RESPONSE_CODE": 503, "RESPONSE_FLAGS": "UF", "ROUTE_NAME": "u",
                     "RESPONSE_FLAGS_LONG": "UpstreamConnectionFailure",
                     "UPSTREAM_CLUSTER": "up", "UPSTREAM_HOST": "127.0.0.1:1",
                     "RESPONSE_CODE_DETAILS": "upstream_reset_before_response_started{remote_"
                     "connection_failure|delayed_connect_error:_Connection_refused}",
                     "UPSTREAM_TRANSPORT_FAILURE_REASON":
                     "delayed_connect_error:_Connection_refused"}))):
        ask(proxy.port(), path)
        assert proxy.wait_log(number + 1)[number] == {**none, **want}


def test_durations(start, serve):
    def answer(_):
        time.sleep(0.2)
        return response(200, b"slow")
    names = ("DURATION", "REQUEST_DURATION", "REQUEST_TX_DURATION", "RESPONSE_DURATION",
             "RESPONSE_TX_DURATION")
    fields = {k: f"%{k}%" for k in names}
    fields["common"] = "%COMMON_DURATION(US_TX_END:US_RX_BEG:us)%"
    proxy = proxy_with(start, serve, file_log(**json_format(fields)), upstream=serve(answer))
    ask(proxy.port())
    got = proxy.wait_log()[0]
    assert 190 <= got["RESPONSE_DURATION"] <= got["DURATION"] < 2000
    assert 190000 <= got["common"] < 2000000
    assert got["REQUEST_DURATION"] <= got["REQUEST_TX_DURATION"] < 190
    assert got["RESPONSE_TX_DURATION"] < 190


def test_bytes_of_the_upstream_connection(start, serve):
    """Heads and bodies, of this exchange alone: the second one uses the connection of the first."""
    answer = response(200, b"y" * 500)
    upstream = serve(lambda request: answer)
    names = ("BYTES_RECEIVED", "BYTES_SENT", "UPSTREAM_WIRE_BYTES_SENT",
             "UPSTREAM_WIRE_BYTES_RECEIVED")
    proxy = proxy_with(start, serve, file_log(**json_format({k: f"%{k}%" for k in names})),
                       upstream=upstream, concurrency=1)
    with Client(proxy.port()) as client:
        for _ in range(2):
            assert client.ask(method="POST", body=b"x" * 300).status == 200
    for entry in proxy.wait_log(2):
        assert entry["BYTES_RECEIVED"] == 300 and entry["BYTES_SENT"] == 500
        assert entry["UPSTREAM_WIRE_BYTES_RECEIVED"] == len(answer)
        assert 300 + 100 < entry["UPSTREAM_WIRE_BYTES_SENT"] < 300 + 600


# --- filters --------------------------------------------------------------------------------------
def comparison(kind, operator, value):
    return {kind: {"comparison": {"op": operator,
                                  "value": {"default_value": value, "runtime_key": "k"}}}}


def test_filters(start, serve):
    routes = [{"match": {"path": f"/{code}"}, "direct_response": {"status": code}}
              for code in (200, 302, 404, 503)] + [mesh.route("up")]
    text = text_format("%RESPONSE_CODE%\n")
    failed = comparison("status_code_filter", "GE", 400)
    found = {"header_filter": {"header": {"name": "X-Log", "string_match": {"exact": "yes"}}}}
    proxy = proxy_with(
        start, serve, file_log("all", **text), file_log("failed", failed, **text),
        file_log("flag", {"response_flag_filter": {"flags": ["NR", "UF"]}}, **text),
        file_log("header", found, **text),
        file_log("both", {"and_filter": {"filters": [failed, found]}}, **text),
        file_log("either", {"or_filter": {"filters": [failed, found]}}, **text),
        file_log("slow", comparison("duration_filter", "GE", 5000), **text), routes=routes)
    for code in (200, 302, 404, 503):
        for value in ("yes", "no"):
            assert ask(proxy.port(), f"/{code}", headers=[("x-log", value)]).status == code
    assert len(wait_lines(proxy, 8, "all")) == 8
    expected = {"failed": [404, 404, 503, 503], "flag": [], "header": [200, 302, 404, 503],
                "both": [404, 503], "either": [200, 302, 404, 404, 503, 503], "slow": []}
    for name, codes in expected.items():
        proxy.wait(lambda: sorted(map(int, lines(proxy, name))) == codes, what=f"{name}: {codes}")


# --- TLS ------------------------------------------------------------------------------------------
def test_tls_fields(start, serve, control_plane, authority):
    """What the certificates say, of both connections, as the certificates' own library says it."""
    names = ("DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_LOCAL_URI_SAN DOWNSTREAM_PEER_SERIAL "
             "DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_ISSUER "
             "DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_TLS_VERSION DOWNSTREAM_TLS_CIPHER "
             "REQUESTED_SERVER_NAME UPSTREAM_PEER_URI_SAN UPSTREAM_LOCAL_URI_SAN "
             "UPSTREAM_PEER_SUBJECT UPSTREAM_PEER_ISSUER UPSTREAM_TLS_VERSION "
             "UPSTREAM_TLS_CIPHER").split()
    proxy_id, client_id, server_id = (authority.issue(authority.spiffe(name))
                                      for name in ("proxy", "client", "server"))
    upstream = serve(tls=tls.context(authority, server_id, server=True))
    log = file_log(**json_format({name: f"%{name}%" for name in names}))
    made = listener([mesh.hcm("test", route_config=mesh.route_config("r", [mesh.route("up")]),
                              access_log=[log])], listener_filters=[
        {"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": "TlsInspector"}}])
    made["filter_chains"][0]["transport_socket"] = mesh.downstream_tls(sds_cluster=None)
    to = cluster("up", upstream, transport_socket=mesh.upstream_tls(
        "up.example", [authority.spiffe("server")], sds_cluster=None))
    control_plane.set("Secret", [authority.secret_identity(proxy_id), authority.secret_roots()])
    control_plane.set_all({"Cluster": [xds.message("Cluster", to)],
                           "Listener": [xds.message("Listener", made)]})
    proxy = start(dynamic(control_plane))
    context = tls.context(authority, client_id, alpn=["http/1.1"])
    with tls.connect(proxy.port(), context, sni="a.example") as client:
        assert client.ask().status == 200
        cipher = client.sock.cipher()
    got = proxy.wait_log()[0]
    assert got["DOWNSTREAM_PEER_URI_SAN"] == authority.spiffe("client")
    assert got["DOWNSTREAM_LOCAL_URI_SAN"] == authority.spiffe("proxy")
    assert got["UPSTREAM_PEER_URI_SAN"] == authority.spiffe("server")
    assert got["UPSTREAM_LOCAL_URI_SAN"] == authority.spiffe("proxy")
    leaf = client_id.certificate
    assert int(got["DOWNSTREAM_PEER_SERIAL"], 16) == leaf.serial_number
    der = leaf.public_bytes(Encoding.DER)
    assert got["DOWNSTREAM_PEER_FINGERPRINT_256"] == hashlib.sha256(der).hexdigest()
    assert got["DOWNSTREAM_PEER_ISSUER"] == got["UPSTREAM_PEER_ISSUER"]
    assert got["DOWNSTREAM_PEER_ISSUER"] == leaf.issuer.rfc4514_string()
    assert got["DOWNSTREAM_TLS_VERSION"] == "TLSv1.3" == cipher[1]
    assert got["DOWNSTREAM_TLS_CIPHER"] == cipher[0]
    assert got["UPSTREAM_TLS_VERSION"] in ("TLSv1.2", "TLSv1.3")
    assert got["UPSTREAM_TLS_CIPHER"]
    assert got["REQUESTED_SERVER_NAME"] == "a.example"


# --- files ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["signal", "admin"])
def test_rotation(start, serve, how):
    proxy = proxy_with(start, serve, file_log(**text_format("%REQ(:PATH)%\n")))
    ask(proxy.port(), "/before")
    assert wait_lines(proxy) == [b"/before"]
    path = os.path.join(proxy.folder, "access.log")
    os.rename(path, path + ".1")
    ask(proxy.port(), "/still")
    assert wait_lines(proxy, 2, "access.log.1") == [b"/before", b"/still"]  # flushed in between
    if how == "signal":
        proxy.process.send_signal(signal.SIGUSR1)
    else:
        assert proxy.admin("/reopen_logs", "POST")[0] == 200
    number = [0]

    def reopened():
        number[0] += 1
        ask(proxy.port(), f"/after{number[0]}")
        return lines(proxy)
    proxy.wait(reopened, what="a new file")
    after = sorted(b"/after%d" % i for i in range(1, number[0] + 1))
    proxy.wait(lambda: sorted(lines(proxy, "access.log.1")[2:] + lines(proxy)) == after,
               what="every line in one of the two")


def test_written_at_the_end(start, serve, binary):
    """With the flush interval of ten seconds, a proxy that ends writes what it has first."""
    if binary[1]:
        pytest.skip("Envoy takes the flag only once")
    proxy = proxy_with(start, serve, file_log(**text_format("%REQ(:PATH)%\n")),
                       args=["--file-flush-interval-msec", "10000"], concurrency=1)
    for i in range(20):
        ask(proxy.port(), f"/{i}")
    assert lines(proxy) == []
    assert proxy.stop() == 0
    assert lines(proxy) == [b"/%d" % i for i in range(20)]


def test_a_reader_that_does_not_read(start, serve, binary, tmp_path):
    """A pipe is full: requests go on, another log too, lines are dropped and counted, and what is
    read in the end is whole."""
    if binary[1]:
        pytest.skip("Envoy's own thread for files waits for the pipe")
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        long = "x" * 3000
        proxy = proxy_with(start, serve, file_log(pipe, **text_format(f"%REQ(:PATH)% {long}.\n")),
                           file_log("other", **text_format("%REQ(:PATH)%\n")),
                           routes=[{"match": {"prefix": "/"}, "direct_response": {"status": 200}}])
        slowest = 0
        with Client(proxy.port()) as client:
            for i in range(3000):
                began = time.monotonic()
                assert client.ask(target=f"/{i}").status == 200
                slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1
        assert proxy.wait_stat("access_log.dropped") > 0
        assert len(wait_lines(proxy, 3000, "other")) == 3000
        assert proxy.stop() == 0
        got = b""
        while True:
            try:
                got += os.read(reader, 1 << 20)
            except BlockingIOError:
                break
        whole = got.split(b"\n")
        assert whole.pop() == b""
        assert [line for line in whole if not re.fullmatch(rb"/\d+ x{3000}\.", line)] == []
    finally:
        os.close(reader)


def test_a_disk_that_is_full(start, serve, binary):
    proxy = proxy_with(start, serve, file_log("/dev/full"), file_log("other"))
    for _ in range(3):
        assert ask(proxy.port()).status == 200
    assert len(wait_lines(proxy, 3, "other")) == 3
    assert proxy.wait_stat("filesystem.write_failed") >= 1
    assert proxy.stat("filesystem.write_buffered") == 6


def test_four_workers_one_file(start, serve):
    """Many connections, all workers: every line is there, once and whole."""
    proxy = proxy_with(start, serve, file_log(**text_format("%REQ(:PATH)% end\n")), concurrency=4,
                       routes=[{"match": {"prefix": "/"}, "direct_response": {"status": 200}}])
    port = proxy.port()

    def run(who):
        with Client(port) as client:
            for i in range(200):
                assert client.ask(target=f"/{who}/{i}").status == 200
    threads = [threading.Thread(target=run, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = wait_lines(proxy, 1600)
    assert sorted(got) == sorted(b"/%d/%d end" % (w, i) for w in range(8) for i in range(200))


def test_a_format_that_is_wrong(start, serve, binary, tmp_path):
    """The whole path to the field stands in the error."""
    if binary[1]:
        pytest.skip("Envoy names no fields")
    bootstrap = static([http_listener([mesh.route("up")], hcm={
        "access_log": [file_log(), file_log(**json_format({"a": {"b": "%NOPE%"}}))]})],
        [cluster("up", ("127.0.0.1", 1))])
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(xds._expand(bootstrap)))
    done = subprocess.run([binary[0], "--mode", "validate", "-c", str(path)], timeout=20,
                          capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "access_log[1].typed_config.log_format.json_format" in done.stderr + done.stdout
    assert "there is no operator NOPE" in done.stderr + done.stdout
