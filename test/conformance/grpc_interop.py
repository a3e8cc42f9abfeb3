"""gRPC's interoperability cases: the clients of Go, Python and Node against the server of Go, through a
proxy."""

import concurrent.futures
import os
import subprocess

import gateway
import peers

# Every case of the Go client that needs no account of a cloud, and that passes without a proxy: this
# server sends neither its name (pick_first_unary) nor reports of its load (orca_*).
CASES = ("empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong",
         "empty_stream", "timeout_on_sleeping_server", "cancel_after_begin",
         "cancel_after_first_response", "status_code_and_message", "special_status_message",
         "custom_metadata", "unimplemented_method", "unimplemented_service", "rpc_soak",
         "channel_soak")
MODES = ("plain", "tls", "mtls")
CASE_S = 60
NODE = str(peers.DEPS / "conformance-node/node_modules")
HERE = os.path.dirname(os.path.abspath(__file__))


def tool(name):
    """tool is a program that tools/deps has built of go/go.mod."""
    return str(peers.DEPS / "conformance-go" / name)


def go_client(case, mode, port, roots):
    command = [tool("client"), "-server_host", "127.0.0.1", "-server_port", str(port),
               "-test_case", case]
    if mode == "tls":
        command += ["-use_tls", "-use_test_ca", "-ca_file", roots, "-server_host_override", gateway.NAME]
    return command


def python_client(case, mode, port, roots):
    return [str(peers.DEPS / "venv/bin/python"), os.path.join(HERE, "grpc_client.py"), case,
            f"127.0.0.1:{port}", *([roots] if mode == "tls" else [])]


def node_client(case, mode, port, roots):
    return ["node", os.path.join(HERE, "node/grpc_client.js"), case, f"127.0.0.1:{port}",
            *([roots] if mode == "tls" else [])]


OTHERS = ("unary", "large", "server_streaming", "client_streaming", "ping_pong", "status", "metadata",
          "deadline", "cancel", "unimplemented")
CLIENTS = {"go": (go_client, CASES), "python": (python_client, OTHERS), "node": (node_client, OTHERS)}


def run(proxy, folder, clients=tuple(CLIENTS), modes=MODES):
    """run plays all cases through a proxy, or without one (`proxy` None, mode `direct`):
    {(client, mode, case): what went wrong, or ""}."""
    os.makedirs(folder, exist_ok=True)
    port, = peers.free_ports(1)
    server = peers.Program([tool("server"), "-port", str(port)], folder, port)
    running, roots = None, None
    try:
        ports = {"direct": port}
        if proxy:
            running, ports, certificates = gateway.start(proxy, os.path.join(folder, proxy), port)
            roots = certificates.roots
        plays = {}
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            for client in clients:
                build, cases = CLIENTS[client]
                for mode in modes if proxy else ("direct",):
                    for case in cases:
                        command = build(case, mode, ports[mode], roots)
                        plays[client, mode, case] = pool.submit(_play, command)
            results = {key: play.result() for key, play in plays.items()}
        if running:
            assert not running.findings(), running.log()
        return results
    finally:
        if running:
            running.stop()
        server.stop()


def _play(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CASE_S, check=False,
                              env={**os.environ, "NODE_PATH": NODE})
    except subprocess.TimeoutExpired:
        return f"not within {CASE_S} s"
    if done.returncode == 0:
        return ""
    return (done.stdout + done.stderr).strip()[-400:] or f"exit status {done.returncode}"


def report(folder):
    lines = ["The clients of Go (`google.golang.org/grpc/interop/client`), Python (grpcio) and Node "
             "(@grpc/grpc-js) against Go's interop server, through one proxy in plain text and with TLS, "
             "and through two with mutual TLS between them.", "",
             "| proxy | client | plain | TLS | two proxies, mTLS |", "|---|---|---|---|---|"]
    good = bad = 0
    problems = []
    for proxy in ("attache", "envoy"):
        results = run(proxy, os.path.join(folder, proxy))
        for client, (_, cases) in CLIENTS.items():
            cells = []
            for mode in MODES:
                failed = [case for case in cases if results[client, mode, case]]
                cells.append(f"{len(cases) - len(failed)} of {len(cases)}")
                problems += [f"{proxy}, {client}, {mode}, {case}: {results[client, mode, case]}"
                             for case in failed]
                if proxy == "attache":
                    good, bad = good + len(cases) - len(failed), bad + len(failed)
            lines.append(f"| {proxy} {peers.version(proxy)} | {client} | " + " | ".join(cells) + " |")
    return lines + [""] + [f"- {text.splitlines()[0]}" for text in problems], good, bad


if __name__ == "__main__":
    import sys
    import tempfile
    with tempfile.TemporaryDirectory() as top:
        name = sys.argv[1] if sys.argv[1] != "direct" else None
        for key, problem in run(name, top, sys.argv[2:] or tuple(CLIENTS)).items():
            print(*key, problem or "ok")
