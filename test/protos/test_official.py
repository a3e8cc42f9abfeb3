"""api-protos against the official descriptors."""

import pathlib
import subprocess
import sys
import tempfile

import gen_table
import official
import support
import trim
from google.protobuf import descriptor_pb2

ROOT = pathlib.Path(__file__).resolve().parents[2]


def listed():
    """The file descriptors of api-protos/."""
    proto_dir = ROOT / "api-protos"
    protos = sorted(str(p.relative_to(proto_dir)) for p in proto_dir.rglob("*.proto"))
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(
            ["protoc", f"-I{proto_dir}", f"--descriptor_set_out={out.name}", *protos], check=True
        )
        return descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(out.name).read_bytes()).file


def enum_name(field):
    return field.type_name.lstrip(".")


def field_faults(name, mine, message):
    """What differs between a listed field and the official one."""
    theirs = message.fields_by_name.get(mine.name)
    if theirs is None:
        return [f"{name}.{mine.name}: not official"]
    container = descriptor_pb2.DescriptorProto()
    message.CopyToProto(container)
    want = next(f for f in container.field if f.name == mine.name)
    faults = []
    for what in ("number", "type", "label", "type_name", "proto3_optional", "json_name"):
        got, official_value = getattr(mine, what), getattr(want, what)
        if what == "json_name":
            got, official_value = got or gen_table.camel(mine.name), theirs.json_name
        if got != official_value:
            faults.append(f"{name}.{mine.name}: {what} is {got}, not {official_value}")
    return faults


def compare_message(prefix, mine, faults):
    name = f"{prefix}.{mine.name}"
    try:
        message = official.complete_pool().FindMessageTypeByName(name)
    except KeyError:
        faults.append(f"{name}: not official")
        return
    oneofs = [o.name for o in mine.oneof_decl]
    for field in mine.field:
        faults += field_faults(name, field, message)
        theirs = message.fields_by_name.get(field.name)
        if theirs is None:
            continue
        in_oneof = oneofs[field.oneof_index] if field.HasField("oneof_index") else None
        official_oneof = theirs.containing_oneof.name if theirs.containing_oneof else None
        if in_oneof != official_oneof:
            faults.append(f"{name}.{field.name}: oneof {in_oneof}, not {official_oneof}")
    if mine.options.map_entry != message.GetOptions().map_entry:
        faults.append(f"{name}: map entry")
    for enum in mine.enum_type:
        compare_enum(name, enum, faults)
    for nested in mine.nested_type:
        compare_message(name, nested, faults)


def compare_enum(prefix, mine, faults):
    """Enums are listed whole."""
    name = f"{prefix}.{mine.name}"
    theirs = official.complete_pool().FindEnumTypeByName(name)
    if [(v.name, v.number) for v in mine.value] != [(v.name, v.number) for v in theirs.values]:
        faults.append(f"{name}: values differ")


def test_listed_fields_are_official():
    faults, messages = [], 0
    for f in listed():
        theirs = official.complete_pool().FindFileByName(f.name)
        assert f.package == theirs.package and f.syntax == "proto3"
        for message in f.message_type:
            compare_message(f.package, message, faults)
            messages += 1
        for enum in f.enum_type:
            compare_enum(f.package, enum, faults)
    assert not faults, "\n".join(faults)
    assert messages > 100


def test_comparison_finds_faults():
    """The comparison above is not blind."""
    file = next(f for f in listed() if f.name.endswith("core/v3/address.proto"))
    message = next(m for m in file.message_type if m.name == "SocketAddress")
    for change in ({"number": 77}, {"type": 5}, {"label": 3}, {"name": "adress"}):
        wrong = descriptor_pb2.DescriptorProto()
        wrong.CopyFrom(message)
        for key, value in change.items():
            setattr(wrong.field[1], key, value)
        faults = []
        compare_message(file.package, wrong, faults)
        assert faults, change


def test_trim_writes_the_same_again(tmp_path):
    """The files are as trim.py writes them, so that adding a field changes nothing else."""
    selection = trim.current_selection()
    enums = trim.close_over(selection)
    before = {p: p.read_text() for p in trim.ROOT.rglob("*.proto")}
    old_root, trim.ROOT = trim.ROOT, tmp_path
    try:
        for f in official.load_complete():
            trim.write_file(f, selection, enums)
    finally:
        trim.ROOT = old_root
    for path, text in before.items():
        assert (tmp_path / path.relative_to(old_root)).read_text() == text, path


def test_table_is_current(tmp_path):
    """official_table.c is what gen_table.py writes today."""
    target = tmp_path / "official_table.c"
    subprocess.run(
        [sys.executable, ROOT / "tools/protos/gen_table.py", target], check=True, stdout=subprocess.DEVNULL
    )
    committed = (ROOT / "api-protos/official_table.c").read_text()
    assert target.read_text() == committed, "run `make protos-table` and commit the result"


def test_support_page_is_current():
    """docs/support.md says what the files and classes say."""
    committed = (ROOT / "docs/support.md").read_text()
    assert support.text() == committed, "run tools/protos/trim.py and commit the result"
