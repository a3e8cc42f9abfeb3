#!/usr/bin/env python3
"""Instructions that the proxy spends on one HTTP/1.1 keep-alive request.

The proxy runs under callgrind in front of test/bench/lockstep, which is client and origin in one
thread: request by request, so that the proxy wakes in the same order in every run. Two runs of
different length are subtracted, which cancels the start and the end. The figure does not depend on
the machine's speed or load, so it is compared with a record in the repository:

    measure.py                 measure and compare; status 1 if it grew by more than 5 %
    measure.py --update        measure and write the record (in a commit of its own)
    measure.py --repeat 5      measure five times and print the spread
"""

import argparse
import copy
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import contenders as cont  # noqa: E402  pylint: disable=wrong-import-position

RECORD = os.path.join(os.path.dirname(HERE), "instructions.json")
KEY = "http1_keepalive"
GROWTH_LIMIT = 1.05
FEW, MANY = 500, 2500
RUN_TIMEOUT_S = 300


class Record:
    """What is written down about a figure: the count, and what it was counted with."""

    def __init__(self, instructions, tools):
        self.instructions = instructions
        self.tools = tools

    @staticmethod
    def read(path, key):
        """The record, or None if there is none yet."""
        if not os.path.exists(path):
            return None
        with open(path, encoding="utf-8") as file:
            row = json.load(file).get(key)
        return None if row is None else Record(row["instructions_per_request"], row["tools"])

    def write(self, path, key):
        """Puts the record beside the others of the file."""
        rows = {}
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                rows = json.load(file)
        rows[key] = {"instructions_per_request": self.instructions, "tools": self.tools}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2, sort_keys=True)
            file.write("\n")


def verdict(measured, record):
    """(grown too much, what to say)."""
    if record is None:
        return True, f"{measured} instructions a request; no record: run with --update"
    ratio = measured / record.instructions
    text = (f"{measured} instructions a request, record {record.instructions}: "
            f"{(ratio - 1) * 100:+.2f} %")
    if ratio > GROWTH_LIMIT:
        return True, text + f", more than {(GROWTH_LIMIT - 1) * 100:.0f} % above the record"
    if ratio < 2 - GROWTH_LIMIT:
        text += "; the record can be lowered with --update"
    return False, text


def first_line(argv):
    """The first line a command prints."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=20, check=True)
    return done.stdout.splitlines()[0]


def tool_versions():
    """What the count depends on beside our own code."""
    return {"compiler": first_line([os.environ.get("CC", "gcc").split()[-1], "--version"]),
            "valgrind": first_line(["valgrind", "--version"])}


def collected(tmp):
    """The instructions that callgrind says it counted, in all processes."""
    total = 0
    for path in glob.glob(os.path.join(tmp, "callgrind.log.*")):
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.findall(r"Collected : (\d+)", file.read())
        total += sum(int(number) for number in found)
    if total == 0:
        raise cont.BenchError("callgrind left no count")
    return total


def count(row, tools_dir, requests):
    """Instructions of one run of the proxy over `requests` requests."""
    with tempfile.TemporaryDirectory(prefix="attache-instr-") as tmp:
        os.chmod(tmp, 0o777)  # a worker may have changed its user, and writes its count here
        under = copy.copy(row)
        under.program = cont.find_program("valgrind")
        under.argv = ["--tool=callgrind", f"--log-file={os.path.join(tmp, 'callgrind.log.%p')}",
                      f"--callgrind-out-file={os.path.join(tmp, 'callgrind.out.%p')}",
                      row.program, *row.argv]
        origin_port = cont.free_port()
        # lockstep waits for the port itself: a connection to try it would be one event more
        process, port, _ = cont.launch(under, "bare", tmp, origin_port, None)
        try:
            done = subprocess.run([os.path.join(tools_dir, "lockstep"), str(origin_port), str(port),
                                   str(requests)], stderr=subprocess.PIPE, text=True,
                                  timeout=RUN_TIMEOUT_S, check=False)
            if done.returncode != 0:
                raise cont.BenchError(done.stderr + process.said())
        finally:
            process.stop()
        return collected(tmp)


def measure(row, tools_dir):
    """Instructions a request."""
    few = count(row, tools_dir, FEW)
    many = count(row, tools_dir, MANY)
    return round((many - few) / (MANY - FEW))


def main():
    """Returns the exit status."""
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--build", default="build")
    p.add_argument("--attache", help="the proxy (default BUILD/release/attache)")
    p.add_argument("--subject", default="attache", help="another contender, to compare; no record")
    p.add_argument("--repeat", type=int, default=1)
    p.add_argument("--update", action="store_true")
    args = p.parse_args()
    tools_dir = os.path.join(args.build, "bench")
    attache = args.attache or os.path.join(args.build, "release", "attache")
    rows = [row for row in cont.contenders(tools_dir, attache, "") if row.name == args.subject]
    if not rows or rows[0].program is None:
        print(f"instructions: no {args.subject} here", file=sys.stderr)
        return 2
    try:
        counts = sorted(measure(rows[0], tools_dir) for _ in range(args.repeat))
    except cont.BenchError as error:
        print(f"instructions: {error}", file=sys.stderr)
        return 2
    middle = counts[len(counts) // 2]
    if args.repeat > 1:
        print(f"instructions: {counts}, spread {(counts[-1] / counts[0] - 1) * 100:.3f} %")
    if args.subject != "attache":
        print(f"instructions: {args.subject}: {middle} a request")
        return 0
    if args.update:
        Record(middle, tool_versions()).write(RECORD, KEY)
        print(f"instructions: recorded {middle} a request")
        return 0
    grown, text = verdict(middle, Record.read(RECORD, KEY))
    print(f"instructions: {text}")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
