"""A page in a headless Chromium: fetch, a WebSocket and an EventSource through a proxy, in plain text
(HTTP/1.1) and with TLS (HTTP/2, the WebSocket over HTTP/1.1)."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.parse

import gateway
import peers
from harness.http1 import Reader
from harness.upstream import Server, response

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT_S = 60
EVENTS = 3
PAGE = """<!doctype html><title>t</title><script>
const found = {};
const socket = new Promise((resolve) => {
    const ws = new WebSocket(location.origin.replace('http', 'ws') + '/ws');
    ws.onopen = () => ws.send('to and fro');
    ws.onmessage = (event) => { resolve(event.data); ws.close(); };
    ws.onerror = () => resolve('error');
});
const events = new Promise((resolve) => {
    const got = [], source = new EventSource('/events');
    source.onmessage = (event) => {
        got.push([event.data, performance.now()]);
        if (got.length === %d) { source.close(); resolve(got); }
    };
    source.onerror = () => resolve('error');
});
const body = fetch('/echo', { method: 'POST', body: 'x'.repeat(200000) }).then((r) => r.text());
Promise.all([socket, events, body]).then(([ws, es, text]) => {
    const protocol = performance.getEntriesByType('navigation')[0].nextHopProtocol;
    fetch('/result', { method: 'POST', body: JSON.stringify({ ws, es, size: text.length, protocol }) });
});
</script>""" % EVENTS


class Site:
    """The server of the page; `result` is what the page reports."""

    def __init__(self):
        self.result, self.done = None, threading.Event()
        self.server = Server(self._handle)

    def _handle(self, sock):
        reader = Reader(sock)
        while True:
            request = reader.request()
            path = urllib.parse.urlsplit(request.target).path
            if path == "/events":
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                             b"Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n")
                for number in range(EVENTS):
                    data = f"data: event {number}\n\n".encode()
                    sock.sendall(b"%x\r\n%s\r\n" % (len(data), data))
                    time.sleep(0.3)
                sock.sendall(b"0\r\n\r\n")
            elif path == "/result":
                self.result = json.loads(request.body)
                self.done.set()
                sock.sendall(response())
            elif path == "/echo":
                sock.sendall(response(body=request.body))
            else:
                sock.sendall(response(body=PAGE.encode() if path == "/" else b"",
                                      headers={"Content-Type": "text/html"}))


def program():
    """program is Chromium without a display, or None."""
    return peers.program("chromium-headless-shell") or peers.program("chromium")


def visit(url, folder):
    """visit opens a page in a new profile: the process."""
    # pylint: disable-next=consider-using-with
    return subprocess.Popen(
        [program(), "--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors",
         "--disable-background-networking", "--no-first-run", f"--user-data-dir={folder}",
         "--remote-debugging-port=0", url],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        start_new_session=True)


def run(proxy, folder):
    """run is {listener: what the page reported, or None} for `plain` and `tls`."""
    os.makedirs(folder, exist_ok=True)
    port, = peers.free_ports(1)
    echo = peers.Program([sys.executable, os.path.join(HERE, "ws_echo.py"), str(port)], folder, port)
    site, running, found = Site(), None, {}
    certificates = gateway.Certificates(os.path.join(folder, "certs"))
    routes = [{"match": {"prefix": "/ws"}, "route": {"cluster": "echo", "timeout": "0s"}},
              {"match": {"prefix": "/"}, "route": {"cluster": "site", "timeout": "0s"}}]
    # Without allow_connect: a browser sends no Sec-WebSocket-Key over HTTP/2 (RFC 8441 5), and neither
    # Envoy nor Attaché makes one for a server of HTTP/1.1.
    hcm = {"upgrade_configs": [{"upgrade_type": "websocket"}]}
    secure = peers.http_listener(routes, name="tls", hcm=hcm)
    secure["filter_chains"][0]["transport_socket"] = certificates.downstream(["h2", "http/1.1"], False)
    try:
        running = peers.start(proxy, os.path.join(folder, proxy), peers.static(
            [peers.http_listener(routes, name="plain", hcm=hcm), secure],
            [gateway.cluster("echo", port, gateway.HTTP1),
             gateway.cluster("site", site.server.port, gateway.HTTP1)]))
        for name, scheme in (("plain", "http"), ("tls", "https")):
            site.done.clear()
            site.result = None
            browser = visit(f"{scheme}://127.0.0.1:{running.port(name)}/", os.path.join(folder, name))
            try:
                site.done.wait(LIMIT_S)
                found[name] = site.result
            finally:
                os.killpg(browser.pid, 9)
                browser.wait()
        assert not running.findings(), running.log()
        return found
    finally:
        if running:
            running.process.kill()
            running.process.wait()
        echo.stop()
        site.server.close()


def problems(result, protocol):
    """problems are what is wrong with a report; an empty list if nothing is."""
    if not result:
        return ["the page reported nothing"]
    bad = []
    if result["ws"] != "to and fro":
        bad.append(f"WebSocket: {result['ws']}")
    if [event[0] for event in result["es"]] != [f"event {n}" for n in range(EVENTS)]:
        bad.append(f"EventSource: {result['es']}")
    elif result["es"][-1][1] - result["es"][0][1] < 300:
        bad.append(f"events came all at once: {result['es']}")
    if result["size"] != 200000:
        bad.append(f"fetch: {result['size']} bytes")
    if result["protocol"] != protocol:
        bad.append(f"protocol: {result['protocol']}")
    return bad


def report(folder):
    done = subprocess.run([program(), "--version"], capture_output=True, text=True, check=False)
    lines = [f"A page in a headless Chromium ({done.stdout.strip() or 'Debian'}) with fetch, WebSocket and "
             "EventSource.", "", "| proxy | plain text | TLS, HTTP/2 |", "|---|---|---|"]
    good = bad = 0
    for proxy in ("attache", "envoy"):
        results = run(proxy, os.path.join(folder, proxy))
        found = [problems(results["plain"], "http/1.1"), problems(results["tls"], "h2")]
        lines.append(f"| {proxy} {peers.version(proxy)} | " +
                     " | ".join("; ".join(p) or "all works" for p in found) + " |")
        if proxy == "attache":
            good, bad = sum(not p for p in found), sum(bool(p) for p in found)
    return lines, good, bad


if __name__ == "__main__":
    import tempfile
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as top:
        for listener, reported in run(sys.argv[1], top).items():
            print(listener, reported, problems(reported, {"plain": "http/1.1", "tls": "h2"}[listener]))
