"""Upstream servers inside of the test's process."""

import socket
import threading

from .http1 import Closed, Reader


def response(status=200, body=b"", headers=(), reason="Reason"):
    """response is the bytes of a response with a content-length."""
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in dict(headers).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Server:
    """A TCP server with a thread for each connection. `handle(sock)` is called with each; the
    socket is closed when it returns."""

    def __init__(self, handle, host="127.0.0.1", tls=None, port=0):
        self.handle = handle
        self.tls = tls
        self.listener = socket.create_server((host, port), backlog=256)
        self.host, self.port = self.listener.getsockname()[:2]
        self.connections = 0
        self.open = set()
        self.lock = threading.Lock()
        self.closing = False
        self.acceptor = threading.Thread(target=self._accept, daemon=True)
        self.acceptor.start()

    @property
    def endpoint(self):
        return self.host, self.port

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                self.open.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, raw):
        sock = raw
        try:
            sock.settimeout(60)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                sock = self.tls.wrap_socket(raw, server_side=True)
            self.handle(sock)
        except (OSError, Closed):
            pass
        finally:
            with self.lock:
                self.open.discard(raw)
            try:
                sock.close()
            except OSError:
                pass

    def drop_connections(self):
        """drop_connections closes every connection that is open."""
        with self.lock:
            for sock in self.open:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        # wake the thread first: it would accept for whoever gets the number of the descriptor next
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.acceptor.join(10)
        self.listener.close()
        self.drop_connections()


class HttpServer(Server):
    """An HTTP/1.1 server. `answer(request)` returns the bytes of the response; None closes the
    connection. It keeps connections alive and records `requests`."""

    def __init__(self, answer=None, name="upstream", **more):
        self.name = name
        self.answer = answer or (lambda request: response(body=self.name.encode()))
        self.requests = []
        super().__init__(self._handle, **more)

    def _handle(self, sock):
        reader = Reader(sock)
        while True:
            request = reader.request()
            request.peer = sock.getpeername()
            with self.lock:
                self.requests.append(request)
            data = self.answer(request)
            if data is None:
                return
            sock.sendall(data)


def echo(sock):
    """echo is a handle() that sends back what comes, up to the end of the stream."""
    while (data := sock.recv(65536)):
        sock.sendall(data)
