"""A web application that knows nothing of proxies: plain HTTP/1.1 on one port.

    web.py VERSION PORT [BEHAVIOUR]

It answers with its version. BEHAVIOUR names a JSON file, read anew when it changes, that makes it
misbehave: {"fail": "half"} answers 503 every second time, {"fail": "random"} by chance. The path
/slow takes a second.
"""

import http.server
import json
import os
import random
import socketserver
import sys
import threading
import time

VERSION, PORT = sys.argv[1], int(sys.argv[2])
BEHAVIOUR = sys.argv[3] if len(sys.argv) > 3 else None
SLOW_SECONDS = 1.0


class Behaviour:
    def __init__(self):
        self.stamp = None
        self.fail = None
        self.count = 0
        self.lock = threading.Lock()

    def should_fail(self):
        with self.lock:
            try:
                stamp = os.stat(BEHAVIOUR).st_mtime_ns
                if stamp != self.stamp:
                    with open(BEHAVIOUR, encoding="utf-8") as src:
                        self.fail = json.load(src).get("fail")
                    self.stamp = stamp
            except (OSError, TypeError, ValueError):
                self.fail = None
            self.count += 1
            if self.fail == "half":
                return self.count % 2 == 0
            return self.fail == "random" and random.random() < 0.5


behaviour = Behaviour()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one write

    def answer(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        if self.path.startswith("/slow"):
            time.sleep(SLOW_SECONDS)
        failed = self.path.startswith("/both") and behaviour.should_fail()
        text = b"broken\n" if failed else f"hello from {VERSION}\n".encode() + body
        self.send_response(503 if failed else 200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(text)))
        self.send_header("x-version", VERSION)
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = answer

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def server_bind(self):  # without HTTPServer's look-up of the host's name: there is no DNS here
        socketserver.TCPServer.server_bind(self)


Server(("0.0.0.0", PORT), Handler).serve_forever()
