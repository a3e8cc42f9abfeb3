"""A DNS server inside of the test's process, over UDP and TCP, that can also lie."""

import collections
import socket
import struct
import threading

A, CNAME, AAAA = 1, 5, 28
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5


def encode_name(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"


def question(query):
    """question returns (name, type, the bytes of the question) of a query."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
        at += 1 + query[at]
    kind, = struct.unpack_from("!H", query, at + 1)
    return ".".join(labels).lower(), kind, query[12:at + 5]


def record(name, kind, ttl, data):
    return (encode_name(name) if name else b"\xc0\x0c") + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def message(query, records=(), code=NOERROR, truncated=False, ident=None):
    """message is an answer to a query."""
    flags = 0x8180 | code | (0x0200 if truncated else 0)
    ident = query[:2] if ident is None else struct.pack("!H", ident)
    return (ident + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + question(query)[2] +
            b"".join(records))


class DnsServer:
    """`zone` maps names to (ttl, [addresses]) or to a response code. `lie(query, tcp)`, where it is
    set, returns what goes back instead: bytes, a list of them, or None for silence. `asked` counts
    the questions by (name, type)."""

    def __init__(self, zone=None):
        self.zone = dict(zone or {})
        self.lie = None
        self.asked = collections.Counter()
        self.over_tcp = 0
        self.lock = threading.Lock()
        while True:  # the same port twice
            self.tcp = socket.create_server(("127.0.0.1", 0), backlog=64)
            self.port = self.tcp.getsockname()[1]
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            try:
                self.udp.bind(("127.0.0.1", self.port))
                break
            except OSError:
                self.udp.close()
                self.tcp.close()
        self.closing = False
        self.threads = [threading.Thread(target=t, daemon=True) for t in (self._udp, self._tcp)]
        for thread in self.threads:
            thread.start()

    def answer(self, query, tcp):
        name, kind, _ = question(query)
        with self.lock:
            self.asked[name, kind] += 1
            self.over_tcp += tcp
        if self.lie:
            told = self.lie(query, tcp)
            return [told] if isinstance(told, bytes) else told or []
        known = self.zone.get(name, NXDOMAIN)
        if isinstance(known, int):
            return [message(query, code=known)]
        ttl, addresses = known
        family = socket.AF_INET6 if kind == AAAA else socket.AF_INET
        records = [record(None, kind, ttl, socket.inet_pton(family, a)) for a in addresses
                   if (":" in a) == (kind == AAAA)]
        full = message(query, records if kind in (A, AAAA) else ())
        return [full if tcp or len(full) <= 512 else message(query, truncated=True)]

    def count(self, name):
        """count is how often a name was asked for, of whatever type."""
        with self.lock:
            return sum(n for (asked, _), n in self.asked.items() if asked == name)

    def _udp(self):
        while True:
            try:
                query, peer = self.udp.recvfrom(4096)
                if self.closing:
                    return
                for data in self.answer(query, False):
                    self.udp.sendto(data, peer)
            except (OSError, IndexError, struct.error):
                if self.closing:
                    return

    def _tcp(self):
        while True:
            try:
                sock, _ = self.tcp.accept()
            except OSError:
                return
            if self.closing:
                sock.close()
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        with sock:
            try:
                sock.settimeout(20)
                while (head := sock.recv(2, socket.MSG_WAITALL)):
                    query = sock.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL)
                    for data in self.answer(query, True):
                        sock.sendall(struct.pack("!H", len(data)) + data)
            except (OSError, IndexError, struct.error):
                pass

    def close(self):
        self.closing = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wake:
            wake.sendto(b"", ("127.0.0.1", self.port))
        try:
            self.tcp.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        for thread in self.threads:
            thread.join(10)
        self.udp.close()
        self.tcp.close()
