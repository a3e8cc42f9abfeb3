"""Bodies that flow: what comes is passed on at once, who reads slowly holds back only itself."""

import socket
import threading
import time

import pytest

from controlplane import mesh
from harness.http1 import Client, Reader, ask
from harness.http2 import Client as Client2
from harness.proxy import cluster, http_listener, static
from harness.upstream import response

WATERMARK = 32768


class Steps:
    """An upstream that sends a piece only when the test says so."""

    def __init__(self, head, chunked=True):
        self.head, self.chunked = head, chunked
        self.go = threading.Semaphore(0)
        self.pieces = []
        self.request = None

    def __call__(self, sock):
        self.request = Reader(sock).head()
        sock.sendall(self.head)
        while True:
            self.go.acquire()
            piece = self.pieces.pop(0)
            if piece is None:
                sock.sendall(b"0\r\n\r\n")
                return
            sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))

    def send(self, piece):
        self.pieces.append(piece)
        self.go.release()


EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def run(start, upstream, concurrency=1, hcm=None, **listener):
    return start(static([http_listener([mesh.route("up")], log="access.log", hcm=hcm, **listener)],
                        [cluster("up", upstream)]), concurrency=concurrency)


def test_events_pass_one_by_one(start, serve):
    """The next event is sent only when the one before has arrived."""
    steps = Steps(EVENTS)
    proxy = run(start, serve(handle=steps))
    with Client(proxy.port()) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.reader.head().status == 200
        for i in range(20):
            event = b"data: %d\n\n" % i
            steps.send(event)
            size = int(client.reader.line(), 16)
            assert client.reader.take(size + 2) == event + b"\r\n"
        steps.send(None)
        assert client.reader.line() == b"0"


def test_events_pass_one_by_one_to_http2(start, serve):
    steps = Steps(EVENTS)
    proxy = run(start, serve(handle=steps))
    with Client2(proxy.port()) as client:
        stream = client.request()
        client.until(lambda: client.answers[stream].status)
        got = b""
        for i in range(20):
            event = b"data: %d\n\n" % i
            got += event
            steps.send(event)
            client.until(lambda: bytes(client.answers[stream].body) == got)  # pylint: disable=W0640
        steps.send(None)
        client.until(lambda: client.answers[stream].ended)


def test_upload_passes_byte_by_byte(start, serve):
    """The next byte is sent only when the one before has reached the upstream."""
    arrived = threading.Semaphore(0)

    def handle(sock):
        reader = Reader(sock)
        reader.head()
        while True:
            size = int(reader.line(), 16)
            reader.take(size + 2)
            if size == 0:
                break
            arrived.release()
        sock.sendall(response(200, b"done"))
    proxy = run(start, serve(handle=handle))
    with Client(proxy.port()) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        for i in range(20):
            client.send(b"1\r\n%c\r\n" % (65 + i))
            assert arrived.acquire(timeout=10)
        client.send(b"0\r\n\r\n")
        assert client.response().body == b"done"


class Flood:
    """An upstream that sends as much as is taken, up to `total` bytes, and counts."""

    def __init__(self, total):
        self.total, self.sent = total, 0

    def __call__(self, sock):
        Reader(sock).head()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % self.total)
        block = b"x" * 16384
        while self.sent < self.total:
            self.sent += sock.send(block[:self.total - self.sent])


def test_a_reader_of_one_byte_a_second(start, serve):
    """It holds what its buffers hold, and nobody else waits for it."""
    flood = Flood(1 << 30)
    slow = serve(handle=flood)
    quick = serve()
    proxy = start(static(
        [http_listener([mesh.route("slow", prefix="/slow"), mesh.route("quick")])],
        [cluster("slow", slow), cluster("quick", quick)]), concurrency=1)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", proxy.port()))
    sock.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
    before = memory_kib(proxy)
    for _ in range(4):
        assert len(sock.recv(1)) == 1
        for _ in range(20):
            assert ask(proxy.port()).status == 200
        time.sleep(1)
    held, now = flood.sent, memory_kib(proxy)
    time.sleep(1)
    assert flood.sent == held, "the upstream is not held back"
    assert held < 16 << 20  # buffers of sockets on both legs, which the kernel chooses
    if not proxy.is_envoy:
        assert now - before < 2048  # the watermark twice, and what the quick ones left
    sock.close()


def memory_kib(proxy):
    with open(f"/proc/{proxy.process.pid}/status", encoding="ascii") as status:
        return int(status.read().split("VmRSS:")[1].split()[0])


@pytest.mark.parametrize("greedy_http2", [False, True])
def test_one_greedy_connection_and_many_small(start, serve, greedy_http2):
    """One worker: small requests are answered while a download takes all it can get."""
    total = 1 << 32
    flood = Flood(total)
    big, small = serve(handle=flood), serve()
    proxy = start(static(
        [http_listener([mesh.route("big", prefix="/big"), mesh.route("small")])],
        [cluster("big", big), cluster("small", small)]), concurrency=1)
    stop = threading.Event()
    taken = [0]

    def download():
        if greedy_http2:
            with Client2(proxy.port()) as client:
                client.request(path="/big")
                while not stop.is_set():
                    client.step(0.1)
                    taken[0] = flood.sent
            return
        with Client(proxy.port()) as client:
            client.send(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n")
            while not stop.is_set():
                taken[0] += len(client.sock.recv(1 << 20))
    thread = threading.Thread(target=download)
    thread.start()
    try:
        proxy.wait(lambda: taken[0] > 1 << 20, what="the download")
        slowest = 0
        for _ in range(50):
            begin = time.monotonic()
            assert ask(proxy.port()).status == 200
            slowest = max(slowest, time.monotonic() - begin)
        assert taken[0] < total, "it was over before"
        assert slowest < 5
    finally:
        stop.set()
        thread.join()


def test_early_response_during_an_upload(start, serve):
    """The client gets all of it, though its request is cut short; nothing of the rest is a request."""
    def handle(sock):
        reader = Reader(sock)
        reader.head()
        sock.sendall(response(413, b"too much"))
        while sock.recv(65536):
            pass
    proxy = run(start, serve(handle=handle))
    with Client(proxy.port()) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 1000)
        answer = client.response()
        assert (answer.status, answer.body) == (413, b"too much")
        client.send(b"GET /inside HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.is_closed()
    assert len(proxy.wait_log()) == 1


def test_bytes_after_a_response(start, serve):
    """They are nobody's response: the connection is not used again."""
    upstream = serve(lambda request: response(200, b"ok") + b"HTTP/1.1 200 OK\r\ncontent-length: 4"
                                                            b"\r\n\r\nevil")
    proxy = run(start, upstream)
    with Client(proxy.port()) as client:
        for _ in range(3):
            answer = client.ask()
            assert (answer.status, answer.body) == (200, b"ok")
    assert upstream.connections == 3
