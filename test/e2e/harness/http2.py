"""HTTP/2 by the h2 package: a client on one connection, and an upstream server."""

import select
import socket
import threading
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from .upstream import Server

OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def upstream_options(which="explicit_http_config", http2=None, **more):
    """upstream_options are the fields of a cluster that speaks HTTP/2, or as `which` says."""
    options = {"http2_protocol_options": http2 or {}}
    if which != "explicit_http_config":
        options["http_protocol_options"] = {}
    return {"typed_extension_protocol_options": {
        OPTIONS: {"@type": f"type.googleapis.com/{OPTIONS}", which: options, **more}}}


class Connection(h2.connection.H2Connection):
    """h2's connection, which otherwise takes nothing more after a GOAWAY."""

    def _receive_goaway_frame(self, frame):
        before = self.state_machine.state
        result = super()._receive_goaway_frame(frame)
        self.state_machine.state = before
        return result


class Answer:
    """What came on one stream."""

    def __init__(self):
        self.informational = []
        self.headers = None
        self.body = b""
        self.trailers = None
        self.ended = False
        self.reset = None  # error code

    @property
    def status(self):
        return int(dict(self.headers)[":status"]) if self.headers else None

    def field(self, name):
        return dict(self.headers).get(name)


class Client:
    """One connection as a client. Window is given back as body comes, unless `hold` is set."""

    def __init__(self, port, tls=None, hold=False, settings=None, timeout=20, validate=True):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname="test")
        self.h2 = Connection(h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=validate,
            normalize_outbound_headers=validate))
        if settings:
            self.h2.local_settings = h2.settings.Settings(client=True,
                                                          initial_values=settings)
        self.h2.initiate_connection()
        self.hold, self.timeout = hold, timeout
        self.answers = {}
        self.goaway = []  # (error code, last stream)
        self.closed = False
        self.pings = 0
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def raw(self, data):
        """raw sends bytes as they are."""
        self.flush()
        self.sock.sendall(data)

    def request(self, method="GET", path="/", headers=(), body=None, end=True, authority="h",
                trailers=None, scheme="http"):
        """request begins one and returns the stream's id."""
        stream = self.h2.get_next_available_stream_id()
        self.answers[stream] = Answer()
        fields = [(":method", method), (":scheme", scheme), (":authority", authority),
                  (":path", path), *headers]
        more = body is not None or trailers or not end
        self.h2.send_headers(stream, fields, end_stream=not more)
        self.flush()
        if body:
            self.send(stream, body, end=end and not trailers)
        elif more and end and not trailers:
            self.h2.end_stream(stream)
        if trailers:
            self.h2.send_headers(stream, trailers, end_stream=True)
        self.flush()
        return stream

    def send(self, stream, data, end=False):
        """send sends body as window comes."""
        while True:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            piece, rest = data[:room], data[room:]
            if piece or (end and not data):
                self.h2.send_data(stream, piece, end_stream=end and not rest)
                self.flush()
            data = rest
            if not data:
                return
            if self.answers[stream].reset is not None or (not room and not self.step()):
                return

    def step(self, timeout=None):
        """step takes what comes next; False at the end of the connection or of the time."""
        if self.closed:
            return False
        self.sock.settimeout(timeout or self.timeout)
        try:
            data = self.sock.recv(65536)
        except (socket.timeout, TimeoutError):
            return False
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return False
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self.closed = True
            raise
        for event in events:
            self.take(event)
        try:
            self.flush()
        except OSError:
            pass
        return True

    def take(self, event):
        answer = self.answers.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.InformationalResponseReceived):
            answer.informational.append(event.headers)
        elif isinstance(event, h2.events.ResponseReceived):
            answer.headers = event.headers
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            if not self.hold and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            answer.trailers = event.headers
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            if answer:
                answer.reset = event.error_code
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway.append((event.error_code, event.last_stream_id))
        elif isinstance(event, h2.events.PingAckReceived):
            self.pings += 1

    def until(self, condition, timeout=20):
        """until steps until condition() holds; fails if it never does."""
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0 or not self.step(left):
                assert condition(), f"not so; closed: {self.closed}, GOAWAY: {self.goaway}"
        return True

    def answer(self, stream):
        """answer waits for the end of a stream."""
        got = self.answers[stream]
        self.until(lambda: got.ended or got.reset is not None or self.closed)
        return got

    def ask(self, **more):
        return self.answer(self.request(**more))

    def wait_closed(self, timeout=20):
        """wait_closed waits for the other side to end the connection."""
        deadline = time.monotonic() + timeout
        while not self.closed and time.monotonic() < deadline:
            try:
                self.step(max(0.01, deadline - time.monotonic()))
            except h2.exceptions.ProtocolError:
                return
        assert self.closed, "the connection is still open"

    def quiet(self, seconds):
        """quiet takes what comes for a while."""
        deadline = time.monotonic() + seconds
        while not self.closed and time.monotonic() < deadline:
            if select.select([self.sock], [], [], max(0, deadline - time.monotonic()))[0]:
                self.step(1)


class Http2Server(Server):
    """An HTTP/2 upstream. on_request(connection, stream, headers), on_data(..., data),
    on_end(...) are called from the connection's thread with an H2Connection to answer on; without
    them each request is answered by its method, path and body. `seen` has the request heads."""

    def __init__(self, on_request=None, on_data=None, on_end=None, on_event=None, settings=None,
                 hold=False, **more):
        self.on_request, self.on_data, self.on_end = on_request, on_data, on_end
        self.on_event = on_event
        self.settings, self.hold = settings, hold
        self.seen, self.trailers, self.resets, self.goaways = [], [], [], []
        self.links, self.errors = [], []
        super().__init__(self._handle, **more)

    def _handle(self, sock):
        link = Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        if self.settings:
            link.local_settings = h2.settings.Settings(client=False,
                                                       initial_values=self.settings)
        link.initiate_connection()
        link.sock, link.bodies, link.heads, link.lock = sock, {}, {}, threading.Lock()
        self.links.append(link)
        sock.sendall(link.data_to_send())
        while (data := sock.recv(65536)):
            with link.lock:
                try:
                    events = link.receive_data(data)
                except h2.exceptions.ProtocolError as error:
                    self.errors.append(error)
                    return
                for event in events:
                    try:
                        self._take(link, event)
                    except h2.exceptions.StreamClosedError:
                        pass # the other side has reset it meanwhile
                sock.sendall(link.data_to_send())

    def _take(self, link, event):
        if self.on_event and self.on_event(link, event):
            return
        if isinstance(event, h2.events.RequestReceived):
            link.heads[event.stream_id] = dict(event.headers)
            link.bodies[event.stream_id] = b""
            self.seen.append(dict(event.headers))
            if self.on_request:
                self.on_request(link, event.stream_id, dict(event.headers))
        elif isinstance(event, h2.events.DataReceived):
            link.bodies[event.stream_id] += event.data
            if not self.hold and event.flow_controlled_length:
                link.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if self.on_data:
                self.on_data(link, event.stream_id, event.data)
        elif isinstance(event, h2.events.TrailersReceived):
            self.trailers.append(dict(event.headers))
        elif isinstance(event, h2.events.StreamReset):
            self.resets.append(int(event.error_code))
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaways.append(event)
        elif isinstance(event, h2.events.StreamEnded):
            if self.on_end:
                self.on_end(link, event.stream_id)
            elif not self.on_request and not self.on_data:
                self.echo(link, event.stream_id)

    @staticmethod
    def echo(link, stream):
        head = link.heads[stream]
        body = f"{head[':method']} {head[':path']} {len(link.bodies[stream])}".encode()
        link.send_headers(stream, [(":status", "200"), ("content-length", str(len(body)))])
        link.send_data(stream, body, end_stream=True)
