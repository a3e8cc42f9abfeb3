#!/usr/bin/env python3
"""make bench: what a request costs, for Attaché and its peers, side by side in one run.

Each contender runs one worker pinned to one core, in front of the same origin; the load generator
and the origin share another core. A round gives every contender one turn (A B C D E, A B C D E, …),
so that a change of the machine's mood meets all of them; ratios are taken within a round. The load
generator checks every answer: a wrong one fails the bench.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import contenders as cont
import idle

SETS = ("bare", "logged")
SET_TITLES = {"bare": "bare (no access log, no stats)", "logged": "access log and stats on"}
RSS_TARGET_KIB = 16 * 1024
SYSCALL_REQUESTS = 500


def parse_args():
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--build", default="build", help="build directory (default build)")
    p.add_argument("--attache", help="the proxy (default BUILD/release/attache)")
    p.add_argument("--deps", default=os.environ.get("ATTACHE_DEPS", ""),
                   help="where tools/deps put its Python environment")
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--seconds", type=float, default=0.8, help="length of a turn")
    p.add_argument("--connections", type=int, default=64)
    p.add_argument("--body", type=int, default=1024, help="bytes of an answer's body")
    p.add_argument("--sets", default=",".join(SETS))
    p.add_argument("--only", help="contenders, by comma")
    p.add_argument("--no-syscalls", action="store_true")
    p.add_argument("--no-memory", action="store_true")
    p.add_argument("--assert-targets", action="store_true", help="a missed target fails the bench")
    p.add_argument("--json", help="write every figure to this file")
    return p.parse_args()


def cores():
    """(core of the proxies, core of load and origin): the same one if there is only one."""
    have = sorted(os.sched_getaffinity(0))
    return have[0], have[-1]


def load(args, tools_dir, port, core, *, connections, seconds, requests=None):
    """One run of the load generator; raises if any answer was wrong."""
    argv = ["taskset", "-c", str(core), os.path.join(tools_dir, "load"), "-c", str(connections),
            "-t", str(int(seconds * 1000)), "-s", str(args.body)]
    if requests is not None:
        argv += ["-n", str(requests)]
    done = subprocess.run([*argv, str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=seconds + 30, check=False)
    if done.returncode != 0:
        raise cont.BenchError(f"wrong answers: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


class Turns:
    """The figures of one contender in one set."""

    def __init__(self):
        self.cpu_us = []
        self.per_second = []
        self.p50_us = []
        self.p99_us = []
        self.busy = []
        self.answered = 0  # in all, turns or not
        self.log_lines = None  # written in all, where there is a log


def take_turn(args, tools_dir, process, port, core, turns):
    """Loads one contender once and notes its figures."""
    before, began = process.cpu_ns(), time.monotonic()
    result = load(args, tools_dir, port, core, connections=args.connections, seconds=args.seconds)
    wall = time.monotonic() - began
    used = process.cpu_ns() - before
    turns.answered += result["ok"]
    turns.cpu_us.append(used / 1000 / result["ok"])
    turns.per_second.append(result["ok"] / result["seconds"])
    turns.p50_us.append(result["p50_us"])
    turns.p99_us.append(result["p99_us"])
    turns.busy.append(used / 1e9 / wall)


def count_syscalls(args, tools_dir, process, port, core, tmp):
    """System calls a request, by name, at one connection: the load is in lockstep, so the count
    does not depend on how events happen to gather. None without strace."""
    strace = cont.find_program("strace")
    if strace is None:
        return None
    out = os.path.join(tmp, f"{process.name}.strace")
    pids = [arg for pid in process.pids() for arg in ("-p", str(pid))]
    with open(out + ".log", "wb") as log:
        tracer = subprocess.Popen([strace, "-f", "-c", "-U", "calls,name", "-o", out, *pids],
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        time.sleep(0.5)
        if tracer.poll() is not None:
            return None
        load(args, tools_dir, port, core, connections=1, seconds=20, requests=SYSCALL_REQUESTS)
    finally:
        if tracer.poll() is None:
            tracer.send_signal(2)
        tracer.wait(cont.STOP_TIMEOUT_S)
    counts = {}
    with open(out, encoding="ascii", errors="replace") as file:
        for line in file:
            words = line.split()
            if len(words) == 2 and words[0].isdigit() and words[1] != "total":
                counts[words[1]] = int(words[0]) / SYSCALL_REQUESTS
    return counts


def spread(values, digits):
    """min, median and max, as text."""
    return (f"{min(values):9.{digits}f} {statistics.median(values):9.{digits}f} "
            f"{max(values):9.{digits}f}")


def ratios(turns, base):
    """Each round's cost over the base's cost in that round."""
    return [a / b for a, b in zip(turns.cpu_us, base.cpu_us)]


def print_set(name, results, syscalls):
    """The table of one set."""
    print(f"\n{SET_TITLES[name]}")
    print(f"  {'':10} {'CPU a request, µs':^29} {'ratio to nginx':^29} {'requests/s':>10} "
          f"{'p50 µs':>7} {'p99 µs':>7} {'core':>5}")
    print(f"  {'':10} {'min':>9} {'median':>9} {'max':>9} {'min':>9} {'median':>9} {'max':>9}")
    for who, turns in results.items():
        ratio = " " * 29
        if "nginx" in results:
            ratio = spread(ratios(turns, results["nginx"]), 3)
        med = statistics.median
        print(f"  {who:10} {spread(turns.cpu_us, 2)} {ratio} {med(turns.per_second):10.0f} "
              f"{med(turns.p50_us):7.0f} {med(turns.p99_us):7.0f} {med(turns.busy) * 100:4.0f}%")
    for who, turns in results.items():
        if turns.log_lines is not None:
            print(f"  {who:10} access log: {turns.log_lines} lines for {turns.answered} requests")
    for who, counts in syscalls.items():
        if counts is None:
            continue
        shown = [f"{n} {c:.2f}" for n, c in sorted(counts.items(), key=lambda kv: -kv[1])
                 if c >= 0.05]
        print(f"  {who:10} system calls a request {sum(counts.values()):5.2f}: {', '.join(shown)}")


def run_set(args, name, rows, tools_dir, tmp, where):
    """All rounds of one set; returns (figures by contender, system calls by contender)."""
    proxy_core, load_core = where
    running = {}
    results, syscalls = {}, {}
    origin, origin_port = cont.start_origin(tools_dir, tmp, args.body, load_core)
    try:
        for row in rows:
            running[row.name] = cont.start(row, name, tmp, origin_port, proxy_core)[:2]
            results[row.name] = Turns()
            warm = load(args, tools_dir, running[row.name][1], load_core,
                        connections=args.connections, seconds=5, requests=2000)
            results[row.name].answered += warm["ok"]
        for _ in range(args.rounds):
            for who, (process, port) in running.items():
                try:
                    take_turn(args, tools_dir, process, port, load_core, results[who])
                except cont.BenchError as error:
                    raise cont.BenchError(f"{who}, {name}: {error}") from error
        if not args.no_syscalls:
            for who, (process, port) in running.items():
                syscalls[who] = count_syscalls(args, tools_dir, process, port, load_core, tmp)
                if syscalls[who] is not None:
                    results[who].answered += SYSCALL_REQUESTS
    finally:
        for process, _ in running.values():
            process.stop()
        origin.stop()
    for who, turns in results.items():
        turns.log_lines = count_log_lines(tmp, who) if name == "logged" else None
    return results, syscalls


def count_log_lines(tmp, who):
    """Lines in the access log of a contender that has been stopped; None if it has no log."""
    for path in (f"{who}_access.log", f"{who}_logged.log" if who == "haproxy" else ""):
        path = os.path.join(tmp, path)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return None


def run_memory(rows, tmp, where):
    """Memory at rest with the demo's configuration, for those that speak xDS; returns
    {name: (rss KiB, pss KiB)}."""
    package = idle.control_plane_package()
    if package is None:
        print("\nresident memory at rest: not measured: the Python environment of tools/deps is "
              "missing")
        return {}
    return {row.name: idle.measure(package, row, tmp, where[0]) for row in rows
            if row.conf == "envoy_{}.yaml"}


def print_head(args, rows, where):
    """Date, machine and versions."""
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    model = platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    print(f"attache bench, {now}")
    print(f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, load average "
          f"{os.getloadavg()[0]:.1f}; proxies on core {where[0]}, load and origin on core "
          f"{where[1]}")
    print(f"HTTP/1.1 keep-alive, {args.connections} connections, {args.body}-byte answers, "
          f"one worker, no TLS; {args.rounds} rounds of {args.seconds:g} s turns; every answer "
          "checked")
    for row in rows:
        if row.program is None:
            print(f"  {row.name:10} skipped: not found")
        else:
            print(f"  {row.name:10} {row.version()}")


def check_targets(all_results, sizes):
    """Prints each target as met or missed; true if none was missed."""
    good = True
    print("\ntargets")
    for name, results in all_results.items():
        if "attache" not in results or "nginx" not in results:
            print(f"  attache below nginx, {name}: not measured")
            continue
        ratio = statistics.median(ratios(results["attache"], results["nginx"]))
        best = min(results["attache"].cpu_us) / min(results["nginx"].cpu_us)
        good = good and ratio < 1
        print(f"  attache below nginx, {name}: {'met' if ratio < 1 else 'missed'} "
              f"({ratio:.3f} of nginx by the median of rounds, {best:.3f} best against best)")
    if "attache" not in sizes:
        print("  attache idle at most 16 MB resident: not measured")
        return good
    rss = sizes["attache"][0]
    print(f"  attache idle at most 16 MB resident: {'met' if rss <= RSS_TARGET_KIB else 'missed'} "
          f"({rss / 1024:.1f} MB)")
    return good and rss <= RSS_TARGET_KIB


def write_json(path, all_results, all_syscalls, sizes):
    """Every figure, for a later comparison."""
    data = {"date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "sets": {name: {who: vars(turns) for who, turns in results.items()}
                     for name, results in all_results.items()},
            "syscalls": all_syscalls,
            "idle_kib": {who: {"rss": rss, "pss": pss} for who, (rss, pss) in sizes.items()}}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.write("\n")


def main():
    """Returns the exit status."""
    args = parse_args()
    tools_dir = os.path.join(args.build, "bench")
    attache = args.attache or os.path.join(args.build, "release", "attache")
    rows = cont.contenders(tools_dir, attache, args.deps)
    if args.only:
        rows = [row for row in rows if row.name in args.only.split(",")]
    where = cores()
    print_head(args, rows, where)
    rows = [row for row in rows if row.program is not None]
    all_results, all_syscalls, sizes = {}, {}, {}
    with tempfile.TemporaryDirectory(prefix="attache-bench-") as tmp:
        os.chmod(tmp, 0o755)  # nginx's worker is another user
        try:
            for name in args.sets.split(","):
                all_results[name], all_syscalls[name] = run_set(args, name, rows, tools_dir, tmp,
                                                                where)
                print_set(name, all_results[name], all_syscalls[name])
            if not args.no_memory:
                sizes = run_memory(rows, tmp, where)
        except cont.BenchError as error:
            print(f"bench failed: {error}", file=sys.stderr)
            return 1
    if sizes:
        print("\nresident memory at rest, with the demo's configuration")
        for who, (rss, pss) in sizes.items():
            print(f"  {who:10} {rss / 1024:7.1f} MB resident, {pss / 1024:7.1f} MB proportional")
    met = check_targets(all_results, sizes)
    if args.json:
        write_json(args.json, all_results, all_syscalls, sizes)
    return 0 if met or not args.assert_targets else 1


if __name__ == "__main__":
    sys.exit(main())
