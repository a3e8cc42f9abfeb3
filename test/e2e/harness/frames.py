"""HTTP/2 frames made by hand, and a connection that sends whatever it is told to."""

import socket

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = \
    range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, PROTOCOL_ERROR, STREAM_CLOSED, CALM = 0, 1, 5, 11


def frame(kind, flags=0, stream=0, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + \
        payload


def block(*more, method="GET", path="/", authority="h", scheme="http", fields=None):
    """block is the header block of a request, without a table to be kept in step."""
    head = [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority)]
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    return encoder.encode((fields if fields is not None else head) + list(more))


class Raw:
    """A connection of frames made by hand."""

    def __init__(self, port, settings=b"", receive=None):
        self.sock = socket.socket()
        if receive:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.sock.settimeout(20)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.cut = False
        self.buffer = b""
        self.decoder = hpack.Decoder()
        self.send(PREFACE + frame(SETTINGS, payload=settings) + frame(SETTINGS, ACK))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        """send sends what the other side takes; it may have gone meanwhile."""
        try:
            self.sock.sendall(data)
        except (ConnectionError, TimeoutError):
            self.cut = True

    def request(self, stream=1, *more, end=True, **how):
        self.send(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream,
                        block(*more, **how)))

    def next(self, timeout=20):
        """next is the next frame (kind, flags, stream, payload), or None at the end."""
        self.sock.settimeout(timeout)
        while True:
            if len(self.buffer) >= 9:
                length = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) >= 9 + length:
                    head, payload = self.buffer[:9], self.buffer[9:9 + length]
                    self.buffer = self.buffer[9 + length:]
                    stream = int.from_bytes(head[5:9], "big")
                    return head[3], head[4], stream, payload
            try:
                data = self.sock.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self.buffer += data

    def frames(self, timeout=20):
        """frames are all up to the end of the connection."""
        got = []
        while (f := self.next(timeout)) is not None:
            got.append(f)
        return got

    def goaway(self):
        """goaway waits for the end of the connection; the code of its GOAWAY, None without."""
        codes = [int.from_bytes(f[3][4:8], "big") for f in self.frames() if f[0] == GOAWAY]
        return codes[-1] if codes else None

    def until(self, *kinds):
        """until waits for a frame of these kinds."""
        while (f := self.next()) is not None:
            if f[0] in kinds:
                return f
        return None
