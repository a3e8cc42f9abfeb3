#!/usr/bin/env python3
"""Writes api-protos/official_table.c: the whole official v3 API as compact tables.

Names, numbers, types, maps, oneofs, the documented validation rules (PGV), what is sensitive, and a
class for each field (classes.py). Messages of our own in api-protos/ are added. Needs protoc and the
Python package xds-protos; its version is written into the file.
"""

import importlib.metadata
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

import classes
import official
from google.protobuf import descriptor_pb2, descriptor_pool

ROOT = pathlib.Path(__file__).resolve().parents[2]
LEFT_OUT = re.compile(
    r"^(envoy\.api\.|envoy\.annotations|udpa\.annotations|xds\.annotations|validate\."
    r"|google\.protobuf\.(?!(Any|Duration|Timestamp|Empty|FieldMask|Struct|Value|ListValue|NullValue"
    r"|(Double|Float|U?Int64|U?Int32|Bool|String|Bytes)Value)($|\.))|.*\.v2(alpha\d*)?\.|pb\.)"
)
I64_MIN, I64_MAX, U64_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1


def own_messages():
    """Messages of api-protos/ that the official API does not have, in the default pool."""
    proto_dir = ROOT / "api-protos"
    protos = sorted(str(p.relative_to(proto_dir)) for p in proto_dir.rglob("*.proto"))
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(
            ["protoc", f"-I{proto_dir}", f"--descriptor_set_out={out.name}", *protos], check=True
        )
        files = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(out.name).read_bytes())
    pool = official.complete_pool()
    result = []
    for f in files.file:
        try:
            pool.FindFileByName(f.name)
        except KeyError:
            result.append(pool.AddSerializedFile(f.SerializeToString()))
    return official.messages(result)


class Strings:
    """One pool of NUL-terminated strings; a string that ends another one shares it."""

    def __init__(self):
        self.wanted = set()

    def want(self, text):
        self.wanted.add(text)

    def finish(self):
        self.offset, self.texts, position = {}, [], 0
        for text in sorted(self.wanted):
            self.offset[text] = position
            self.texts.append(text)
            position += len(text.encode()) + 1
        self.length = position


def duration_ns(d):
    return d.seconds * 1000000000 + d.nanos


def i64(value):
    """An integer, unsigned ones above the range as their bit pattern."""
    return value - (1 << 64) if value > I64_MAX else value


def bits(value):
    return struct.unpack("<q", struct.pack("<d", value))[0]


class Rules:
    """Lists of (op, value), ended by END; equal lists are shared."""

    def __init__(self, strings):
        self.rows, self.lists, self.strings = [], {}, strings

    def add(self, ops):
        if not ops:
            return 0
        key = tuple(ops)
        if key not in self.lists:
            self.lists[key] = len(self.rows)
            self.rows += [*key, ("END", 0)]
        return self.lists[key]

    def text(self, text):
        self.strings.want(text)
        return text

    def numeric(self, rules, convert):
        ops = []
        for name in ("const", "lt", "lte", "gt", "gte"):
            if rules.HasField(name):
                ops.append((name.upper(), convert(getattr(rules, name))))
        for name, op in (("in", "IN"), ("not_in", "NOT_IN")):
            ops += [(op, convert(v)) for v in getattr(rules, name)]
        return ops

    def string(self, rules):
        ops = []
        for name in ("len", "min_len", "max_len", "len_bytes", "min_bytes", "max_bytes"):
            if rules.HasField(name):
                ops.append((name.upper(), getattr(rules, name)))
        for name in ("const", "pattern", "prefix", "suffix", "contains", "not_contains"):
            if rules.HasField(name):
                op = "STR_CONST" if name == "const" else name.upper()
                ops.append((op, self.text(getattr(rules, name))))
        for name, op in (("in", "STR_IN"), ("not_in", "STR_NOT_IN")):
            ops += [(op, self.text(v)) for v in getattr(rules, name)]
        which = rules.WhichOneof("well_known")
        if which == "well_known_regex":
            name = {1: "HEADER_NAME", 2: "HEADER_VALUE"}[rules.well_known_regex]
            ops.append((name, int(rules.strict)))
        elif which:
            ops.append((which.upper(), 0))
        if rules.ignore_empty:
            ops.insert(0, ("IGNORE_EMPTY", 0))
        return ops

    def bytes_(self, rules):
        ops = []
        for name in ("len", "min_len", "max_len"):
            if rules.HasField(name):
                op = {"len": "LEN_BYTES", "min_len": "MIN_BYTES", "max_len": "MAX_BYTES"}[name]
                ops.append((op, getattr(rules, name)))
        unknown = {f.name for f, _ in rules.ListFields()} - {"len", "min_len", "max_len"}
        if unknown:
            sys.exit(f"gen_table: bytes rules not known: {unknown}")
        return ops

    def repeated(self, rules):
        ops = []
        for name in ("min_items", "max_items"):
            if rules.HasField(name):
                ops.append((name.upper(), getattr(rules, name)))
        if rules.unique:
            ops.append(("UNIQUE", 0))
        if rules.HasField("items"):
            inner = self.field(rules.items)
            if inner:
                ops.append(("ITEMS", self.add(inner)))
        if rules.ignore_empty:
            ops.insert(0, ("IGNORE_EMPTY", 0))
        return ops

    def map_(self, rules):
        ops = []
        for name in ("min_pairs", "max_pairs"):
            if rules.HasField(name):
                ops.append((name.upper().replace("PAIRS", "ITEMS"), getattr(rules, name)))
        for name in ("keys", "values"):
            if rules.HasField(name):
                inner = self.field(getattr(rules, name))
                if inner:
                    ops.append((name.upper(), self.add(inner)))
        if rules.ignore_empty:
            ops.insert(0, ("IGNORE_EMPTY", 0))
        return ops

    def field(self, rules):
        """The ops of one validate.FieldRules."""
        ops = []
        if rules.HasField("message"):
            if rules.message.skip:
                ops.append(("SKIP", 0))
            if rules.message.required:
                ops.append(("REQUIRED", 0))
        kind = rules.WhichOneof("type")
        if kind is None:
            return ops
        inner = getattr(rules, kind)
        if kind == "string":
            return ops + self.string(inner)
        if kind == "bytes":
            return ops + self.bytes_(inner)
        if kind == "repeated":
            return ops + self.repeated(inner)
        if kind == "map":
            return ops + self.map_(inner)
        if kind == "bool":
            return ops + ([("CONST", int(inner.const))] if inner.HasField("const") else [])
        if kind == "enum":
            if inner.HasField("const"):
                ops.append(("CONST", inner.const))
            if inner.defined_only:
                ops.append(("DEFINED_ONLY", 0))
            ops += [("IN", v) for v in getattr(inner, "in")]
            return ops + [("NOT_IN", v) for v in inner.not_in]
        if kind == "any":
            if inner.required:
                ops.append(("REQUIRED", 0))
            ops += [("ANY_IN", self.text(v)) for v in getattr(inner, "in")]
            return ops + [("ANY_NOT_IN", self.text(v)) for v in inner.not_in]
        if kind == "duration":
            if inner.required:
                ops.append(("REQUIRED", 0))
            return ops + self.numeric(inner, duration_ns)
        if kind == "timestamp":
            if inner.required:
                ops.append(("REQUIRED", 0))
            left = {f.name for f, _ in inner.ListFields()} - {"required"}
            if left:
                sys.exit(f"gen_table: timestamp rules not known: {left}")
            return ops
        if kind in ("double", "float"):
            return ops + self.numeric(inner, bits)
        if inner.DESCRIPTOR.fields_by_name.get("ignore_empty") and inner.ignore_empty:
            ops.append(("IGNORE_EMPTY", 0))
        return ops + self.numeric(inner, i64)


def extension(name):
    return descriptor_pool.Default().FindExtensionByName(name)


def camel(name):
    """The official rule for JSON names."""
    return re.sub(r"_([a-z0-9])", lambda m: m.group(1).upper(), name)


def collect(roots):
    """The messages to write, map entries and everything their fields need included."""
    found, todo = {}, list(roots)
    while todo:
        message = todo.pop()
        if message.full_name in found or LEFT_OUT.match(message.full_name):
            continue
        found[message.full_name] = message
        for field in message.fields:
            if field.message_type is not None:
                todo.append(field.message_type)
    # a field of a type that was left out is left out with it
    return [found[name] for name in sorted(found)]


def left_out(field):
    target = field.message_type or field.enum_type
    if official.is_map(field):
        target = field.message_type.fields_by_name["value"].message_type or target
    return target is not None and LEFT_OUT.match(target.full_name)


def wkt_kind(name):
    if not name.startswith("google.protobuf."):
        return {"xds.type.v3.TypedStruct": "TYPED_STRUCT",
                "udpa.type.v1.TypedStruct": "TYPED_STRUCT"}.get(name, "NONE")
    short = name.rsplit(".", 1)[1]
    special = {"Any": "ANY", "Duration": "DURATION", "Timestamp": "TIMESTAMP", "Struct": "STRUCT",
               "Value": "VALUE", "ListValue": "LIST", "FieldMask": "FIELD_MASK", "Empty": "NONE"}
    if short in special:
        return special[short]
    return "WRAPPER" if short.endswith("Value") else "NONE"


class Table:
    def __init__(self):
        self.strings = Strings()
        self.rules = Rules(self.strings)
        self.rules.rows.append(("END", 0))
        files = official.load_complete()
        self.messages = collect(official.messages(files) + own_messages())
        self.index = {m.full_name: i for i, m in enumerate(self.messages)}
        self.enums = {}
        self.rule_ext = extension("validate.rules")
        self.sensitive_ext = extension("udpa.annotations.sensitive")
        self.required_ext = extension("validate.required")
        self.field_rows, self.message_rows, self.oneof_rows = [], [], []
        for message in self.messages:
            self.add_message(message)

    def enum_index(self, enum):
        self.strings.want(enum.full_name)
        for value in enum.values:
            self.strings.want(value.name)
        return self.enums.setdefault(enum.full_name, (len(self.enums), enum))[0]

    def add_message(self, message):
        self.strings.want(message.full_name)
        first, first_oneof, oneofs = len(self.field_rows), len(self.oneof_rows), {}
        for oneof in message.oneofs:
            if len(oneof.fields) == 1 and oneof.name == "_" + oneof.fields[0].name:
                continue
            self.strings.want(oneof.name)
            oneofs[oneof.name] = len(oneofs) + 1
            required = int(oneof.GetOptions().Extensions[self.required_ext])
            self.oneof_rows.append((oneof.name, required))
        for field in sorted(message.fields, key=lambda f: f.number):
            if not left_out(field):
                self.add_field(message, field, oneofs)
        entry = message.GetOptions().map_entry
        self.message_rows.append(
            (message.full_name, first, len(self.field_rows) - first, first_oneof, len(oneofs),
             "MAP_ENTRY" if entry else wkt_kind(message.full_name)))

    def add_field(self, message, field, oneofs):
        self.strings.want(field.name)
        if camel(field.name) != field.json_name:
            sys.exit(f"gen_table: {message.full_name}.{field.name}: JSON name {field.json_name}")
        target = 0
        if field.message_type is not None:
            target = self.index[field.message_type.full_name]
        elif field.enum_type is not None:
            target = self.enum_index(field.enum_type)
        options = field.GetOptions()
        flags = []
        if official.is_map(field):
            flags.append("M")
        elif official.is_repeated(field):
            flags.append("R")
        elif field.has_presence:
            flags.append("P")
        if options.Extensions[self.sensitive_ext]:
            flags.append("S")
        if options.deprecated:
            flags.append("D")
        if field.is_packed if hasattr(field, "is_packed") else False:
            flags.append("K")
        ops = self.rules.field(options.Extensions[self.rule_ext])
        oneof = field.containing_oneof
        kind = {"security": "Z", "matching": "X", "tls": "T", "other": "O"}[classes.classify(field)]
        self.field_rows.append(
            (field.number, field.name, field.type, kind, "".join(flags),
             oneofs.get(oneof.name, 0) if oneof is not None else 0, target, self.rules.add(ops)))


def rows(lines, per_line):
    """Joins short rows into lines of at most `per_line` columns."""
    out, line = [], ""
    for item in lines:
        if line and len(line) + len(item) + 1 > per_line:
            out.append(line)
            line = ""
        line += item
    return "\n".join(out + [line]) + "\n"


def c_string(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '\\0"'


def write(table, out):
    strings = table.strings
    strings.finish()
    at = strings.offset
    version = importlib.metadata.version("xds-protos")
    out(f"/* The official API as tables (xds-protos {version}). Written by tools/protos/gen_table.py;\n"
        " * the columns are explained in official.h. */\n"
        '#include "api-protos/official.h"\n\n')
    out("const char official_strings[] =\n" + rows(map(c_string, strings.texts), 130) + ";\n\n")
    out("const struct official_message official_messages[] = {\n"
        + rows((f"{{{at[n]},{f},{c},{o},{k},OFFICIAL_{w}}}," for n, f, c, o, k, w in
                table.message_rows), 130) + "};\n"
        f"const uint32_t official_num_messages = {len(table.message_rows)};\n\n")
    def flag_set(flags):
        return "|".join(flags) if flags else "0"
    out("enum { M = OFFICIAL_MAP, R = OFFICIAL_REPEATED, P = OFFICIAL_PRESENCE,\n"
        "    S = OFFICIAL_SENSITIVE, D = OFFICIAL_DEPRECATED, K = OFFICIAL_PACKED,\n"
        "    O = OFFICIAL_OTHER, Z = OFFICIAL_SECURITY, X = OFFICIAL_MATCHING, T = OFFICIAL_TLS };\n")
    out("const struct official_field official_fields[] = {\n"
        + rows((f"{{{at[n]},{num},{t},{r},{k},{c},{o},{flag_set(f)}}},"
                for num, n, k, c, f, o, t, r in table.field_rows), 130) + "};\n"
        f"const uint32_t official_num_fields = {len(table.field_rows)};\n\n")
    out("const struct official_oneof official_oneofs[] = {\n"
        + rows((f"{{{at[n]},{r}}}," for n, r in table.oneof_rows), 130) + "};\n\n")
    values, enums = [], []
    for name, (_, enum) in table.enums.items():
        enums.append(f"{{{at[name]},{len(values)},{len(enum.values)}}},")
        values += [f"{{{at[v.name]},{v.number}}}," for v in enum.values]
    out("const struct official_enum official_enums[] = {\n" + rows(enums, 130) + "};\n"
        f"const uint32_t official_num_enums = {len(enums)};\n\n")
    out("const struct official_value official_values[] = {\n" + rows(values, 130) + "};\n\n")
    def value(v):
        if isinstance(v, str):
            return str(at[v])
        return "INT64_MIN" if v == I64_MIN else f"{v}"
    out("const struct official_rule official_rules[] = {\n"
        + rows((f"{{RULE_{op},{value(v)}}}," for op, v in table.rules.rows), 130) + "};\n"
        f"const uint32_t official_num_rules = {len(table.rules.rows)};\n")


def main():
    table = Table()
    for row in table.field_rows:
        if row[0] > 0xFFFF or row[6] > 0xFFFF or row[7] > 0xFFFF:
            sys.exit(f"gen_table: a column is too narrow for {row}")
    if set(classes.DECIDED) - classes.used:
        sys.exit(f"classes.txt: no such field: {sorted(set(classes.DECIDED) - classes.used)}")
    parts = []
    write(table, parts.append)
    target = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "api-protos/official_table.c"
    target.write_text("".join(parts))
    print(f"{len(table.message_rows)} messages, {len(table.field_rows)} fields, "
          f"{len(table.enums)} enums, {len(table.rules.rows)} rules, "
          f"{table.strings.length} bytes of names")


if __name__ == "__main__":
    main()
