"""kosoku's WebSocket cases (Autobahn's, without the groups 9, 12 and 13, which are about load and
compression) against an echo server: directly, through a proxy over HTTP/1.1, and through two proxies with
HTTP/2 and mutual TLS between them (RFC 8441). Each must end as it does without a proxy."""

import json
import os
import pathlib
import subprocess
import sys

import gateway
import peers

LEFT_OUT = ("9.*", "12.*", "13.*")
CASES = 247
LIMIT_S = 200
HERE = os.path.dirname(os.path.abspath(__file__))
OPTIONS = {"upgrade_configs": [{"upgrade_type": "websocket"}], "stream_idle_timeout": "0s",
           "http2_protocol_options": {"allow_connect": True}}
ROUTES = {"direct": None, "one proxy": "plain", "two proxies": "mtls"}


def play(port, folder):
    """play is {case: (behavior, behavior at the close)} of the server at a port."""
    excluded = [word for group in LEFT_OUT for word in ("-x", group)]
    kosoku = os.path.join(os.path.dirname(sys.executable), "kosoku")
    subprocess.run([kosoku, *excluded, "-p", "8", "-o", str(folder), f"ws://127.0.0.1:{port}"],
                   capture_output=True, text=True, timeout=LIMIT_S, check=False)
    index = json.loads(pathlib.Path(folder, "index.json").read_text(encoding="utf-8"))
    # an agent is what the server calls itself; a case that fails before that is of another one
    # NON-STRICT is conformant too: in some cases it depends on whether an echo comes before the close
    return {case: (entry["behavior"].replace("NON-STRICT", "OK"), entry["behaviorClose"])
            for agent in index.values() for case, entry in agent.items()}


def run(proxy, folder):
    """run is {route: {case: outcome}} for the three ways."""
    folder = str(folder)
    os.makedirs(folder, exist_ok=True)
    port, = peers.free_ports(1)
    server = peers.Program([sys.executable, os.path.join(HERE, "ws_echo.py"), str(port)], folder, port)
    running = None
    try:
        running, ports, _ = gateway.start(proxy, os.path.join(folder, proxy), port, gateway.HTTP1,
                                          OPTIONS)
        results = {name: play(ports.get(mode, port), os.path.join(folder, name.replace(" ", "-")))
                   for name, mode in ROUTES.items()}
        assert not running.findings(), running.log()
        return results
    finally:
        if running:
            running.stop()
        server.stop()


def differences(results, route):
    """differences are the cases that end otherwise than without a proxy."""
    return {case: (results[route].get(case), outcome) for case, outcome in results["direct"].items()
            if results[route].get(case) != outcome}


def report(folder):
    lines = [f"kosoku's {CASES} cases against the echo server of Python's websockets: how many end as they do "
             "without a proxy.", "", "| | over HTTP/1.1 | two proxies, HTTP/2 and mTLS between |", "|---|---|---|"]
    good = bad = 0
    problems = []
    for proxy in ("attache", "envoy"):
        results = run(proxy, os.path.join(folder, proxy))
        total, cells = len(results["direct"]), []
        for route in ("one proxy", "two proxies"):
            found = differences(results, route)
            cells.append(f"{total - len(found)} of {total}")
            problems += [f"- {proxy}, {route}, {case}: {got}, without {want}"
                         for case, (got, want) in sorted(found.items())]
            if proxy == "attache":
                good, bad = good + total - len(found), bad + len(found)
        lines.append(f"| {proxy} {peers.version(proxy)} | " + " | ".join(cells) + " |")
    return lines + [""] + problems, good, bad


if __name__ == "__main__":
    import tempfile
    with tempfile.TemporaryDirectory() as top:
        found_all = run(sys.argv[1], top)
        for way in ROUTES:
            print(way, len(found_all[way]), differences(found_all, way))
