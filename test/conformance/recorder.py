"""An origin that records what a proxy forwards, byte by byte, and reads it strictly."""

import re
import socket
import threading

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


class Malformed(Exception):
    """What came is no HTTP/1.1 message."""


def _fields(lines):
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.match(name) or re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
            raise Malformed(f"field {line!r}")
        fields.append((name.lower().decode(), value.strip(b" \t").decode("latin-1")))
    return fields


def _chunked(data):
    """The body of a chunked message: (content, what follows), None if there is more to come."""
    content = b""
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            return None
        if not re.fullmatch(rb"[0-9A-Fa-f]+(;[^\x00-\x08\x0a-\x1f\x7f]*)?", line):
            raise Malformed(f"chunk {line!r}")
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        if len(data) < size + 2:
            return None
        if data[size:size + 2] != b"\r\n":
            raise Malformed("chunk without CRLF")
        content, data = content + data[:size], data[size + 2:]
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            return None
        if not line:
            return content, data
        _fields([line])


class Request:
    """One request that came whole."""

    def __init__(self, method, target, version, fields, body):
        self.method, self.target, self.version = method, target, version
        self.fields, self.body = fields, body

    def get(self, name):
        return [value for key, value in self.fields if key == name]

    def __repr__(self):
        return f"<{self.method} {self.target} {self.fields} {self.body[:60]!r}>"


def read_request(data):
    """read_request is the first request of `data` and what follows it; None if it is not complete.
    Raises Malformed."""
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    lines = head.split(b"\r\n")
    words = lines[0].split(b" ")
    if len(words) != 3 or not TOKEN.match(words[0]) or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Malformed(f"request line {lines[0]!r}")
    fields = _fields(lines[1:])
    request = Request(words[0].decode(), words[1].decode("latin-1"), words[2].decode(), fields, b"")
    codings = request.get("transfer-encoding")
    lengths = request.get("content-length")
    if codings:
        if codings != ["chunked"] or lengths:
            raise Malformed(f"framing {codings} {lengths}")
        found = _chunked(rest)
        if found is None:
            return None
        request.body, rest = found
    elif lengths:
        if len(lengths) != 1 or not lengths[0].isdigit():
            raise Malformed(f"length {lengths}")
        if len(rest) < int(lengths[0]):
            return None
        request.body, rest = rest[:int(lengths[0])], rest[int(lengths[0]):]
    return request, rest


class Recorder:
    """Accepts on a port of 127.0.0.1; `take()` gives what came since the last call."""

    def __init__(self, body=b"ok"):
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.sockets, self.requests, self.problems, self.partial = {}, [], [], False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.sockets[sock] = b""
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        data = b""
        try:
            while (more := sock.recv(65536)):
                data += more
                while data and (found := read_request(data)):
                    request, data = found
                    with self.lock:
                        self.requests.append(request)
                    # HEAD has no body; nobody here sends one that matters
                    sock.sendall(self.answer if request.method not in ("HEAD", "CONNECT")
                                 else b"HTTP/1.1 200 OK\r\n\r\n")
        except Malformed as problem:
            with self.lock:
                self.problems.append(str(problem))
        except OSError:
            pass
        finally:
            with self.lock:
                self.partial = self.partial or bool(data)
                self.sockets.pop(sock, None)
            sock.close()

    def take(self):
        """take closes what is open and returns (requests that were complete, whether one was begun
        and not finished, complaints about what came)."""
        while True:
            with self.lock:
                if not self.sockets:
                    taken = self.requests, self.partial, self.problems
                    self.requests, self.partial, self.problems = [], False, []
                    return taken
                sockets = list(self.sockets)
            for sock in sockets:  # also those that were accepted since the last look
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            threading.Event().wait(0.002)

    def close(self):
        self.listener.close()
        self.take()
