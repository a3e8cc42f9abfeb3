"""The bench's own tests: what it says must be true, above all when an answer is wrong."""

import argparse
import json
import os
import subprocess
import sys
import threading

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(HERE, "instr")]
import contenders as cont  # noqa: E402
import measure  # noqa: E402
import run  # noqa: E402

BUILD = os.environ.get("ATTACHE_BUILD", os.path.join(ROOT, "build"))
TOOLS = os.path.join(BUILD, "bench")
ATTACHE = os.environ.get("ATTACHE_BINARY", os.path.join(BUILD, "release", "attache"))
BODY = 1024


@pytest.fixture(scope="module", autouse=True)
def tools():
    """The C programs, freshly built."""
    subprocess.run(["make", "-s", "-C", ROOT, f"BUILD={os.path.relpath(BUILD, ROOT)}",
                    "bench-tools"], check=True, timeout=300)


@pytest.fixture
def started():
    """start(argv…) starts a tool on a free port and returns the port; all are ended."""
    running = []

    def start(tmp, name, *argv, port):
        process = cont.Process(name, [os.path.join(TOOLS, name), *argv], str(tmp / name))
        running.append(process)
        process.wait_port(port)
        return process

    yield start
    for process in running:
        process.stop()


def load(port, *argv, body=BODY):
    """The status and the report of the load generator."""
    done = subprocess.run([os.path.join(TOOLS, "load"), "-s", str(body), *argv, str(port)],
                          capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout), done.stderr


def origin(start, tmp, *argv):
    """An origin; its port."""
    port = cont.free_port()
    start(tmp, "origin", "-p", str(port), *argv, port=port)
    return port


def test_right_answers_pass(started, tmp_path):
    """Through the forwarder, every answer is counted once and none is wrong."""
    up = origin(started, tmp_path)
    port = cont.free_port()
    started(tmp_path, "forwarder", str(up), str(port), port=port)
    status, report, _ = load(port, "-c", "32", "-n", "5000", "-t", "20000")
    assert status == 0
    assert report["requests"] == report["ok"] == 5000
    assert report["errors"] == 0
    assert 0 < report["p50_us"] <= report["p99_us"] <= report["max_us"]


@pytest.mark.parametrize("size", [1, 15, 16, 17, 32768])
def test_body_sizes(started, tmp_path, size):
    """Sizes around the check word's and the largest."""
    up = origin(started, tmp_path, "-s", str(size))
    port = cont.free_port()
    started(tmp_path, "forwarder", str(up), str(port), port=port)
    status, report, _ = load(port, "-c", "4", "-n", "100", "-t", "20000", body=size)
    assert (status, report["ok"]) == (0, 100)


@pytest.mark.parametrize("wrong, error", [("status", "error_status"), ("body", "error_body"),
                                          ("length", "error_length"), ("other", "error_body")])
def test_wrong_answers_fail(started, tmp_path, wrong, error):
    """One wrong answer in fifty is found, named and makes the status 1."""
    up = origin(started, tmp_path, "-w", wrong, "-e", "50")
    status, report, said = load(up, "-n", "100", "-t", "20000")
    assert status == 1
    assert report["errors"] == report[error] == 1
    assert report["ok"] == 49
    assert "request 50" in said


def test_crossed_answers_fail(started, tmp_path):
    """The right answer to a request of another connection is wrong."""
    up = origin(started, tmp_path)
    with cont.socket.create_server(("127.0.0.1", 0)) as server:
        crosser = threading.Thread(target=cross, args=(server, up))
        crosser.start()
        status, report, _ = load(server.getsockname()[1], "-c", "2", "-n", "2", "-t", "20000")
        crosser.join(10)
    assert status == 1
    assert (report["error_body"], report["ok"]) == (2, 0)


def cross(server, up):
    """A proxy of two connections that gives each the other's answer."""
    clients = [server.accept()[0] for _ in range(2)]
    answers = []
    for client in clients:
        with cont.socket.create_connection(("127.0.0.1", up)) as upstream:
            upstream.sendall(client.recv(4096))
            answer = b""
            while len(answer) < BODY + 60 or not answer.partition(b"\r\n\r\n")[2][BODY - 1:]:
                answer += upstream.recv(65536)
            answers.append(answer)
    for client, answer in zip(clients, reversed(answers)):
        client.sendall(answer)
        client.close()


@pytest.mark.parametrize("answer, error", [
    (b"", "error_closed"),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\nshort", "error_closed"),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n" + b"x" * 1025, "error_extra"),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "error_length"),
    (b"HTTP/1.1 200 OK\r\nxcontent-length: 1024\r\n\r\n" + b"x" * 1024, "error_length"),
])
def test_broken_answers_fail(answer, error):
    """A server that closes early, says too much or does not say how much."""
    with cont.socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(answer)
                client.shutdown(cont.socket.SHUT_WR)
                while client.recv(4096):
                    pass
        thread = threading.Thread(target=serve)
        thread.start()
        status, report, _ = load(server.getsockname()[1], "-n", "1", "-t", "20000")
        thread.join(10)
    assert status == 1
    assert report[error] == report["errors"] == 1


def test_silence_fails_within_the_grace():
    """An answer that never comes is an error, and the load generator ends."""
    with cont.socket.create_server(("127.0.0.1", 0)) as server:
        status, report, _ = load(server.getsockname()[1], "-t", "100")
    assert status == 1
    assert report["error_hung"] == 1


def test_nobody_listens():
    """A refused connection is an error, not an empty success."""
    status, report, _ = load(cont.free_port(), "-t", "100")
    assert status == 1
    assert report["error_connect"] == 1


@pytest.mark.parametrize("argv", [["-c", "0"], ["-c", "x"], ["-n", "-1"], ["-t", "1s"], ["-s", ""]])
def test_bad_arguments(argv):
    """A number that is none is refused."""
    done = subprocess.run([os.path.join(TOOLS, "load"), *argv, "1"], capture_output=True,
                          timeout=10, check=False)
    assert done.returncode == 2
    assert done.stdout == b""


def test_cpu_is_counted_to_the_process(started, tmp_path):
    """The CPU figure is that of the named process: it grows with its work, and only then."""
    port = cont.free_port()
    process = started(tmp_path, "origin", "-p", str(port), port=port)
    idle = process.cpu_ns()
    assert process.cpu_ns() - idle < 1_000_000
    load(port, "-c", "8", "-n", "20000", "-t", "20000")
    assert process.cpu_ns() - idle > 10_000_000


def bench(*argv):
    """The status and the output of a very short bench."""
    done = subprocess.run([sys.executable, os.path.join(HERE, "run.py"), "--build", BUILD,
                           "--rounds", "2", "--seconds", "0.1", "--sets", "bare", "--no-memory",
                           *argv],
                          capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def test_bench_prints_a_row():
    """A row a contender; what is not there is said to be skipped, and its target not measured."""
    status, said = bench("--only", "forwarder,attache", "--attache", "/nonexistent")
    assert status == 0
    assert "attache    skipped: not found" in said
    assert "attache below nginx, bare: not measured" in said
    assert len([line for line in said.splitlines() if line.startswith("  forwarder ")]) >= 2


def test_bench_fails_if_a_contender_does():
    """A proxy that does not start fails the bench, with its name."""
    status, said = bench("--only", "attache", "--attache", "/bin/false")
    assert status == 1
    assert "bench failed: attache" in said


def test_bench_fails_if_answers_are_wrong(started, tmp_path):
    """A wrong answer is not a figure."""
    up = origin(started, tmp_path, "-w", "body", "-e", "100")
    args = argparse.Namespace(body=BODY)
    with pytest.raises(cont.BenchError, match="wrong answers"):
        run.load(args, TOOLS, up, 0, connections=1, seconds=5, requests=200)


def test_record_compares():
    """5 % more than the record is the limit; no record is a failure."""
    record = measure.Record(10000, {})
    assert measure.verdict(10500, record)[0] is False
    assert measure.verdict(10501, record)[0] is True
    assert measure.verdict(100, record)[0] is False
    assert measure.verdict(100, None)[0] is True


def test_record_is_kept(tmp_path):
    """A record is read back as it was written, and leaves the others of the file alone."""
    path = str(tmp_path / "record.json")
    assert measure.Record.read(path, "a") is None
    measure.Record(1, {"compiler": "x"}).write(path, "a")
    measure.Record(2, {"compiler": "y"}).write(path, "b")
    assert measure.Record.read(path, "a").instructions == 1
    assert measure.Record.read(path, "b").tools == {"compiler": "y"}
    assert measure.Record.read(path, "c") is None


def test_instruction_count_repeats():
    """The bare forwarder's count is the same in two measurements: the wake-ups are fixed."""
    row = next(r for r in cont.contenders(TOOLS, ATTACHE, "") if r.name == "forwarder")
    first, second = (measure.measure(row, TOOLS) for _ in range(2))
    assert first == pytest.approx(second, rel=0.01)
    assert 500 < first < 20000


def test_instructions_have_not_grown():
    """The proxy's instructions a request are at most 5 % above test/bench/instructions.json."""
    if not os.path.exists(ATTACHE):
        pytest.skip(f"no release build of the proxy at {ATTACHE}")
    row = next(r for r in cont.contenders(TOOLS, ATTACHE, "") if r.name == "attache")
    grown, text = measure.verdict(measure.measure(row, TOOLS),
                                  measure.Record.read(measure.RECORD, measure.KEY))
    assert not grown, text
