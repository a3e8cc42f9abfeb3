"""gunicorn's corpus of HTTP/1 requests, played through a proxy: what of it reaches the upstream?

Each file is played in four ways: as it is and with a Host where it is missing, and both with HTTP/1.0
accepted or not. The verdict is a short word: `pass` (all its requests reached the origin complete),
`part` (some of them), `cut` (a request was begun and not finished), a status (refused with it), `none`
(no answer, nothing forwarded), and `bad` (the origin could not read what came).
"""

import concurrent.futures
import os
import pathlib
import queue
import re
import socket
import time

import peers
from recorder import Recorder

VERSION = "27.0.1"
FOLDER = pathlib.Path(os.environ.get("ATTACHE_H1_CORPUS", peers.DEPS / f"gunicorn-{VERSION}"))
WAYS = ("as is", "Host", "1.0", "1.0 Host")
LANES = 12
QUIET_S = 0.8    # an incomplete request is waited for so long
ANSWER_S = 20    # a complete one so long


class File:
    """One file of the corpus: `name` is folder/stem, `data` its bytes, `number` the requests that
    gunicorn reads from it."""

    def __init__(self, path):
        self.name = f"{path.parent.name}/{path.stem}"
        data = path.read_bytes().replace(b"\n", b"").replace(b"\\r\\n", b"\r\n")
        data = data.replace(b"\\0", b"\0").replace(b"\\n", b"\n").replace(b"\\t", b"\t")
        self.data = re.sub(rb"\\x([0-9A-Fa-f]{2})", lambda m: bytes([int(m.group(1), 16)]), data)
        self.script = path.with_suffix(".py").read_text(encoding="utf-8")
        self.number = max(1, len(re.findall(r"^req\d+ = ", self.script, re.M)))
        self.is_valid = path.parent.name == "valid"

    def bytes(self, way):
        """bytes are what is sent: with a Host after each request line of HTTP whose head has none."""
        if "Host" not in way:
            return self.data
        out, rest = b"", self.data
        while True:
            line = re.search(rb"(?:^|\r\n)[^\r\n]+ HTTP/[0-9.]+\r\n", rest)
            if not line:
                return out + rest
            head, end, _ = rest[line.end():].partition(b"\r\n\r\n")
            has_host = re.search(rb"(?:^|\r\n|\n)host[ \t]*:", head, re.I)
            out += rest[:line.end()] + (b"" if has_host else b"Host: corpus.test\r\n")
            # a body is none of our business
            length = re.search(rb"(?:^|\n)content-length: ([0-9]+)\r\n", head + b"\r\n", re.I)
            size = len(head + end) + int(length.group(1)) if length else 0
            out, rest = out + rest[line.end():line.end() + size], rest[line.end() + size:]

    def versions(self, way):
        """versions are those of the request lines, in order."""
        found = re.findall(rb"(?:^|\n)[^\r\n]* HTTP/([0-9.]+)\r\n", self.bytes(way))
        return [version.decode() for version in found]

    def has_host(self, way):
        """has_host says whether the first head has a Host."""
        return bool(re.search(rb"\nhost:", self.bytes(way).lstrip().split(b"\r\n\r\n")[0], re.I))


def files():
    """files are all of the corpus, in order."""
    paths = sorted(FOLDER.glob("invalid/*.http")) + sorted(FOLDER.glob("valid/*.http"))
    return [File(path) for path in paths]


class Outcome:
    """What one play gave: `statuses` to the client and whether the proxy closed its connection;
    `requests` at the origin, `partial`, `problems`."""

    def __init__(self, number, statuses, closed_by_proxy, taken):
        self.number, self.statuses, self.closed_by_proxy = number, statuses, closed_by_proxy
        self.requests, self.partial, self.problems = taken

    @property
    def verdict(self):
        if self.problems:
            return "bad"
        if len(self.requests) > self.number:
            return "more"
        if self.requests:
            return "pass" if len(self.requests) == self.number and not self.partial else "part"
        if self.partial:
            return "cut"
        return str(self.statuses[-1]) if self.statuses else "none"

    def __repr__(self):
        return f"{self.verdict} {self.statuses} {self.requests} {self.problems}"


def play(port, origin, data, number):
    """play sends `data` on a connection of its own. It waits for as many answers as there are
    requests, less if nothing moves, and then ends the connection."""
    answers, closed = b"", False
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as sock:
        try:
            sock.sendall(data)
        except OSError:
            closed = True
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            # after the last answer only an end of the connection can come, or what should not
            sock.settimeout(QUIET_S / 4 if len(_statuses(answers)) >= number else QUIET_S)
            try:
                more = sock.recv(65536)
            except socket.timeout:
                # a request that the origin has and that is not answered yet is worth waiting for
                if len(_statuses(answers)) >= len(origin.requests):
                    break
                continue
            except OSError:
                more = b""
            if not more:
                closed = True
                break
            answers += more
    return Outcome(number, _statuses(answers), closed, origin.take())


def _statuses(answers):
    return [int(s) for s in re.findall(rb"HTTP/1\.[01] (\d{3})", answers) if s != b"100"]


def bootstrap(origins):
    """bootstrap has two listeners a lane, `lane-N` and `lane-N-10` which accepts HTTP/1.0."""
    listeners = []
    for i in range(len(origins)):
        for suffix, options in (("", {}), ("-10", {"accept_http_10": True,
                                             "default_host_for_http_10": "corpus.test"})):
            listeners.append(peers.http_listener(
                [{"match": {"safe_regex": {"regex": ".*"}}, "route": {"cluster": f"lane-{i}"}}],
                name=f"lane-{i}{suffix}", hcm={"http_protocol_options": options,
                                              "normalize_path": False}))
    clusters = [peers.cluster(f"lane-{i}", ("127.0.0.1", o.port)) for i, o in enumerate(origins)]
    return peers.static(listeners, clusters)


def start(name, folder, origins):
    """start runs a proxy for these origins: (what has stop(), [(port, port for HTTP/1.0)])."""
    if name in ("attache", "envoy"):
        proxy = peers.start(name, folder, bootstrap(origins))
        lanes = range(len(origins))
        return proxy, [(proxy.port(f"lane-{i}"), proxy.port(f"lane-{i}-10")) for i in lanes]
    ports = peers.free_ports(len(origins))
    pairs = [(port, origin.port) for port, origin in zip(ports, origins)]
    proxy = (peers.haproxy if name == "haproxy" else peers.nginx)(folder, pairs)
    return proxy, [(port, port) for port in ports]


def run(name, folder, corpus=None, ways=WAYS):
    """run plays the corpus through a proxy: {(file name, way): Outcome}."""
    origins = [Recorder() for _ in range(LANES)]
    proxy, ports = start(name, folder, origins)
    lanes = queue.Queue()
    for lane in zip(origins, ports):
        lanes.put(lane)

    def one(file, way):
        origin, (port, port_10) = lane = lanes.get()
        try:
            return play(port_10 if "1.0" in way else port, origin, file.bytes(way), file.number)
        finally:
            lanes.put(lane)

    try:
        with concurrent.futures.ThreadPoolExecutor(LANES) as pool:
            plays = {(file.name, way): pool.submit(one, file, way)
                     for file in corpus or files() for way in ways}
            return {key: future.result() for key, future in plays.items()}
    finally:
        proxy.stop()
        for origin in origins:
            origin.close()


if __name__ == "__main__":
    import sys
    import tempfile
    with tempfile.TemporaryDirectory() as top:
        table = {name: run(name, os.path.join(top, name)) for name in sys.argv[1:] or ["envoy"]}
        for entry in files():
            print(entry.name, *(f"{name}:" + "/".join(
                outcomes[entry.name, way].verdict for way in WAYS) for name, outcomes in table.items()))
