#!/usr/bin/env python3
"""Writes docs/support.md: which official messages and fields are honoured, and what happens to the rest.

trim.py runs it. Needs the Python package xds-protos: run it with tools/venv-python.
"""

import pathlib

import classes
import official
import trim
from google.protobuf import descriptor_pool

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEAD = """# What is honoured

Written by tools/protos/support.py from api-protos/ and the official API (xds-protos). For each message:
the fields that are honoured; the fields with which a resource is refused, because ignoring them would
weaken security, match other traffic or change TLS; and the fields that are accepted with a warning
(`--strict-fields` refuses those too). A message that is not here is refused where a type is named by
URL. Fields that the official API does not know are treated as Envoy treats them
(`--allow-unknown-static-fields`, `--reject-unknown-dynamic-fields`).

Deprecated fields that are not honoured are left out of the lists; they are refused or warned about like
the others. An enum's value that is not implemented is refused by name.
"""
SKIP = ("google.", "xds.core.v3.ContextParams")


def required_choice(field):
    """A member of a oneof that must be set cannot be ignored, whatever its class."""
    oneof = field.containing_oneof
    if oneof is None:
        return False
    extension = descriptor_pool.Default().FindExtensionByName("validate.required")
    return oneof.GetOptions().Extensions[extension]


def describe(message, listed):
    rows = {"honoured": [], "refused": [], "ignored, with a warning": []}
    for field in sorted(message.fields, key=lambda f: f.number):
        if field.name in listed:
            rows["honoured"].append(field.name)
        elif field.GetOptions().deprecated:
            continue
        elif classes.classify(field) != "other" or required_choice(field):
            rows["refused"].append(field.name)
        else:
            rows["ignored, with a warning"].append(field.name)
    text = f"\n### {message.full_name}\n"
    for title, names in rows.items():
        if names:
            text += f"- {title}: " + ", ".join(f"`{n}`" for n in names) + "\n"
    return text if any(rows.values()) else text + "- no fields\n"


def text():
    official.load_complete()
    selection = trim.current_selection()
    package, out = None, HEAD
    for name in sorted(selection):
        if name.startswith(SKIP):
            continue
        message = official.complete_pool().FindMessageTypeByName(name)
        if message.file.package != package:
            package = message.file.package
            out += f"\n## {package}\n"
        out += describe(message, selection[name])
    return out


def main():
    (ROOT / "docs/support.md").write_text(text())


if __name__ == "__main__":
    main()
