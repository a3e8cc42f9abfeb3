"""tools/test-report and tools/run-unit lose no failure."""
import os
import signal
import stat
import subprocess

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


def run_report(tmp_path, lines, *args):
    suites = tmp_path / "suites"
    suites.write_text("\n".join(lines) + "\n")
    result = subprocess.run([os.path.join(ROOT, "tools/test-report"), "--suites", suites,
                             "--logs", tmp_path / "logs", *args],
                            capture_output=True, text=True, check=False)
    return result.returncode, result.stdout.rstrip().split("\n")[-1], result.stdout


def test_sum_of_suites(tmp_path):
    code, last, _ = run_report(tmp_path, ["a 9 echo '3 passed, 0 failed'",
                                          "b 9 echo 'lint: 4 passed, 0 failed, 2 skipped'"])
    assert (code, last) == (0, "7 passed, 0 failed, 2 skipped")


@pytest.mark.parametrize("command,last,why", [
    ("echo '3 passed, 1 failed'; exit 1", "4 passed, 1 failed", ""),
    ("echo '3 passed, 1 failed'", "4 passed, 1 failed", "yet exit status 0"),
    ("echo '3 passed, 0 failed'; exit 1", "4 passed, 1 failed", "exit status 1"),
    ("echo '3 passed, 0 failed'; kill -9 $$", "4 passed, 1 failed", "exit status -9"),
    ("true", "1 passed, 1 failed", "printed no count"),
    ("echo '0 passed, 0 failed'", "1 passed, 1 failed", "counted nothing"),
    ("echo '0 passed, 0 failed, 5 skipped'", "1 passed, 1 failed, 5 skipped", "counted nothing"),
    ("echo '2 passed, 0 failed'; sleep 60", "3 passed, 1 failed", "time limit"),
    ("no-such-command", "1 passed, 1 failed", "printed no count"),
])
def test_bad_suite_fails_the_run(tmp_path, command, last, why):
    code, found, text = run_report(tmp_path, [f"bad 1 {command}", "good 9 echo '1 passed, 0 failed'"])
    assert (code, found) == (1, last)
    assert why in text


def test_hung_children_are_ended(tmp_path):
    code, last, _ = run_report(tmp_path, [f"bad 1 (sleep 3; touch {tmp_path}/alive) & wait"])
    assert (code, last) == (1, "0 passed, 1 failed")
    subprocess.run(["sleep", "3"], check=True)
    assert not (tmp_path / "alive").exists()


def test_hung_unit_test_is_ended_with_its_suite(tmp_path):
    """A unit test leads a process group of its own; the runner takes it along."""
    hung = tmp_path / "hung_test"
    hung.write_text(f"#!/bin/sh\nsleep 3\ntouch {tmp_path}/alive\n")
    hung.chmod(0o755)
    code, last, _ = run_report(tmp_path, [f"bad 1 {ROOT}/tools/run-unit {hung}"])
    assert (code, last) == (1, "0 passed, 1 failed")
    subprocess.run(["sleep", "3"], check=True)
    assert not (tmp_path / "alive").exists()


@pytest.mark.parametrize("signal_name", ["TERM", "INT"])
def test_nothing_is_left_behind_when_ended(tmp_path, signal_name):
    suites = tmp_path / "suites"
    suites.write_text(f"slow 60 sleep 3; touch {tmp_path}/alive\n")
    with subprocess.Popen([os.path.join(ROOT, "tools/test-report"), "--suites", suites, "--logs", tmp_path],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as proc:
        subprocess.run(["sleep", "1"], check=True)
        proc.send_signal(getattr(signal, "SIG" + signal_name))
        assert proc.wait(20) != 0
    subprocess.run(["sleep", "3"], check=True)
    assert not (tmp_path / "alive").exists()


@pytest.mark.parametrize("lines", [["a 9"], ["a x true"], ["a 9 true", "a 9 true"]])
def test_broken_list_is_refused(tmp_path, lines):
    assert run_report(tmp_path, lines)[0] != 0


def test_empty_list_is_a_failure(tmp_path):
    assert run_report(tmp_path, ["# nothing"])[0] == 1


def run_unit(tmp_path, *scripts):
    names = []
    for number, script in enumerate(scripts):
        path = tmp_path / f"t{number}_test"
        path.write_text("#!/bin/sh\n" + script + "\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        names.append(path)
    result = subprocess.run([os.path.join(ROOT, "tools/run-unit"), *names], capture_output=True, text=True,
                            check=False, env=dict(os.environ, UNIT_LIMIT="2"))
    return result.returncode, result.stdout.rstrip().split("\n")[-1]


GOOD = "echo '100%: Checks: 4, Failures: 0, Errors: 0'"


@pytest.mark.parametrize("script,last", [
    ("echo '75%: Checks: 4, Failures: 1, Errors: 0'; exit 1", "7 passed, 1 failed"),
    ("echo '50%: Checks: 4, Failures: 1, Errors: 1'; exit 1", "6 passed, 2 failed"),
    (GOOD + "; exit 23", "8 passed, 1 failed"),          # a leak found at exit
    ("exit 0", "4 passed, 1 failed"),                    # no result at all
    ("echo '100%: Checks: 0, Failures: 0, Errors: 0'", "4 passed, 1 failed"),
    ("kill -SEGV $$", "4 passed, 1 failed"),
    (GOOD + "; sleep 30", "8 passed, 1 failed"),
])
def test_bad_unit_test_is_counted(tmp_path, script, last):
    assert run_unit(tmp_path, GOOD, script) == (1, last)


def test_good_unit_tests(tmp_path):
    assert run_unit(tmp_path, GOOD, GOOD, GOOD) == (0, "12 passed, 0 failed")


def test_no_unit_test_is_a_failure(tmp_path):
    assert run_unit(tmp_path)[0] == 1
