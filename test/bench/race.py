"""A million requests against upstreams that close idle connections at random: no client may see a
failure that a safe retry could hide, and no POST may arrive twice.

    tools/venv-python test/bench/race.py [--requests N] [--binary PATH]

The upstreams are processes that answer a random number of requests on a connection and then close
it a random moment after the last answer, so that some of the closing meets a request. Prints what was
sent, hidden and seen; its exit status says whether the two rules held.
"""

import argparse
import array
import multiprocessing
import os
import pathlib
import random
import selectors
import socket
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))
from harness import ROOT  # noqa: E402
from harness.proxy import Proxy, cluster, http_listener, static  # noqa: E402
from controlplane import mesh  # noqa: E402

CLIENTS, UPSTREAMS = 8, 2
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
RETRIED = "cluster.up.upstream_rq_retry_reused_connection"


class Connection:
    def __init__(self, sock, dice):
        self.sock, self.data = sock, b""
        self.left = dice.randint(1, 30)


def upstream(listener, seed, out, stop):
    """Answers; writes the number of every POST to `out` at the end."""
    dice, posts = random.Random(seed), array.array("Q")
    selector = selectors.EpollSelector()
    listener.setblocking(False)
    selector.register(listener, selectors.EVENT_READ, None)
    doomed = []
    while not stop.is_set():
        for key, _ in selector.select(0.0005 if doomed else 0.1):
            if key.data is None:
                try:
                    sock, _ = listener.accept()
                except BlockingIOError:
                    continue
                selector.register(sock, selectors.EVENT_READ, Connection(sock, dice))
                continue
            serve(key.data, posts, selector, doomed)
        for connection in doomed[:len(doomed) * 2 // 3 + 1]:
            if connection.sock.fileno() >= 0:
                selector.unregister(connection.sock)
                if dice.random() < 0.3:
                    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                               struct.pack("ii", 1, 0))
                connection.sock.close()
        del doomed[:len(doomed) * 2 // 3 + 1]
    with open(out, "wb") as file:
        posts.tofile(file)


def serve(connection, posts, selector, doomed):
    try:
        data = connection.sock.recv(65536)
    except OSError:
        data = b""
    if not data:
        selector.unregister(connection.sock)
        connection.sock.close()
        return
    connection.data += data
    head, found, _ = connection.data.partition(b"\r\n\r\n")
    if not found:
        return
    if head.startswith(b"POST"):
        if len(connection.data) < len(head) + 8:
            return
        posts.append(int(head.split(b" ", 2)[1][1:]))
    connection.data = b""
    if connection.left <= 0:
        return  # it was read, and the connection closes without an answer
    connection.left -= 1
    connection.sock.send(ANSWER)
    if connection.left == 0:
        doomed.append(connection)


def client(port, first, number, seed, results):
    """Sends `number` requests; gives how many of each kind were sent and failed."""
    dice = random.Random(seed)
    sock = None
    sent, failed = [0, 0], [0, 0]
    for i in range(first, first + number):
        post = dice.random() < 0.25
        text = (b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nonce" if post
                else b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n") % i
        if sock is None:
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(text)
        data = sock.recv(65536)
        while b"\r\n\r\n" not in data and (more := sock.recv(65536)):
            data += more
        sent[post] += 1
        if not data.startswith(b"HTTP/1.1 200"):
            failed[post] += 1
            sock.close()
            sock = None
    results.put((sent, failed))


def run(binary, requests, seed):
    context = multiprocessing.get_context("fork")
    folder = tempfile.mkdtemp(prefix="race")
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in range(UPSTREAMS)]
    stop, results = context.Event(), context.Queue()
    files = [os.path.join(folder, f"posts-{i}") for i in range(UPSTREAMS)]
    servers = [context.Process(target=upstream, args=(listeners[i], seed + i, files[i], stop),
                               daemon=True)
               for i in range(UPSTREAMS)]
    for server in servers:
        server.start()
    proxy = Proxy(binary, folder, static(
        [http_listener([mesh.route("up")])],
        [cluster("up", *[x.getsockname()[:2] for x in listeners])])).start()
    share = requests // CLIENTS
    clients = [context.Process(target=client, args=(proxy.port(), n * share, share,
                                                    seed + 100 + n, results), daemon=True)
               for n in range(CLIENTS)]
    for one in clients:
        one.start()
    rows = [results.get() for _ in clients]
    stop.set()
    for one in clients + servers:
        one.join()
    hidden = proxy.stat(RETRIED)
    status = proxy.stop()
    posts = array.array("Q")
    for name in files:
        with open(name, "rb") as file:
            posts.frombytes(file.read())
    return {"gets": sum(s[0] for s, _ in rows), "posts": sum(s[1] for s, _ in rows),
            "failed_gets": sum(f[0] for _, f in rows),
            "failed_posts": sum(f[1] for _, f in rows), "hidden": hidden,
            "posts_arrived": len(posts), "posts_twice": len(posts) - len(set(posts)),
            "status": status}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10**6)
    parser.add_argument("--binary", default=str(ROOT / "build/release/attache"))
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    row = run(os.path.abspath(args.binary), args.requests, args.seed)
    for name, value in row.items():
        print(f"{name:14} {value}")
    good = not (row["failed_gets"] or row["posts_twice"] or row["status"])
    print("2 passed, 0 failed" if good else "a rule was broken")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
