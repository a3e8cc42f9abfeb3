"""xDS over gRPC, state of the world and incremental: ADS, and each type on streams of its own.

The server keeps a set of resources for each type and node, pushes a set when it changes, and
records every request and response. It does what istiod does where the protocol leaves a choice: a
pushed Cluster set is followed by its endpoints, a pushed Listener set by its routes, so that a
client which warms a re-sent resource always hears again what it waits for.
"""

import dataclasses
import itertools
import os
import queue
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import any_pb2

from . import delta, xds

DEFAULT = "*"  # the node name under which resources for every node stand
WILDCARD = ("Cluster", "Listener")
FOLLOWED_BY = {"Cluster": "ClusterLoadAssignment", "Listener": "RouteConfiguration"}
ADS_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
ADS_DELTA_METHOD = ADS_METHOD.replace("Stream", "Delta")
# The services of one type: what stands in the place of {} is Stream or Delta.
OWN_METHODS = {
    "/envoy.service.secret.v3.SecretDiscoveryService/{}Secrets": "Secret",
    "/envoy.service.cluster.v3.ClusterDiscoveryService/{}Clusters": "Cluster",
    "/envoy.service.endpoint.v3.EndpointDiscoveryService/{}Endpoints": "ClusterLoadAssignment",
    "/envoy.service.listener.v3.ListenerDiscoveryService/{}Listeners": "Listener",
    "/envoy.service.route.v3.RouteDiscoveryService/{}Routes": "RouteConfiguration",
}
KIND_OF_METHOD = {method.format(variant): kind for method, kind in OWN_METHODS.items()
                  for variant in ("Stream", "Delta")}
SDS_METHOD = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"


@dataclasses.dataclass
class Raw:
    """A resource given as bytes, for what no message class can say (hostile bytes, for example)."""
    name: str
    type_url: str
    value: bytes


@dataclasses.dataclass
class Request:
    """One DiscoveryRequest or DeltaDiscoveryRequest. `error` is the text of error_detail (None: no
    NACK); `ack` says that the request answers a response of its type on its stream, and without an
    error. In an incremental one `version` is that of the response it answers, `names` what is
    subscribed to, `unsubscribed` what no longer is, `initial` {name: version}."""
    time: float
    stream: int
    method: str
    node: str
    kind: str
    version: str
    nonce: str
    names: tuple
    error: str
    ack: bool
    message: object = dataclasses.field(repr=False, default=None)
    delta: bool = False
    unsubscribed: tuple = ()
    initial: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Response:
    """One DiscoveryResponse or DeltaDiscoveryResponse that was handed to gRPC."""
    time: float
    stream: int
    node: str
    kind: str
    version: str
    nonce: str
    names: tuple
    removed: tuple = ()


class _Subscription:
    """What one stream asked for of one type."""

    def __init__(self):
        self.names = ()
        self.nonce = ""      # of the last response
        self.nonces = set()  # of every response
        self.version = None  # of the last response


class _Stream:
    def __init__(self, number, method):
        self.number = number
        self.method = method
        self.delta = "/Delta" in method
        self.node = ""
        self.subscriptions = {}
        self.out = queue.Queue()  # responses; None ends the stream


class ControlPlane:
    """An xDS server. All methods may be called from any thread.

    `listen` are addresses as gRPC writes them: "127.0.0.1:0" (a free port, see `port`) or
    "unix:/path"."""

    def __init__(self, *listen, on_event=None):
        """`on_event` is called with every Request and Response, under the server's lock."""
        self._listen = list(listen) or ["127.0.0.1:0"]
        self._lock = threading.Condition(threading.RLock())
        self._sets = {}      # (kind, node) -> (version, {name: Any})
        self._held = set()   # kinds that are not answered
        self._changed = {}   # (kind, node) -> {name: version since when it is what it is}
        self.follows = True  # a pushed Cluster set is followed by its endpoints, and so on
        # Incremental: a name that does not exist is answered with its removal.
        self.says_absent = False
        self._streams = {}
        self._numbers = itertools.count(1)
        self._versions = itertools.count(1)
        self._nonces = itertools.count(1)
        self._on_event = on_event
        self._server = None
        self.transcript = []  # Request and Response, in order
        self.port = None

    # --- life ---------------------------------------------------------------------------------
    def start(self):
        """start serves; after stop() it serves again, on the same port, with the same resources."""
        if self._server:
            raise RuntimeError("the control plane already runs")
        server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=256, thread_name_prefix="xds"),
            options=[("grpc.max_send_message_length", -1),
                     ("grpc.max_receive_message_length", -1),
                     ("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((_Handlers(self._serve),))
        for i, address in enumerate(self._listen):
            if address.startswith("unix:"):
                path = address.removeprefix("unix:")
                if os.path.exists(path):
                    os.unlink(path)
            deadline = time.monotonic() + 5
            while True:
                try:
                    port = server.add_insecure_port(address)
                    break
                except RuntimeError:  # the port of the run before may need a moment
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            if address.endswith(":0") and not address.startswith("unix:"):
                self._listen[i] = address[:-1] + str(port)
            if not address.startswith("unix:"):
                self.port = port
        server.start()
        self._server = server
        for address in self._listen:
            if address.startswith("unix:"):
                os.chmod(address.removeprefix("unix:"), 0o666)
        return self

    def stop(self):
        """stop closes every stream and connection at once. The resources are kept."""
        server, self._server = self._server, None
        if not server:
            return
        with self._lock:
            for stream in self._streams.values():
                stream.out.put(None)
        server.stop(grace=0).wait(5)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    # --- resources ----------------------------------------------------------------------------
    def set(self, kind, resources, node=DEFAULT, version=None):
        """set replaces the resources of a type (for one node, or for all that have none of their
        own), pushes them to every stream that subscribes, and returns the version. A resource is
        a message, an Any, or Raw."""
        with self._lock:
            version = str(version if version is not None else next(self._versions))
            before = self._sets.get((kind, node), ("", {}))[1]
            since = self._changed.get((kind, node), {})
            packed = dict(_pack(r) for r in resources)
            self._sets[kind, node] = (version, packed)
            self._changed[kind, node] = {
                name: since[name] if before.get(name) == what else version
                for name, what in packed.items()}
            for stream in self._streams.values():
                self._push(stream, kind)
            return version

    def set_all(self, sets, node=DEFAULT):
        """set_all sets several types ({kind: resources}) in the order that breaks nothing, and
        returns {kind: version}."""
        order = [k for k in xds.KINDS if k in sets] + [k for k in sets if k not in xds.KINDS]
        with self._lock:
            return {kind: self.set(kind, sets[kind], node) for kind in order}

    def resources(self, kind, node=DEFAULT):
        """resources is the version and the {name: Any} a node is served."""
        with self._lock:
            return self._sets.get((kind, node)) or self._sets.get((kind, DEFAULT)) or ("", {})

    def hold(self, kind):
        """hold leaves requests for a type unanswered (and unpushed) until release(kind)."""
        with self._lock:
            self._held.add(kind)

    def release(self, kind):
        with self._lock:
            self._held.discard(kind)
            for stream in self._streams.values():
                self._push(stream, kind, always=True)

    def send(self, kind, resources, node=None, version="raw", type_url=None):
        """send puts one response on every stream that subscribes to the type (of one node, or of
        all), whatever the stored sets say, and returns the nonces. `type_url` overrides the URL
        of the response."""
        with self._lock:
            packed = dict(_pack(r) for r in resources)
            return [self._respond(s, kind, version, packed, type_url)
                    for s in self._streams.values()
                    if kind in s.subscriptions and node in (None, s.node)]

    def send_delta(self, kind, resources=(), removed=(), version="raw", node=None, type_url=None):
        """send_delta puts one response on every incremental stream that subscribes to the type,
        whatever the stored sets say, and returns the nonces. A resource is as for set(), or a
        whole envoy.service.discovery.v3.Resource."""
        with self._lock:
            packed = [(r.name, r) if getattr(r, "DESCRIPTOR", None) and
                      r.DESCRIPTOR.full_name == delta.RESOURCE else _pack(r) for r in resources]
            return [self._respond_delta(s, kind, version, packed, {}, list(removed), type_url)
                    for s in self._streams.values()
                    if s.delta and kind in s.subscriptions and node in (None, s.node)]

    def send_bytes(self, data, node=None):
        """send_bytes puts `data` on every ADS stream in place of a DiscoveryResponse."""
        with self._lock:
            for stream in self._streams.values():
                if stream.method in (ADS_METHOD, ADS_DELTA_METHOD) and node in (None, stream.node):
                    stream.out.put(bytes(data))

    def close_streams(self, node=None):
        """close_streams ends every stream (of one node, or of all) with status OK."""
        with self._lock:
            for stream in self._streams.values():
                if node in (None, stream.node):
                    stream.out.put(None)

    # --- what was said ------------------------------------------------------------------------
    def nodes(self):
        """nodes are the ids of the nodes that have a stream now."""
        with self._lock:
            return sorted({s.node for s in self._streams.values() if s.node})

    def requests(self, kind=None, node=None, since=0):
        """requests are the recorded Requests, from index `since` of the transcript on."""
        with self._lock:
            return [e for e in self.transcript[since:] if isinstance(e, Request)
                    and kind in (None, e.kind) and node in (None, e.node)]

    def mark(self):
        """mark is the present end of the transcript, for `since`."""
        with self._lock:
            return len(self.transcript)

    def wait_for(self, predicate, timeout=10, what="a condition"):
        """wait_for waits until predicate() is true; it is called after every event."""
        deadline = time.monotonic() + timeout
        with self._lock:
            while True:
                result = predicate()
                if result:
                    return result
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no {what} within {timeout} s; the transcript ends:\n"
                                       + "\n".join(str(e) for e in self.transcript[-12:]))
                self._lock.wait(min(left, 0.2))

    def wait_request(self, kind, node=None, since=0, timeout=10, **fields):
        """wait_request waits for a Request with these field values."""
        def found():
            for request in self.requests(kind, node, since):
                if all(getattr(request, k) == v for k, v in fields.items()):
                    return request
            return None
        return self.wait_for(found, timeout, f"{kind} request with {fields}")

    def wait_ack(self, kind, version, node=None, timeout=10):
        """wait_ack waits until `version` of a type is acknowledged."""
        return self.wait_request(kind, node, timeout=timeout, ack=True, version=str(version))

    def wait_nack(self, kind, node=None, since=0, timeout=10):
        """wait_nack waits for a NACK of a type and returns it; `error` has the text."""
        def found():
            return next((r for r in self.requests(kind, node, since) if r.error is not None), None)
        return self.wait_for(found, timeout, f"NACK of {kind}")

    # --- the protocol -------------------------------------------------------------------------
    def _serve(self, method, requests, context):
        with self._lock:
            stream = _Stream(next(self._numbers), method)
            self._streams[stream.number] = stream
        threading.Thread(target=self._read, args=(stream, requests), daemon=True).start()
        context.add_callback(lambda: stream.out.put(None))
        try:
            while (response := stream.out.get()) is not None:
                yield response
        finally:
            with self._lock:
                self._streams.pop(stream.number, None)
                self._lock.notify_all()

    def _read(self, stream, requests):
        try:
            for request in requests:
                with self._lock:
                    self._take(stream, request)
        except Exception:  # the stream was cut: nothing to answer
            pass
        stream.out.put(None)

    def _take(self, stream, request):
        stream.node = request.node.id or stream.node
        kind = xds.KIND_OF_URL.get(request.type_url, request.type_url)
        if not request.type_url:
            kind = KIND_OF_METHOD.get(stream.method, "")
        if stream.delta:
            self._take_delta(stream, kind, request)
            return
        known = stream.subscriptions.get(kind)
        answers = known is not None and known.nonce and request.response_nonce == known.nonce
        error = request.error_detail.message if request.HasField("error_detail") else None
        self._record(Request(time.time(), stream.number, stream.method, stream.node, kind,
                             request.version_info, request.response_nonce,
                             tuple(request.resource_names), error,
                             known is not None and error is None
                             and request.response_nonce in known.nonces, request))
        if known is None:
            known = stream.subscriptions[kind] = _Subscription()
        elif request.response_nonce and not answers:
            return  # stale: a newer response is on its way, and its answer counts
        names = tuple(request.resource_names)
        added = set(names) - set(known.names)
        fresh = known.version is None or not request.response_nonce
        known.names = names
        if fresh or added:
            self._push(stream, kind, always=True)

    def _take_delta(self, stream, kind, request):
        known = stream.subscriptions.get(kind)
        first = known is None
        if first:
            known = stream.subscriptions[kind] = delta.Subscription()
        error = request.error_detail.message if request.HasField("error_detail") else None
        nonce = request.response_nonce
        self._record(Request(time.time(), stream.number, stream.method, stream.node, kind,
                             known.nonces.get(nonce, ""), nonce,
                             tuple(request.resource_names_subscribe), error,
                             error is None and nonce in known.nonces, request, True,
                             tuple(request.resource_names_unsubscribe),
                             dict(request.initial_resource_versions)))
        fresh = known.take(request, first)
        if fresh is None or fresh:
            self._push_delta(stream, kind, fresh or ())

    def _push_delta(self, stream, kind, force=(), empty=False):
        """What changed, and what is in `force` unless the client said that it has it."""
        known = stream.subscriptions[kind]
        if kind in self._held:
            return
        version, resources = self.resources(kind, stream.node)
        if not version:
            return
        node = stream.node if (kind, stream.node) in self._sets else DEFAULT
        versions = self._changed[kind, node]
        stale = {n for n in force if known.has.get(n) != versions.get(n) or empty}
        changed, removed = known.changes(resources, versions, stale)
        if self.says_absent:
            removed += [n for n in force if n not in resources and n not in removed]
        if not changed and not removed and not empty:
            return
        self._respond_delta(stream, kind, version, list(changed.items()), versions, removed)
        follower = FOLLOWED_BY.get(kind)
        if self.follows and changed and follower in stream.subscriptions:
            names = stream.subscriptions[follower].names
            self._push_delta(stream, follower, names, empty=bool(names))

    def _respond_delta(self, stream, kind, version, resources, versions, removed, type_url=None):
        known = stream.subscriptions[kind]
        nonce = str(next(self._nonces))
        known.nonce, known.version = nonce, version
        known.nonces[nonce] = version
        known.sent([name for name, _ in resources], versions, removed)
        message = delta.response(kind, version, nonce, resources, versions, removed, type_url)
        self._record(Response(time.time(), stream.number, stream.node, kind, version, nonce,
                              tuple(name for name, _ in resources), tuple(removed)))
        stream.out.put(message.SerializeToString())
        return nonce

    def _push(self, stream, kind, always=False):
        known = stream.subscriptions.get(kind)
        if known is None or kind in self._held:
            return
        if stream.delta:
            self._push_delta(stream, kind, known.names if always else (), empty=not always)
            return
        version, resources = self.resources(kind, stream.node)
        if not version or (version == known.version and not always):
            return
        if kind not in WILDCARD or known.names:
            wanted = {n: resources[n] for n in known.names if n in resources}
            if "*" in known.names:
                wanted = resources
            resources = wanted
            if not resources:  # named types: what does not exist is not answered
                return
        known.version = version
        self._respond(stream, kind, version, resources)
        follower = FOLLOWED_BY.get(kind)
        if self.follows and follower in stream.subscriptions:
            self._push(stream, follower, always=True)

    def _respond(self, stream, kind, version, resources, type_url=None):
        if stream.delta:
            return self._respond_delta(stream, kind, version, list(resources.items()), {}, [],
                                       type_url)
        nonce = str(next(self._nonces))
        stream.subscriptions[kind].nonce = nonce
        stream.subscriptions[kind].nonces.add(nonce)
        response = xds.message_class("envoy.service.discovery.v3.DiscoveryResponse")(
            version_info=version, nonce=nonce, type_url=type_url or xds.type_url(kind),
            resources=list(resources.values()))
        self._record(Response(time.time(), stream.number, stream.node, kind, version, nonce,
                              tuple(resources)))
        stream.out.put(response.SerializeToString())
        return nonce

    def _record(self, event):
        self.transcript.append(event)
        if self._on_event:
            self._on_event(event)
        self._lock.notify_all()


class _Handlers(grpc.GenericRpcHandler):
    """The streaming methods; responses are bytes already."""

    def __init__(self, serve):
        self._serve = serve
        self._request = xds.message_class("envoy.service.discovery.v3.DiscoveryRequest")
        self._delta = xds.message_class("envoy.service.discovery.v3.DeltaDiscoveryRequest")

    def service(self, details):
        method = details.method
        if method not in (ADS_METHOD, ADS_DELTA_METHOD, *KIND_OF_METHOD):
            return None
        request = self._delta if "/Delta" in method else self._request
        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: self._serve(method, requests, context),
            request_deserializer=request.FromString, response_serializer=None)


def _pack(resource):
    """_pack gives the name of a resource and the resource as an Any."""
    if isinstance(resource, Raw):
        return resource.name, any_pb2.Any(type_url=xds.type_url(resource.type_url),
                                          value=resource.value)
    if isinstance(resource, any_pb2.Any):
        name = resource.type_url.removeprefix(xds.TYPE_PREFIX)
        return xds.name_of(xds.message_class(name).FromString(resource.value)), resource
    return xds.name_of(resource), xds.pack(resource)
