#!/usr/bin/env python3
"""Writes api-protos/**/*.proto: the official messages, trimmed to the fields the proxy honours.

    trim.py                       writes the files again as they are (order, types, imports)
    trim.py add SPEC...           adds fields
    trim.py remove SPEC...        takes fields away

A SPEC is a full message name with its fields: `envoy.config.cluster.v3.Cluster:name,type`, or `:*` for
all that are not deprecated, or nothing for a message without fields. `@FILE` reads SPECs, one a line.
A message that an added field needs comes along empty: its fields must be added by name too.
docs/support.md is written along with the files.
Needs protoc and the Python package xds-protos: run it with tools/venv-python.
"""

import pathlib
import subprocess
import sys
import tempfile

import official
from google.protobuf import descriptor_pb2

ROOT = pathlib.Path(__file__).resolve().parents[2] / "api-protos"
SCALAR = {
    1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 6: "fixed64", 7: "fixed32",
    8: "bool", 9: "string", 12: "bytes", 13: "uint32", 15: "sfixed32", 16: "sfixed64",
    17: "sint32", 18: "sint64",
}


def current_selection():
    """{message full name: {field names}} of the files there are."""
    protos = sorted(str(p.relative_to(ROOT)) for p in ROOT.rglob("*.proto"))
    if not protos:
        return {}
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(
            ["protoc", f"-I{ROOT}", f"--descriptor_set_out={out.name}", *protos], check=True
        )
        files = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(out.name).read_bytes())
    selection = {}

    def visit(prefix, message):
        if message.options.map_entry:
            return
        name = f"{prefix}.{message.name}"
        selection[name] = {f.name for f in message.field}
        for nested in message.nested_type:
            visit(name, nested)

    for f in files.file:
        for message in f.message_type:
            visit(f.package, message)
    return selection


def apply_spec(selection, spec, remove):
    name, _, fields = spec.partition(":")
    try:
        message = official.complete_pool().FindMessageTypeByName(name.strip())
    except KeyError:
        sys.exit(f"trim: no official message {name.strip()}")
    chosen = selection.setdefault(message.full_name, set())
    for field in fields.replace(",", " ").split():
        if field == "*":
            names = {f.name for f in message.fields if not f.GetOptions().deprecated}
        elif field.startswith("-"):
            chosen.discard(field[1:])
            continue
        elif field in message.fields_by_name:
            names = {field}
        else:
            sys.exit(f"trim: {message.full_name} has no field {field}")
        chosen.difference_update(names) if remove else chosen.update(names)


def close_over(selection):
    """Adds the messages that chosen fields and nesting need, and the chosen enums' files."""
    todo = list(selection)
    enums = set()
    while todo:
        message = official.complete_pool().FindMessageTypeByName(todo.pop())
        needed = []
        if message.containing_type is not None:
            needed.append(message.containing_type)
        for name in selection[message.full_name]:
            field = message.fields_by_name[name]
            if official.is_map(field):
                field = field.message_type.fields_by_name["value"]
            if field.message_type is not None:
                needed.append(field.message_type)
            elif field.enum_type is not None:
                enums.add(field.enum_type.full_name)
                if field.enum_type.containing_type is not None:
                    needed.append(field.enum_type.containing_type)
        for m in needed:
            if m.full_name not in selection:
                selection[m.full_name] = set()
                todo.append(m.full_name)
    return enums


def type_name(field):
    if field.message_type is not None:
        return "." + field.message_type.full_name
    if field.enum_type is not None:
        return "." + field.enum_type.full_name
    return SCALAR[field.type]


def relative(name, package):
    """A type name as short as it reads without doubt."""
    prefix = f".{package}."
    return name[len(prefix):] if name.startswith(prefix) else name


def field_line(field, package, indent):
    if official.is_map(field):
        key, value = (field.message_type.fields_by_name[n] for n in ("key", "value"))
        kind = f"map<{type_name(key)}, {relative(type_name(value), package)}>"
    else:
        kind = relative(type_name(field), package)
        if official.is_repeated(field):
            kind = "repeated " + kind
        elif is_optional(field):
            kind = "optional " + kind
    return f"{indent}{kind} {field.name} = {field.number};\n"


def is_optional(field):
    oneof = field.containing_oneof
    return oneof is not None and len(oneof.fields) == 1 and oneof.name == "_" + field.name


def write_enum(enum, indent):
    out = f"{indent}enum {enum.name} {{\n"
    numbers = [v.number for v in enum.values]
    if len(set(numbers)) != len(numbers):
        out += f"{indent}  option allow_alias = true;\n"
    for value in enum.values:
        out += f"{indent}  {value.name} = {value.number};\n"
    return out + f"{indent}}}\n"


def write_message(message, selection, enums, indent=""):
    package = message.file.package
    chosen = selection[message.full_name]
    inner = indent + "  "
    parts = []
    for enum in message.enum_types:
        if enum.full_name in enums:
            parts.append(write_enum(enum, inner))
    for nested in message.nested_types:
        if nested.full_name in selection and not nested.GetOptions().map_entry:
            parts.append(write_message(nested, selection, enums, inner))
    body = ""
    done = set()
    for field in message.fields:
        if field.name not in chosen or field.name in done:
            continue
        oneof = field.containing_oneof
        if oneof is None or is_optional(field):
            body += field_line(field, package, inner)
            continue
        body += f"{inner}oneof {oneof.name} {{\n"
        for member in oneof.fields:
            if member.name in chosen:
                body += field_line(member, package, inner + "  ")
                done.add(member.name)
        body += f"{inner}}}\n"
    if body:
        parts.append(body)
    if not parts:
        return f"{indent}message {message.name} {{}}\n"
    return f"{indent}message {message.name} {{\n" + "\n".join(parts) + f"{indent}}}\n"


def imports(file, selection):
    needed = set()
    for name in selection:
        message = official.complete_pool().FindMessageTypeByName(name)
        if message.file.name != file.name:
            continue
        for field_name in selection[name]:
            field = message.fields_by_name[field_name]
            if official.is_map(field):
                field = field.message_type.fields_by_name["value"]
            target = field.message_type or field.enum_type
            if target is not None and target.file.name != file.name:
                needed.add(target.file.name)
    return sorted(needed)


def write_file(file, selection, enums):
    parts = []
    for enum in file.enum_types_by_name.values():
        if enum.full_name in enums:
            parts.append(write_enum(enum, ""))
    for message in file.message_types_by_name.values():
        if message.full_name in selection:
            parts.append(write_message(message, selection, enums))
    if not parts:
        return
    head = "// Fields honoured here, official numbers and types. Written by tools/protos/trim.py.\n"
    head += f'syntax = "proto3";\n\npackage {file.package};\n\n'
    lines = "".join(f'import "{name}";\n' for name in imports(file, selection))
    path = ROOT / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + (lines + "\n" if lines else "") + "\n".join(parts))


def specs(args):
    for arg in args:
        if not arg.startswith("@"):
            yield arg
            continue
        for line in pathlib.Path(arg[1:]).read_text().splitlines():
            line = line.split("#")[0].strip()
            if line:
                yield line


def main():
    files = official.load_complete()
    selection = current_selection()
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb not in ("", "add", "remove"):
        sys.exit(__doc__)
    for spec in specs(sys.argv[2:]):
        apply_spec(selection, spec, verb == "remove")
    enums = close_over(selection)
    for f in files:
        write_file(f, selection, enums)
    subprocess.run([sys.executable, pathlib.Path(__file__).with_name("support.py")], check=True)


if __name__ == "__main__":
    main()
