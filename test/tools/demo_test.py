"""The demo's judgement: what it takes for TLS, and that a missed step is counted."""

import os
import socket
import struct
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools", "demo"))
import capture  # noqa: E402
import inside  # noqa: E402
import pods  # noqa: E402


def record(kind, payload, version=b"\x03\x03"):
    return bytes([kind]) + version + struct.pack("!H", len(payload)) + payload


@pytest.mark.parametrize("data,expected", [
    (record(22, b"hello", b"\x03\x01") + record(20, b"\x01") + record(23, b"x" * 16384), True),
    (record(23, b"a") + record(21, b"bb"), True),
    (record(23, b"a" * 100)[:50], True),  # the capture ended within a record
    (b"", False),
    (b"GET / HTTP/1.1\r\n\r\n", False),
    (record(22, b"hello") + b"GET / HTTP/1.1\r\n\r\n", False),
    (record(24, b"heartbeat"), False),
    (record(22, b"hello", b"\x02\x00"), False),
    (record(23, b"x" * 17000), False),
])
def test_what_is_tls(data, expected):
    assert capture.is_tls(data) == expected


def frame(payload, source="10.77.0.10", destination="10.77.0.21", ports=(1234, 8080), sequence=1):
    tcp = struct.pack("!HHIIBBHHH", *ports, sequence, 0, 5 << 4, 24, 100, 0, 0) + payload
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0,
                     socket.inet_aton(source), socket.inet_aton(destination))
    return b"\0" * 12 + b"\x08\x00" + ip + tcp


def test_flows_are_put_together():
    wire = capture.Capture([])
    wire._frame(frame(b"world", sequence=7))
    wire._frame(frame(b"hello ", sequence=1))
    wire._frame(frame(b"hello ", sequence=1))  # seen on both ends of the bridge
    wire._frame(frame(b"", sequence=12))
    wire._frame(frame(b"back", "10.77.0.21", "10.77.0.10", (8080, 1234)))
    wire._frame(frame(b"xds", destination="10.77.0.1", ports=(4, 15010)))
    wire._frame(b"\0" * 12 + b"\x86\xdd" + b"\0" * 60)  # IPv6
    wire._frame(frame(b"cut")[:30])
    assert wire.flows(without=("10.77.0.1",)) == {
        ("10.77.0.10", 1234, "10.77.0.21", 8080): b"hello world",
        ("10.77.0.21", 8080, "10.77.0.10", 1234): b"back"}


def test_missed_steps_are_counted(capsys):
    class Steps:
        def passes(self):
            """goes well"""
            return "this", "this", True

        def misses(self):
            """goes wrong"""
            return "this", "that", False

        def breaks(self):
            """cannot go on"""
            raise pods.DemoError("no answer")

        def all(self):
            return [("a", self.passes), ("b", self.misses), ("c", self.breaks)]
    assert inside.run_steps(Steps(), "") == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("(a)  ok") and lines[1].split()[-2:] == ["this", "this"]
    assert lines[2].startswith("(b)  MISSED") and "that" in lines[2]
    assert lines[3].startswith("(c)  MISSED") and lines[3].endswith("no answer")
    assert inside.run_steps(Steps(), "a") == 0


def test_what_counts_as_failed():
    records = [{"status": 200, "version": "v1"}, {"status": 503}, {"status": 0},
               {"status": 200, "version": "v2"}]
    assert pods.failed(records) == records[1:3]
    assert pods.share(records, "v1") == 0.25 and pods.share([], "v1") == 0
