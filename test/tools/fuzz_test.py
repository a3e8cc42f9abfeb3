"""tools/fuzz: a target fails by a crash, an empty corpus, too little coverage, or a missing declaration."""
import os
import subprocess

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))

PARSER = """
#include <stddef.h>
int parse(const unsigned char *p, size_t len)
{
    if (len < 2)
        return 0;
    if (p[0] == 'a') {
        if (p[1] == 'b') {
            volatile int sum = 0;
            for (size_t i = 0; i < len; i++)
                sum += p[i];
            return sum;
        }
        return 2;
    }
    return 1;
}
"""
TARGET = """
// covers: base/parse.c
#include <stddef.h>
#include <stdint.h>
int parse(const unsigned char *p, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
    if (parse(p, len) == 'a' + 'b' + 'X' && CRASH)
        __builtin_trap();
    return 0;
}
"""


@pytest.fixture(name="tree")
def make_tree(tmp_path):
    """Returns a function that lays out and builds one target with this corpus."""
    def build(corpus, target=TARGET, crash=0):
        for folder in ("base", "test/fuzz/corpus/parse", "build/fuzz"):
            (tmp_path / folder).mkdir(parents=True)
        (tmp_path / "base/parse.c").write_text(PARSER)
        (tmp_path / "test/fuzz/parse_fuzz.c").write_text(target)
        for number, data in enumerate(corpus):
            (tmp_path / f"test/fuzz/corpus/parse/{number}").write_bytes(data)
        subprocess.run(["clang", "-g", f"-DCRASH={crash}", "-fsanitize=fuzzer,address", "-fprofile-instr-generate",
                        "-fcoverage-mapping", "-o", "build/fuzz/parse_fuzz", "base/parse.c",
                        "test/fuzz/parse_fuzz.c"], cwd=tmp_path, check=True)
        return tmp_path
    return build


def run_fuzz(root, *args):
    result = subprocess.run([os.path.join(ROOT, "tools/fuzz"), *args, "--root", str(root)],
                            capture_output=True, text=True, check=False)
    return result.returncode, result.stdout


def test_full_corpus_passes(tree):
    code, text = run_fuzz(tree([b"", b"ac", b"abX", b"zz"]), "replay")
    assert code == 0, text
    assert "base/parse.c 100 %" in text and text.endswith("1 passed, 0 failed\n")


def test_thin_corpus_fails(tree):
    code, text = run_fuzz(tree([b"z"]), "replay")
    assert code == 1
    assert "less than 80 % of the lines of base/parse.c" in text and text.endswith("0 passed, 1 failed\n")


def test_empty_corpus_fails(tree):
    code, text = run_fuzz(tree([]), "replay")
    assert code == 1 and "is empty" in text


def test_target_must_say_what_it_covers(tree):
    code, text = run_fuzz(tree([b"abX"], target=TARGET.replace("covers:", "about")), "replay")
    assert code == 1 and "no `covers:` line" in text


def test_covered_source_must_be_linked(tree):
    code, text = run_fuzz(tree([b"abX"], target=TARGET.replace("base/parse.c", "base/other.c")), "replay")
    assert code == 1 and "base/other.c" in text


def test_crash_in_the_corpus_fails(tree):
    code, text = run_fuzz(tree([b"", b"ac", b"abX", b"zz"], crash=1), "replay")
    assert code == 1 and "deadly signal" in text


def test_run_finds_the_crash(tree):
    root = tree([b"abW"], crash=1)
    code, text = run_fuzz(root, "run", "--seconds", "30")
    assert code == 1, text
    assert list((root / "build/fuzz/found").glob("parse-crash-*"))


def test_run_without_a_crash_passes(tree):
    code, text = run_fuzz(tree([b"", b"ac", b"abX", b"zz"]), "run", "--seconds", "1")
    assert code == 0, text


def test_unbuilt_target_fails(tree):
    root = tree([b"abX"])
    os.remove(root / "build/fuzz/parse_fuzz")
    code, text = run_fuzz(root, "replay")
    assert code == 1 and "not built" in text


def test_no_target_is_a_failure(tmp_path):
    assert run_fuzz(tmp_path, "replay")[0] == 1
