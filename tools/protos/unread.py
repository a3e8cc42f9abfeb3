#!/usr/bin/env python3
"""Prints the listed fields whose names no source of xds, tls, cluster or proxy reads.

A listed field is a promise. This looks for `->name`, `.name` and the like, so it finds what is surely
not read; a name that several messages share may hide one that is not. The messages of the admin port
and of discovery requests are written, not read, and are left out. Run it with tools/venv-python.
"""

import pathlib
import re

import official
import trim

ROOT = pathlib.Path(__file__).resolve().parents[2]
LEFT_OUT = re.compile(r"^(google\.|envoy\.admin\.|envoy\.service\.|xds\.|udpa\.)")


def main():
    official.load_complete()
    text = ""
    for layer in ("xds", "tls", "cluster", "proxy"):
        for path in (ROOT / layer).rglob("*.[ch]"):
            text += path.read_text()
    read = set(re.findall(r"(?:->|\.)(?:n_)?([a-z][a-z0-9_]*)", text))
    cases = set(re.findall(r"__([A-Z0-9_]+)\b", text))
    count = 0
    for name, fields in sorted(trim.current_selection().items()):
        if LEFT_OUT.match(name):
            continue
        unread = sorted(f for f in fields if f not in read and f.upper() not in cases
                        and not any(c.endswith("_" + f.upper()) for c in cases))
        if unread:
            print(f"{name}: {' '.join(unread)}")
            count += len(unread)
    print(f"{count} fields")


if __name__ == "__main__":
    main()
