"""A stand-in for Redis where none is installed: SET, GET, PING and STRLEN in its protocol.

    kv.py server PORT
    kv.py client HOST PORT COMMAND [ARGUMENT]...        ("-" as the last argument: standard input)
"""

import socket
import socketserver
import sys


def read_reply(stream):
    line = stream.readline()
    if not line:
        raise EOFError
    kind, rest = line[:1], line[1:].strip()
    if kind == b"*":
        return [read_reply(stream) for _ in range(int(rest))]
    if kind == b"$":
        return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2]
    return rest


def bulk(data):
    return b"$-1\r\n" if data is None else b"$%d\r\n%s\r\n" % (len(data), data)


class Handler(socketserver.StreamRequestHandler):
    store = {}

    def handle(self):
        try:
            while True:
                command, *arguments = read_reply(self.rfile)
                self.wfile.write(self.answer(command.upper(), arguments))
        except (EOFError, ConnectionError):
            pass

    def answer(self, command, arguments):
        if command == b"PING":
            return b"+PONG\r\n"
        if command == b"SET":
            self.store[arguments[0]] = arguments[1]
            return b"+OK\r\n"
        if command == b"GET":
            return bulk(self.store.get(arguments[0]))
        if command == b"STRLEN":
            return b":%d\r\n" % len(self.store.get(arguments[0], b""))
        return b"-ERR unknown command\r\n"


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if sys.argv[1] == "server":
    Server(("0.0.0.0", int(sys.argv[2])), Handler).serve_forever()
words = [w.encode() for w in sys.argv[4:]]
if words[-1] == b"-":
    words[-1] = sys.stdin.buffer.read()
with socket.create_connection((sys.argv[2], int(sys.argv[3])), timeout=10) as connection:
    connection.sendall(b"*%d\r\n" % len(words) + b"".join(bulk(w) for w in words))
    sys.stdout.write(read_reply(connection.makefile("rb")).decode() + "\n")
