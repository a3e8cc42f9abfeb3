"""The demo inside of its own user, mount, process and network namespaces: builds the mesh, runs the
steps, prints the table. When this process ends, everything it made is gone with its namespaces.

tools/demo/run starts it.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import world
from pods import PROXY, DemoError, Pod, make_bridge, run, tail, wait_until
from steps import ControlProcess, Steps

WIDTHS = (4, 6, 38, 62)  # of the table's columns but the last


def prepare(proxy, init):
    """prepare makes the folders (on a tmpfs) and puts the programs where every user can run them."""
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "-o", "mode=0755", "attache-demo", "/run")
    for folder in ("/run/netns", f"{world.RUN}/bin", f"{world.RUN}/pods", f"{world.RUN}/control",
                   f"{world.RUN}/tmp"):
        os.makedirs(folder)
    os.chmod(f"{world.RUN}/control", 0o700)
    os.environ["TMPDIR"] = f"{world.RUN}/tmp"
    open(PROXY, "w", encoding="utf-8").close()
    run("mount", "--bind", proxy, PROXY)
    if not os.access(init, os.X_OK):
        raise DemoError(f"{init} is not there: make init builds it")
    world.write_file(f"{world.RUN}/hosts", world.HOSTS)
    run("mount", "--bind", f"{world.RUN}/hosts", "/etc/hosts")
    world.write_file(world.SETTINGS, "{}\n")


def start_applications(pods):
    for name, version in ((world.V1, "v1"), (world.V2, "v2")):
        pod = pods[name]
        pod.start(*pod.python("web.py", version, str(world.WEB_PORT),
                              f"{pod.folder}/behaviour.json"), log="web.log")
    pod = pods[world.V2]
    if shutil.which("redis-server"):
        pod.start("redis-server", "--port", str(world.REDIS_PORT), "--bind", "0.0.0.0", "--save",
                  "", "--protected-mode", "no", "--daemonize", "no", log="redis.log")
    else:
        pod.start(*pod.python("kv.py", "server", str(world.REDIS_PORT)), log="redis.log")


def build(proxy, init):
    prepare(proxy, init)
    make_bridge()
    pods = {name: Pod(name) for name in world.POD_ADDRESS}
    for pod in pods.values():
        pod.make(init)
    control = ControlProcess([sys.executable, os.path.join(os.path.dirname(__file__), "control.py")])
    control.start()
    start_applications(pods)
    for pod in pods.values():
        pod.start_sidecar()
    for pod in pods.values():
        wait_until(pod.is_ready, 30, f"the sidecar of {pod.name} to be ready", pods.values())
    return pods, control


def wait_for_service(pods):
    """The first answers: the servers' applications and sidecars are there."""
    client = pods["client"]
    probe = ("import http.client, sys\n"
             "for path in ('/split', '/both', '/both'):\n"
             "    c = http.client.HTTPConnection('web.demo', 80, timeout=2)\n"
             "    c.request('GET', path)\n"
             "    sys.exit(1) if c.getresponse().status != 200 else c.close()\n")
    command = client.inside(shutil.which("python3") or sys.executable, "-c", probe)

    def listening(pod):
        def connect():
            socket.create_connection(("127.0.0.1", world.WEB_PORT), timeout=1).close()
            return True
        with contextlib.suppress(OSError):
            return pod.call_in(connect)
        return False
    for name in (world.V1, world.V2):
        wait_until(lambda name=name: listening(pods[name]), 20, f"the application of {name}")
    wait_until(lambda: subprocess.run(command, capture_output=True, timeout=20,
                                      check=False).returncode == 0,
               10, "an answer from the servers", pods.values())


def print_row(*cells):
    padded = [cell.ljust(width) for cell, width in zip(cells, WIDTHS)] + list(cells[len(WIDTHS):])
    print(" ".join(padded).rstrip(), flush=True)


def run_steps(steps, only):
    """run_steps runs the steps and prints a line for each; it returns how many missed."""
    misses = 0
    print_row("step", "result", "what", "expected", "measured")
    for letter, step in steps.all():
        if only and letter not in only:
            continue
        try:
            expected, measured, ok = step()
        except DemoError as error:
            expected, measured, ok = "", str(error), False
        misses += not ok
        print_row(f"({letter})", "ok" if ok else "MISSED", step.__doc__, expected, measured)
    return misses


def show_logs(pods):
    for pod in pods.values():
        for name in ("proxy.log", "web.log", "load.log"):
            text = tail(f"{pod.folder}/{name}")
            if text and not text.startswith("("):
                print(f"--- {pod.name}: the end of {name}\n{text}", file=sys.stderr)
    print(f"--- control plane\n{tail(f'{world.RUN}/control/control.log')}", file=sys.stderr)


def follow_starter(kept):
    """Ends the demo when the program that started it is gone, unless it shall stay."""
    def watch():
        while os.read(0, 1):
            pass
        if not kept.is_set():
            os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


def explain():
    print("""
The mesh stays up. Its parts are in namespaces of their own; enter them with --exec:
  tools/demo/run --exec client curl -s http://web.demo/split      call the service as the application
  tools/demo/run --exec client redis-cli -h redis.demo PING
  tools/demo/run --exec client curl -s localhost:15000/clusters   admin port of a sidecar, in each of
  tools/demo/run --exec server-v1 curl -s localhost:15000/stats   client, server-v1 and server-v2
  tools/demo/run --exec client curl -s localhost:15000/config_dump
  tools/demo/run --exec server-v2 iptables-save -t nat
  tools/demo/run --exec server-v1 tail -3 /run/attache-demo/pods/server-v1/access.log
  tools/demo/run --set weights.v1=25 weights.v2=75                push another split
  tools/demo/run --stop                                           end it and leave nothing""",
          flush=True)


def stay(kept):
    """Lets go of the terminal and stays until it is killed."""
    kept.set()
    print("attache-demo: kept", flush=True)
    null = os.open(f"{world.RUN}/demo.log", os.O_RDWR | os.O_CREAT, 0o600)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    while True:
        signal.pause()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--proxy", required=True)
    parser.add_argument("--init", required=True)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--logs")
    parser.add_argument("--steps", default="")
    parser.add_argument("--envoy-words", action="store_true")
    args = parser.parse_args()
    kept = threading.Event()
    follow_starter(kept)
    begin = time.monotonic()
    pods, misses = {}, 1
    try:
        pods, control = build(args.proxy, args.init)
        wait_for_service(pods)
        print(f"three pods, three sidecars, one control plane: up in {time.monotonic() - begin:.1f} s",
              flush=True)
        steps = Steps(pods, control)
        steps.accept_envoy_words = args.envoy_words
        misses = run_steps(steps, args.steps)
        print(f"{'all steps passed' if not misses else f'{misses} steps MISSED'} in "
              f"{time.monotonic() - begin:.1f} s", flush=True)
        if misses:
            show_logs(pods)
        if args.keep:
            explain()
            stay(kept)
    except DemoError as error:
        print(f"attache-demo: {error}", file=sys.stderr)
        show_logs({name: Pod(name) for name in world.POD_ADDRESS})
    finally:
        if args.logs and os.path.isdir(world.RUN):
            shutil.copytree(f"{world.RUN}/pods", f"{args.logs}/pods", dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("*.sock"))
            shutil.copytree(f"{world.RUN}/control", f"{args.logs}/control", dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("*.pem", "ca"))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if misses else 0)  # the process namespace ends here, and with it all processes


if __name__ == "__main__":
    main()
