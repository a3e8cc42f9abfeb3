"""Every check of tools/lint can fail, and does not fail without a reason."""
import os
import subprocess

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))

GOOD_HEADER = """/* What this module is: an example. One user at a time. */
#pragma once

/* thing_make makes one; the caller owns it. */
struct thing *thing_make(int a,
                         int b);
void thing_free(struct thing *t);
"""

# check -> (file, what is wrong, the same put right)
CASES = {
    "file-length": ("a.c", "int a;\n" * 1001, "int a;\n" * 1000),
    "function-length": ("a.c", "void f(void)\n{\n" + "    g();\n" * 101 + "}\n",
                        "void f(void)\n{\n" + "    g();\n" * 100 + "}\n"),
    "banned-call": ("a.c", "int n = atoi(s);\n", "/* no atoi(s) here */\nconst char *s = \"atoi(1)\";\n"),
    "raw-alloc": ("base/a.c", "void *p = malloc(3);\n", "void *p = mem_alloc(3);\n"),
    "trailing-space": ("README.md", "text \n", "text\n"),
    "machine-path": ("a.txt", "see /" + "root/.cache/x\n", "see $HOME/.cache/x\n"),
    "include-guard": ("a.h", GOOD_HEADER.replace("#pragma once\n", ""), GOOD_HEADER),
    "header-opening": ("a.h", "#pragma once\n", GOOD_HEADER),
    "header-comment": ("a.h", GOOD_HEADER + "\nint other_thing(int a);\n",
                       GOOD_HEADER + "\n/* other_thing counts. */\nint other_thing(int a);\n"),
    "python-syntax": ("a.py", "def f(:\n", "def f():\n    pass\n"),
    "shell-syntax": ("a.sh", "if true; then\n", "if true; then :; fi\n"),
    "executable": ("tool", "#!/bin/sh\n:\n", ":\n"),
    "format": ("a.c", "int f(void) {\n  return 1;\n}\n", "int f(void)\n{\n    return 1;\n}\n"),
}


def run_lint(tmp_path, only, name, text):
    with open(os.path.join(ROOT, ".clang-format"), encoding="utf-8") as file:
        (tmp_path / ".clang-format").write_text(file.read())
    target = tmp_path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return subprocess.run([os.path.join(ROOT, "tools/lint"), "--only", only, "--root", str(tmp_path), name],
                          capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", sorted(CASES))
def test_check_can_fail(tmp_path, name):
    path, wrong, _ = CASES[name]
    result = run_lint(tmp_path, name, path, wrong)
    assert result.returncode == 1, result.stdout
    assert f"{path}:" in result.stdout and f": {name}: " in result.stdout
    assert result.stdout.endswith("0 passed, 1 failed\n")


@pytest.mark.parametrize("name", sorted(CASES))
def test_check_passes_what_is_right(tmp_path, name):
    path, _, right = CASES[name]
    result = run_lint(tmp_path, name, path, right)
    assert result.returncode == 0, result.stdout
    assert result.stdout.endswith("1 passed, 0 failed\n")


def test_every_check_has_a_case():
    result = subprocess.run([os.path.join(ROOT, "tools/lint"), "--only", "no-such-check"],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 2
    source = open(os.path.join(ROOT, "tools/lint"), encoding="utf-8").read()
    registered = {line.split('"')[1] for line in source.split("\n") if line.startswith('@check("')}
    assert registered | {"format"} == set(CASES)


def test_an_exemption_counts_only_for_its_check_and_file(tmp_path):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/lint-exempt").write_text("# reason\nbanned-call a.c\n")
    assert run_lint(tmp_path, "banned-call", "a.c", "int n = atoi(s);\n").returncode == 0
    assert run_lint(tmp_path, "banned-call", "b.c", "int n = atoi(s);\n").returncode == 1
    assert run_lint(tmp_path, "trailing-space", "a.c", "int n; \n").returncode == 1


@pytest.mark.parametrize("text", [
    "static int x;\nint f(int a);\n",                     # a line above is not a comment
    "/* about f */\n\nint f(int a);\n",                   # a blank line parts them
    "struct a *\nf(int a);\nint g(void);\n",              # the return type on a line of its own
])
def test_header_comment_must_be_in_the_paragraph(tmp_path, text):
    assert run_lint(tmp_path, "header-comment", "a.h", text).returncode == 1
