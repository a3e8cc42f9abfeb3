"""The programs that people have at hand work through the proxy: curl, h2load, nghttp, wrk."""

import re
import shutil
import subprocess

import pytest

from harness.proxy import cluster, http_listener, static
from harness.upstream import response

from controlplane import mesh

BODY = bytes(range(256)) * 400


def run(*command, timeout=60, **more):
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not there")
    done = subprocess.run([str(word) for word in command], capture_output=True, timeout=timeout,
                          check=False, **more)
    assert done.returncode == 0, repr(done.stdout[-500:] + done.stderr[-2000:])
    return done.stdout


@pytest.fixture(name="site")
def make_site(start, serve, authority, tmp_path):
    """A proxy with a listener in plain text and one with TLS; the upstream sends back what it gets."""
    upstream = serve(lambda request: response(body=request.body or BODY, headers={"X-Seen": request.method}))
    chain, key = authority.issue(authority.spiffe("a"), dns=("tools.test",)).write(tmp_path)
    secure = http_listener([mesh.route("up")], name="tls")
    secure["filter_chains"][0]["transport_socket"] = {"name": "tls", "typed_config": {
        "@type": "DownstreamTlsContext", "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [
                {"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}]}}}
    proxy = start(static([http_listener([mesh.route("up")], name="plain"), secure],
                         [cluster("up", upstream)]))
    proxy.roots = tmp_path / "roots.pem"
    proxy.roots.write_bytes(authority.roots_pem)
    return proxy


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2-prior-knowledge"])
def test_curl(site, version):
    if version == "--http1.0":
        status = run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", version,
                     f"http://127.0.0.1:{site.port('plain')}/")
        assert status == b"426"
        return
    url = f"http://127.0.0.1:{site.port('plain')}/"
    assert run("curl", "-sS", version, url) == BODY
    if version == "--http1.1":  # curl 7.88 cannot use a connection of prior knowledge twice
        assert run("curl", "-sS", version, url, url) == BODY * 2
    assert run("curl", "-sS", version, "--data-binary", "@-", url, input=BODY) == BODY
    assert b"x-seen: HEAD" in run("curl", "-sSI", version, url).lower().replace(b"head", b"HEAD")


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_with_tls(site, version):
    port = site.port("tls")
    out = run("curl", "-sS", version, "--cacert", site.roots, "--resolve", f"tools.test:{port}:127.0.0.1",
              "-o", "/dev/null", "-w", "%{http_version} %{http_code} %{size_download}",
              f"https://tools.test:{port}/")
    assert out.decode() == f"{'2' if version == '--http2' else '1.1'} 200 {len(BODY)}"


def test_nghttp(site):
    port = site.port("plain")
    out = run("nghttp", "-v", "--no-dep", f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{port}/two",
              "--null-out").decode()
    assert len(re.findall(r":status: 200", out)) == 2
    assert run("nghttp", "--no-verify-peer", f"https://127.0.0.1:{site.port('tls')}/") == BODY


@pytest.mark.parametrize("listener, more", [("plain", ["--h1"]), ("plain", []), ("tls", [])])
def test_h2load(site, listener, more):
    scheme = "https" if listener == "tls" else "http"
    out = run("h2load", "-n", 400, "-c", 4, "-m", 1 if more else 10, *more,
              f"{scheme}://127.0.0.1:{site.port(listener)}/").decode()
    assert "400 succeeded, 0 failed, 0 errored, 0 timeout" in out, out
    assert "status codes: 400 2xx, 0 3xx, 0 4xx, 0 5xx" in out, out


def test_wrk(site):
    out = run("wrk", "-t", 1, "-c", 4, "-d", 1, f"http://127.0.0.1:{site.port('plain')}/").decode()
    assert "Socket errors" not in out and "Non-2xx" not in out, out
    assert int(re.search(r"(\d+) requests in", out).group(1)) > 0
