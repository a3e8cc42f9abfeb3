"""xDS messages from dictionaries in the proto3 JSON mapping.

A resource is written as it would be in a YAML file; an Any is a dictionary with "@type", which may
be the short name of a type listed in SHORT ("Router") or a full type URL.
"""

import importlib
import pkgutil

from google.protobuf import any_pb2, json_format, symbol_database

TYPE_PREFIX = "type.googleapis.com/"

# Short names of the resource types, in the order in which a push is safe (make before break).
KINDS = {
    "Secret": "envoy.extensions.transport_sockets.tls.v3.Secret",
    "Cluster": "envoy.config.cluster.v3.Cluster",
    "ClusterLoadAssignment": "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "Listener": "envoy.config.listener.v3.Listener",
    "RouteConfiguration": "envoy.config.route.v3.RouteConfiguration",
}
KIND_OF_URL = {TYPE_PREFIX + name: kind for kind, name in KINDS.items()}

# Short names accepted in "@type".
SHORT = {
    "HttpConnectionManager": "envoy.extensions.filters.network.http_connection_manager.v3"
                             ".HttpConnectionManager",
    "TcpProxy": "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    "Router": "envoy.extensions.filters.http.router.v3.Router",
    "OriginalDst": "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    "TlsInspector": "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    "DownstreamTlsContext": "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    "UpstreamTlsContext": "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    "FileAccessLog": "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    "HttpProtocolOptions": "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    "PreviousHostsPredicate": "envoy.extensions.retry.host.previous_hosts.v3"
                              ".PreviousHostsPredicate",
}

# Packages whose modules are loaded, so that the JSON parser knows the types inside an Any.
_PACKAGES = (
    "envoy.service.discovery.v3", "envoy.service.secret.v3",
    "envoy.config.bootstrap.v3", "envoy.config.listener.v3", "envoy.config.cluster.v3",
    "envoy.config.endpoint.v3", "envoy.config.route.v3", "envoy.config.core.v3",
    "envoy.config.accesslog.v3", "envoy.extensions.filters.network.http_connection_manager.v3",
    "envoy.extensions.filters.network.tcp_proxy.v3", "envoy.extensions.filters.http.router.v3",
    "envoy.extensions.filters.listener.original_dst.v3",
    "envoy.extensions.filters.listener.tls_inspector.v3",
    "envoy.extensions.filters.listener.http_inspector.v3",
    "envoy.extensions.filters.listener.original_src.v3",
    "envoy.extensions.filters.listener.proxy_protocol.v3",
    "envoy.extensions.transport_sockets.tls.v3",
    "envoy.extensions.transport_sockets.raw_buffer.v3",
    "envoy.extensions.access_loggers.file.v3", "envoy.extensions.access_loggers.stream.v3",
    "envoy.extensions.upstreams.http.v3", "envoy.extensions.retry.host.previous_hosts.v3",
    "envoy.admin.v3", "udpa.type.v1", "xds.type.v3",
)
_loaded = False


def load(package):
    """load makes every message of the package `package` known to message()."""
    module = importlib.import_module(package)
    for found in pkgutil.iter_modules(module.__path__):
        if found.name.endswith("_pb2"):
            importlib.import_module(f"{package}.{found.name}")


def _load_all():
    global _loaded
    if not _loaded:
        for package in _PACKAGES:
            load(package)
        _loaded = True


def full_name(name):
    """full_name is the full type name of a kind, a short name, a type URL or a full name."""
    name = name.removeprefix(TYPE_PREFIX)
    return KINDS.get(name) or SHORT.get(name) or name


def type_url(name):
    """type_url is the type URL of a kind, a short name, a type URL or a full name."""
    return TYPE_PREFIX + full_name(name)


def message_class(name):
    """message_class is the generated class of a type."""
    _load_all()
    pool = symbol_database.Default().pool
    descriptor = pool.FindMessageTypeByName(full_name(name))
    from google.protobuf import message_factory
    return message_factory.GetMessageClass(descriptor)


def _expand(value):
    if isinstance(value, dict):
        return {k: type_url(v) if k == "@type" else _expand(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_expand(v) for v in value]
    return value


def message(name, fields):
    """message builds the message `name` from `fields`; a field that does not exist raises."""
    _load_all()
    return json_format.ParseDict(_expand(fields), message_class(name)())


def pack(resource):
    """pack wraps a message into an Any, deterministically."""
    packed = any_pb2.Any()
    packed.Pack(resource, deterministic=True)
    return packed


def name_of(resource):
    """name_of is the name by which a resource is asked for."""
    return getattr(resource, "cluster_name", None) or getattr(resource, "name", "")


def to_dict(resource):
    """to_dict is the JSON form of a message, with the field names of the .proto files."""
    return json_format.MessageToDict(resource, preserving_proto_field_name=True)


def socket_address(address, port):
    return {"socket_address": {"address": address, "port_value": port}}


def endpoint(address, port, **more):
    """endpoint is an LbEndpoint; `more` are further fields of it (load_balancing_weight, ...)."""
    return {"endpoint": {"address": socket_address(address, port)}, **more}


def load_assignment(cluster_name, endpoints):
    """load_assignment is a ClusterLoadAssignment (as a dictionary) of one locality."""
    return {"cluster_name": cluster_name,
            "endpoints": [{"lb_endpoints": [e if isinstance(e, dict) else endpoint(*e)
                                            for e in endpoints]}]}


ADS = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
HTTP2 = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
    "@type": "HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}}


def grpc_cluster(name, address):
    """grpc_cluster is a STATIC HTTP/2 cluster; `address` is "host:port" or "unix:/path"."""
    if address.startswith("unix:"):
        where = {"pipe": {"path": address.removeprefix("unix:")}}
    else:
        host, _, port = address.rpartition(":")
        where = socket_address(host.strip("[]"), int(port))
    return {"name": name, "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": HTTP2,
            "load_assignment": {"cluster_name": name, "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": where}}]}]}}


def bootstrap(node_id, ads, sds=None, admin=("127.0.0.1", 0), cluster="demo", metadata=None,
              static_resources=None, delta=False, **more):
    """bootstrap is a dictionary ready for json.dump: a node driven by ADS (`delta`: incremental) at
    the address `ads` and, when `sds` is given, with a cluster sds-grpc at that address. `more` are
    further fields of the bootstrap."""
    static = dict(static_resources or {})
    clusters = [grpc_cluster("xds-grpc", ads)]
    if sds:
        clusters.append(grpc_cluster("sds-grpc", sds))
    static["clusters"] = clusters + list(static.get("clusters", []))
    return _expand({
        "node": {"id": node_id, "cluster": cluster, "metadata": metadata or {}},
        "admin": {"address": socket_address(*admin)},
        "dynamic_resources": {
            "lds_config": ADS, "cds_config": ADS,
            "ads_config": {"api_type": "DELTA_GRPC" if delta else "GRPC",
                           "transport_api_version": "V3",
                           "set_node_on_first_message_only": True,
                           "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]}},
        "static_resources": static,
        **more})
