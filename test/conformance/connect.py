"""connectrpc's conformance cases for gRPC and gRPC-Web: its reference client against its reference server,
through a proxy, and gRPC-Web through the proxy's filter against a server that speaks gRPC only."""

import os
import re
import subprocess
import sys

import peers

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT_S = 200
SHOWN = 5


def tool(name):
    return str(peers.DEPS / "conformance-go" / name)


# name: (server, options of connect_server.py, what of the cases)
RUNS = {
    "passed on": ("referenceserver", (), ()),
    # the server counts the time too, and its reset may come before the client's own deadline
    "gRPC-Web made gRPC": ("grpcserver", ("translate",), (
        "--run", "**/Protocol:PROTOCOL_GRPC_WEB/**", "--known-flaky", "Timeouts/**")),
}


def flaky(text):
    """flaky is how many cases of those named flaky failed; the suite counts them apart."""
    found = re.search(r"(?m)^\(Another (\d+) failed as expected", text)
    return int(found.group(1)) if found else 0


def run(proxy, folder, name):
    """run is (cases that passed, those that failed, what it printed)."""
    os.makedirs(folder, exist_ok=True)
    server, options, chosen = RUNS[name]
    done = subprocess.run(
        [tool("connectconformance"), "--mode", "server", "--conf", os.path.join(HERE, "connect.yaml"),
         "--parallel", "4", "--max-servers", "2", *chosen, "--", sys.executable,
         os.path.join(HERE, "connect_server.py"), proxy, str(folder), tool(server), *options],
        capture_output=True, text=True, timeout=LIMIT_S, check=False)
    text = done.stdout + done.stderr
    total = re.search(r"(\d+) passed, (\d+) failed", text)
    if not total:
        return 0, [f"no result: {text[-600:]}"], text
    failed = re.findall(r"(?m)^FAILED: (.+?):?$", text)
    if int(total.group(2)) != len(failed) or done.returncode and not failed:
        failed.append(f"exit status {done.returncode}, {total.group()}")
    return int(total.group(1)), failed, text


def report(folder):
    lines = ["`connectconformance` in server mode: its reference client, a proxy, its reference server; and "
             "where the filter grpc_web makes gRPC of gRPC-Web, the server of grpc-go.", "",
             "| proxy | " + " | ".join(RUNS) + " |", "|---|" + "---|" * len(RUNS)]
    good = bad = 0
    problems = []
    for proxy in ("attache", "envoy"):
        cells = []
        for name in RUNS:
            passed, failed, _ = run(proxy, os.path.join(folder, proxy), name)
            cells.append(f"{passed} passed, {len(failed)} failed")
            problems += [f"- {proxy}, {name}: {case}" for case in failed[:SHOWN]]
            if len(failed) > SHOWN:
                problems.append(f"- and {len(failed) - SHOWN} more")
            if proxy == "attache":
                good, bad = good + passed, bad + len(failed)
        lines.append(f"| {proxy} {peers.version(proxy)} | " + " | ".join(cells) + " |")
    return lines + [""] + problems, good, bad


if __name__ == "__main__":
    import tempfile
    with tempfile.TemporaryDirectory() as top:
        for which in sys.argv[2:] or RUNS:
            print(which, *run(sys.argv[1], top, which)[:2])
            print(run(sys.argv[1], top, which)[2][-3000:]) if os.environ.get("VERBOSE") else None
