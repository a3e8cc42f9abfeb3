"""HTTP/1.1 by hand, for both ends: exact bytes out, strict reading in."""

import socket


class Closed(Exception):
    """The peer closed before a message was complete; `got` is what had come."""

    def __init__(self, got=b""):
        super().__init__(f"closed after {got!r}")
        self.got = got


class Message:
    """A request or a response: `start` (the words of the first line), `headers` (name in lower
    case, value), `body`, `trailers`."""

    def __init__(self, start, headers, body=b"", trailers=()):
        self.start, self.headers, self.body, self.trailers = start, headers, body, list(trailers)

    def get(self, name, default=None):
        """get is the value of a header; several are joined with commas."""
        values = [v for n, v in self.headers if n == name.lower()]
        return ",".join(values) if values else default

    @property
    def status(self):
        return int(self.start[1])

    @property
    def method(self):
        return self.start[0]

    @property
    def target(self):
        return self.start[1]

    def __repr__(self):
        return f"<{' '.join(self.start)} {self.headers} {self.body[:80]!r}>"


class Reader:
    """Reads messages off a socket."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = bytearray()

    def _more(self):
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed(bytes(self.buffer))
        self.buffer += data

    def take(self, length):
        while len(self.buffer) < length:
            self._more()
        data = bytes(self.buffer[:length])
        del self.buffer[:length]
        return data

    def line(self):
        while b"\r\n" not in self.buffer:
            self._more()
        line = bytes(self.buffer[:self.buffer.index(b"\r\n")])
        del self.buffer[:len(line) + 2]
        return line

    def fields(self):
        headers = []
        while (line := self.line()):
            name, colon, value = line.partition(b":")
            assert colon and name and name == name.strip(), f"not a header: {line!r}"
            headers.append((name.decode("latin-1").lower(), value.strip().decode("latin-1")))
        return headers

    def head(self):
        start = self.line().decode("latin-1").split(" ", 2)
        return Message(start, self.fields())

    def chunks(self, message):
        while (size := int(self.line().split(b";")[0], 16)):
            message.body += self.take(size)
            assert self.take(2) == b"\r\n"
        message.trailers = self.fields()

    def rest(self):
        """rest is everything up to the end of the stream."""
        try:
            while True:
                self._more()
        except Closed as closed:
            self.buffer.clear()
            return closed.got

    def body(self, message, until_close=False):
        if "chunked" in (message.get("transfer-encoding") or "").lower():
            self.chunks(message)
        elif message.get("content-length") is not None:
            message.body = self.take(int(message.get("content-length")))
        elif until_close:
            message.body = self.rest()
        return message

    def request(self):
        return self.body(self.head())

    def response(self, method="GET"):
        """response reads a response, and the interim ones before it into `interim`."""
        interim = []
        while True:
            message = self.head()
            if 100 <= message.status < 200 and message.status != 101:
                interim.append(message)
                continue
            if method != "HEAD" and message.status not in (101, 204, 304):
                self.body(message, until_close=True)
            message.interim = interim
            return message


class Client:
    """A connection to the proxy."""

    def __init__(self, port, host="127.0.0.1", timeout=10, sock=None):
        self.sock = sock or socket.create_connection((host, port), timeout=timeout)
        self.sock.settimeout(timeout)
        self.reader = Reader(self.sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def ask(self, method="GET", target="/", headers=(), body=None, host="test"):
        """ask sends a request and returns the response."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in dict(headers).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))
        return self.reader.response(method)

    def response(self, method="GET"):
        return self.reader.response(method)

    def is_closed(self):
        """is_closed waits for the end of the stream and says whether nothing came before it."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True


def ask(port, target="/", method="GET", headers=(), body=None, host="test", timeout=10):
    """ask is one request on a connection of its own."""
    with Client(port, timeout=timeout) as client:
        return client.ask(method, target, {**dict(headers), "Connection": "close"}, body, host)
