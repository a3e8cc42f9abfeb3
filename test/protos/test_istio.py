"""Istio's own bootstraps and resources come through; what is refused is said here."""

import json

import pytest
from conftest import official
from google.protobuf import json_format, message_factory
from test_mapping import same

BOOTSTRAP = "envoy.config.bootstrap.v3.Bootstrap"
RESPONSE = "envoy.service.discovery.v3.DiscoveryResponse"


def message_class(name):
    return message_factory.GetMessageClass(official.pool().FindMessageTypeByName(name))


def only_unsupported(ok, answer):
    """Nothing is refused but fields that are not honoured (docs/support.md), each with its path."""
    if ok:
        return True
    errors = answer.decode().split("; ")
    print("\n".join(errors))
    return all(": not supported, and" in e for e in errors)


def test_bootstraps(tool, shared):
    files = sorted(shared.glob("bootstrap/*.json"))
    assert len(files) >= 12
    for path in files:
        text = path.read_text()
        data = tool.ok("from-json", BOOTSTRAP, text)
        assert only_unsupported(*tool.call("deep", BOOTSTRAP, data)), path.name
        # as the official parser reads it, which wants no trailing commas: what we print, it reads
        shown = tool.ok("to-json", BOOTSTRAP, data)
        again = json_format.Parse(shown, message_class(BOOTSTRAP)())
        assert same(again, message_class(BOOTSTRAP).FromString(data)), path.name
        try:
            theirs = json_format.Parse(text, message_class(BOOTSTRAP)())
        except json_format.ParseError:
            continue
        assert same(again, theirs), path.name


@pytest.mark.parametrize("kind", ["default", "rich"])
def test_resources(tool, shared, kind):
    files = sorted(shared.glob(f"xds/{kind}/*.pb"))
    assert len(files) == 4
    for path in files:
        data = path.read_bytes()
        assert only_unsupported(*tool.call("deep", RESPONSE, data)), path.name
        shown = json.loads(tool.ok("to-json", RESPONSE, data))
        want = message_class(RESPONSE).FromString(data)
        assert len(shown["resources"]) == len(want.resources)


def test_secrets_are_redacted(tool):
    text = json.dumps({"static_resources": {"secrets": [{
        "name": "s", "tls_certificate": {"certificate_chain": {"inline_string": "public"},
                                         "private_key": {"inline_string": "TOPSECRET"},
                                         "password": {"inline_bytes": "VE9QU0VDUkVU"}}}]}})
    data = tool.ok("from-json", BOOTSTRAP, text)
    shown = tool.ok("redact", BOOTSTRAP, data).decode()
    assert "TOPSECRET" not in shown and "VE9QU0VDUkVU" not in shown
    assert shown.count("[redacted]") == 1 and "W3JlZGFjdGVkXQ==" in shown and "public" in shown


def test_hostile_bytes(tool):
    def length(n):
        out = b""
        while n > 0x7F:
            out += bytes([n & 0x7F | 0x80])
            n >>= 7
        return out + bytes([n])

    value = b"\x1a\x01x"
    for _ in range(10000):
        value = b"\x0a" + length(len(value)) + value
        value = b"\x32" + length(len(value)) + value
    struct = b"\x0a\x01k\x12" + length(len(value)) + value
    struct = b"\x0a" + length(len(struct)) + struct
    assert "nested deeper than 100" in tool.refused("unpack", "google.protobuf.Struct", struct)
    cluster = "envoy.config.cluster.v3.Cluster"
    for data, path in [(b"\x08\x01", "name: wrong wire type"), (b"\x0b\x0c", "a group"),
                       (b"\x0a\x03a\0b", "name: a NUL byte"), (b"\x0a\x02\xc3\x28", "name: invalid UTF-8"),
                       (b"\x0a\x7fx", "beyond the end"), (b"\x0a\x01c\x22\x02\x08\x80", "connect_timeout: ")]:
        assert path in tool.refused("unpack", cluster, data)
