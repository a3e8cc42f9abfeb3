"""A client application that knows nothing of proxies: it calls one URL, over and over.

    load.py URL OUT --threads N --rate R [--count N] [--once]

Every thread makes R requests a second, half of the threads on one connection kept alive, the
others on a new one each time. Each request is a JSON line in OUT: start, milliseconds, status
(0: no answer), version and headers worth knowing. --count N ends each thread after N requests;
--once makes every thread send at the same moment. SIGTERM finishes what is under way and ends.
"""

import argparse
import http.client
import json
import signal
import threading
import time
import urllib.parse

parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("out")
parser.add_argument("--threads", type=int, default=4)
parser.add_argument("--rate", type=float, default=50)
parser.add_argument("--count", type=int, default=0)
parser.add_argument("--body", default="")
parser.add_argument("--header", action="append", default=[])
args = parser.parse_args()

url = urllib.parse.urlsplit(args.url)
headers = {k: v for k, v in (h.split(":", 1) for h in args.header)}
stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())
barrier = threading.Barrier(args.threads)
lock = threading.Lock()


def call(connection):
    method = "POST" if args.body else "GET"
    connection.request(method, url.path or "/", args.body or None, headers)
    response = connection.getresponse()
    body = response.read()
    return {"status": response.status, "version": response.getheader("x-version"),
            "overloaded": response.getheader("x-envoy-overloaded"), "bytes": len(body)}


def run(number, out):
    fresh = number % 2 == 1
    connection = None
    done = 0
    barrier.wait()
    due = time.monotonic()
    while not stopping.is_set() and (not args.count or done < args.count):
        record = {"t": time.time(), "status": 0}
        begin = time.monotonic()
        try:
            if connection is None:
                connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=10)
            record.update(call(connection))
        except (OSError, http.client.HTTPException) as error:
            record["error"] = f"{type(error).__name__}: {error}"
            connection.close()
            connection = None
        record["ms"] = round((time.monotonic() - begin) * 1000, 1)
        if fresh and connection:
            connection.close()
            connection = None
        with lock:
            out.write(json.dumps(record) + "\n")
            out.flush()
        done += 1
        due += 1 / args.rate
        stopping.wait(max(0, due - time.monotonic()))


with open(args.out, "a", encoding="utf-8") as log:
    threads = [threading.Thread(target=run, args=(n, log)) for n in range(args.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
