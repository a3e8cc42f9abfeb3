"""The JSON mapping and the unpacking against the official Python implementation."""

import json

import gen_table
import official
import pytest
import trim
from conftest import FILES
from google.protobuf import any_pb2, json_format, message_factory, struct_pb2
from random_message import Generator

ANY = "google.protobuf.Any"
SELECTION = trim.current_selection()


def known(field):
    return not gen_table.left_out(field)


def honoured(field):
    message = field.containing_type.full_name
    if field.containing_type.GetOptions().map_entry:
        return True
    return known(field) and field.name in SELECTION.get(message, ())


def all_messages():
    return [m for m in official.messages(FILES) if not gen_table.LEFT_OUT.match(m.full_name)]


def make(descriptor, seed, wanted, depth=4):
    message = message_factory.GetMessageClass(descriptor)()
    Generator(seed, official.pool(), wanted).fill(message, depth)
    return message


def in_any(message):
    box = any_pb2.Any()
    box.Pack(message, deterministic=True)
    return box


def same(a, b):
    """Equal, and equal inside Any, where the order of maps may differ."""
    return json_format.MessageToDict(a) == json_format.MessageToDict(b)


def differences(messages, check):
    """Runs check on each message; returns the names of those that failed, with why."""
    bad = []
    for descriptor in messages:
        for seed in range(3):
            try:
                check(descriptor, seed)
            except AssertionError as e:
                bad.append(f"{descriptor.full_name} #{seed}: {str(e)[:600]}")
                break
    return bad


def test_to_json_of_every_message(tool):
    """Bytes to JSON, read back by the official parser; also the same JSON value."""

    def check(descriptor, seed):
        message = make(descriptor, seed, known)
        text = tool.ok("to-json", ANY, in_any(message).SerializeToString())
        again = json_format.Parse(text, any_pb2.Any())
        inner = type(message)()
        assert again.Unpack(inner)
        assert same(inner, message)
        # the same names, forms and order
        mine = json.loads(text)
        theirs = json_format.MessageToDict(in_any(message), preserving_proto_field_name=True)
        assert mine == json.loads(json.dumps(theirs))

    bad = differences(all_messages(), check)
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("names", ["snake", "camel"])
def test_from_json_of_every_message(tool, names):
    """The official JSON to bytes, read back by the official parser."""

    def check(descriptor, seed):
        box = in_any(make(descriptor, seed + 100, known))
        text = json_format.MessageToJson(box, preserving_proto_field_name=names == "snake")
        assert any_pb2.Any.FromString(tool.ok("from-json", ANY, text)).type_url == box.type_url
        again = any_pb2.Any.FromString(tool.ok("from-json", ANY, text))
        assert same(again, box)

    bad = differences(all_messages(), check)
    assert not bad, "\n".join(bad)


def test_repack_of_every_listed_message(tool):
    """Bytes through the walk and protobuf-c and back: nothing lost, nothing added."""

    def check(descriptor, seed):
        message = make(descriptor, seed + 200, honoured)
        answer = tool.ok("repack", descriptor.full_name, message.SerializeToString())
        assert type(message).FromString(answer) == message

    bad = differences([m for m in all_messages() if m.full_name in SELECTION], check)
    assert not bad, "\n".join(bad)


def test_canonical(tool):
    """Canonical bytes mean the same, and do not depend on the order of maps."""

    def check(descriptor, seed):
        message = make(descriptor, seed + 300, honoured)
        plain = message.SerializeToString()
        canonical = tool.ok("canonical", descriptor.full_name, plain)
        assert same(type(message).FromString(canonical), message)
        ordered = message.SerializeToString(deterministic=True)
        assert tool.ok("canonical", descriptor.full_name, ordered) == canonical

    bad = differences([m for m in all_messages() if m.full_name in SELECTION], check)
    assert not bad, "\n".join(bad)


def test_truncated_and_flipped_bytes(tool):
    """Damaged bytes are refused or read, never more; what is accepted is what Python reads."""
    import random

    rng = random.Random(7)
    descriptor = official.pool().FindMessageTypeByName("envoy.config.listener.v3.Listener")
    agreed = 0
    for seed in range(60):
        message = make(descriptor, seed, honoured, 5)
        data = bytearray(message.SerializeToString())
        for _ in range(20):
            damaged = bytearray(data)
            if rng.random() < 0.3:
                damaged = damaged[: rng.randint(0, len(damaged))]
            elif damaged:
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            ok, answer = tool.call("repack", descriptor.full_name, bytes(damaged))
            if ok:
                theirs = type(message).FromString(bytes(damaged))
                assert type(message).FromString(answer) == theirs
                agreed += 1
            tool.call("unpack", descriptor.full_name, bytes(damaged))
            tool.call("to-json", descriptor.full_name, bytes(damaged))
    assert agreed > 50


YAML = """
# anchors, block and flow, scalars of all kinds
name: "c"
connect_timeout: 0.25s
type: EDS
lb_policy: 1
ignore_health_on_host_removal: yes
circuit_breakers:
  thresholds:
  - &t {priority: HIGH, max_connections: 0x10, retry_budget: {budget_percent: {value: 25.5}}}
  - *t
metadata:
  filter_metadata:
    a: {s: '1', i: 1, b: true, f: 0.5, n: ~, l: [x, {y: z}]}
"""


def test_yaml(tool):
    answer = tool.ok("from-yaml", "envoy.config.cluster.v3.Cluster", YAML)
    descriptor = official.pool().FindMessageTypeByName("envoy.config.cluster.v3.Cluster")
    cluster = message_factory.GetMessageClass(descriptor).FromString(answer)
    assert cluster.name == "c" and cluster.connect_timeout.nanos == 250000000
    assert cluster.type == 3 and cluster.lb_policy == 1 and cluster.ignore_health_on_host_removal
    thresholds = cluster.circuit_breakers.thresholds
    assert len(thresholds) == 2 and thresholds[0] == thresholds[1]
    assert thresholds[1].max_connections.value == 16
    assert thresholds[1].retry_budget.budget_percent.value == 25.5
    metadata = cluster.metadata.filter_metadata["a"]
    want = struct_pb2.Struct()
    want.update({"s": "1", "i": 1, "b": True, "f": "0.5", "n": None, "l": ["x", {"y": "z"}]})
    assert metadata == want


def test_json_refused_as_by_python(tool):
    """Texts that the official parser refuses are refused."""
    name = "envoy.config.cluster.v3.Cluster"
    descriptor = official.pool().FindMessageTypeByName(name)
    for text in ['{"name": 1}', '{"no_such": 1}', '{"type": "X"}', '{"connect_timeout": 1}',
                 '{"connect_timeout": "1"}', '{"filters": [null]}', "1", '"x"',
                 '{"type": "EDS", "cluster_type": {}}', '{"max_requests_per_connection": -1}',
                 '{"max_requests_per_connection": 1.5}', '{"track_timeout_budgets": "x"}',
                 '{"name": "a", "name": "b"}', '{"upstream_config": {"typed_config": {"@type": "a/b.C"}}}',
                 '{"metadata": {"filter_metadata": {"a": 1}}}', "{", ""]:
        with pytest.raises(json_format.ParseError):
            json_format.Parse(text, message_factory.GetMessageClass(descriptor)())
        tool.refused("from-json", name, text)
