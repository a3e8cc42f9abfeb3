"""The listeners and clusters of a sidecar, shaped as istiod shapes them (without istio.* filters).

Every function returns a dictionary for xds.message(), so that a test can change what it wants
before it becomes a message. Upstreams are spoken to with HTTP/1.1.
"""

from . import xds

OUTBOUND_PORT = 15001
INBOUND_PORT = 15006
INBOUND_BIND = "127.0.0.6"
# What a sidecar offers to another sidecar, and what tells mesh TLS from an application's own TLS.
ISTIO_ALPN_HTTP = ["istio-http/1.1", "istio-http/1.0", "istio"]
ISTIO_ALPN_TCP = ["istio-peer-exchange", "istio"]
ISTIO_ALPN = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"]

LOG_FIELDS = {
    "start": "%START_TIME%", "listener": "%UPSTREAM_CLUSTER%", "protocol": "%PROTOCOL%",
    "method": "%REQ(:METHOD)%", "path": "%REQ(:PATH)%", "authority": "%REQ(:AUTHORITY)%",
    "code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%",
    "received": "%BYTES_RECEIVED%", "sent": "%BYTES_SENT%", "duration": "%DURATION%",
    "upstream": "%UPSTREAM_HOST%", "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "local": "%DOWNSTREAM_LOCAL_URI_SAN%", "serial": "%DOWNSTREAM_PEER_SERIAL%",
    "sni": "%REQUESTED_SERVER_NAME%", "tls": "%DOWNSTREAM_TLS_VERSION%",
    "remote": "%DOWNSTREAM_REMOTE_ADDRESS%"}


def access_log(path, fields=None):
    """access_log is a file access log of one JSON object a line; `fields` default to LOG_FIELDS."""
    return [{"name": "envoy.access_loggers.file", "typed_config": {
        "@type": "FileAccessLog", "path": path,
        "log_format": {"json_format": fields or LOG_FIELDS}}}]


# --- TLS ------------------------------------------------------------------------------------------
def sds(name, cluster="sds-grpc"):
    """sds names a secret that is served over the cluster `cluster` (None: over ADS)."""
    if cluster is None:
        return {"name": name, "sds_config": xds.ADS}
    return {"name": name, "sds_config": {
        "resource_api_version": "V3", "initial_fetch_timeout": "0s",
        "api_config_source": {
            "api_type": "GRPC", "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": cluster}}]}}}


def _common_tls(alpn, validation, cluster):
    return {"alpn_protocols": alpn,
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2",
                           "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [sds("default", cluster)],
            "combined_validation_context": {
                "default_validation_context": validation,
                "validation_context_sds_secret_config": sds("ROOTCA", cluster)}}


def upstream_tls(sni, identities, alpn=None, sds_cluster="sds-grpc"):
    """upstream_tls is the transport socket towards hosts that must have one of `identities`."""
    validation = {"match_typed_subject_alt_names": [
        {"san_type": "URI", "matcher": {"exact": uri}} for uri in identities]}
    return {"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "UpstreamTlsContext", "sni": sni,
        "common_tls_context": _common_tls(alpn or ISTIO_ALPN_HTTP, validation, sds_cluster)}}


def downstream_tls(trust_domain="cluster.local", alpn=("http/1.1",), sds_cluster="sds-grpc"):
    """downstream_tls is the transport socket for peers of the trust domain: mutual TLS."""
    validation = {"match_typed_subject_alt_names": [
        {"san_type": "URI", "matcher": {"prefix": f"spiffe://{trust_domain}/"}}]}
    return {"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "DownstreamTlsContext", "require_client_certificate": True,
        "common_tls_context": _common_tls(list(alpn), validation, sds_cluster)}}


# --- network filters ------------------------------------------------------------------------------
def tcp_proxy(cluster, stat_prefix=None, log=None):
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": "TcpProxy", "stat_prefix": stat_prefix or cluster, "cluster": cluster,
        "access_log": access_log(log) if log else []}}


def hcm(stat_prefix, route_config=None, rds=None, log=None, **more):
    """hcm is an HTTP connection manager with an inline `route_config` or the name `rds`."""
    routes = {"route_config": route_config} if route_config else {
        "rds": {"route_config_name": rds, "config_source": xds.ADS}}
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "HttpConnectionManager", "stat_prefix": stat_prefix, "codec_type": "AUTO",
        "stream_idle_timeout": "0s", "normalize_path": True, "generate_request_id": True,
        "use_remote_address": False, "server_name": "istio-envoy", **routes,
        "http_filters": [{"name": "envoy.filters.http.router",
                          "typed_config": {"@type": "Router"}}],
        "access_log": access_log(log) if log else [], **more}}


def route(cluster, prefix="/", **action):
    """route sends a prefix to a cluster, or to {cluster: weight}."""
    if isinstance(cluster, dict):
        action["weighted_clusters"] = {"clusters": [
            {"name": name, "weight": weight} for name, weight in cluster.items()]}
    else:
        action["cluster"] = cluster
    action.setdefault("timeout", "0s")
    return {"match": {"prefix": prefix}, "route": action}


def route_config(name, routes, domains=("*",)):
    return {"name": name, "validate_clusters": False,
            "virtual_hosts": [{"name": f"{name}:vhost", "domains": list(domains),
                               "routes": routes}]}


# istiod's default retries: on another host, and on what cannot have reached the application.
RETRIES = {
    "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
    "num_retries": 2, "retriable_status_codes": [503], "host_selection_retry_max_attempts": 5,
    "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts",
                              "typed_config": {"@type": "PreviousHostsPredicate"}}]}


# --- listeners ------------------------------------------------------------------------------------
def virtual_outbound(address="0.0.0.0", port=OUTBOUND_PORT, **more):
    """virtual_outbound takes what the rules redirect and hands it to the listener it was for."""
    return {"name": "virtualOutbound", "address": xds.socket_address(address, port),
            "traffic_direction": "OUTBOUND", "use_original_dst": True, "filter_chains": [
                {"name": "virtualOutbound-blackhole",
                 "filter_chain_match": {"destination_port": port},
                 "filters": [tcp_proxy("BlackHoleCluster")]},
                {"name": "virtualOutbound-catchall-tcp",
                 "filters": [tcp_proxy("PassthroughCluster")]}], **more}


def outbound_listener(address, port, filters, name=None, **more):
    """outbound_listener is one service port: not bound, found by virtual_outbound."""
    return {"name": name or f"{address}_{port}", "address": xds.socket_address(address, port),
            "traffic_direction": "OUTBOUND", "bind_to_port": False,
            "filter_chains": [{"filters": filters}], **more}


def inbound_chains(port, filters, mode="PERMISSIVE", trust_domain="cluster.local", http=True,
                   sds_cluster="sds-grpc"):
    """inbound_chains are the chains of one application port. STRICT: mutual TLS only; PERMISSIVE:
    also plain text; DISABLE: plain text only."""
    secure = {"name": f"{port}-mtls",
              "filter_chain_match": {"destination_port": port, "transport_protocol": "tls",
                                     "application_protocols": ISTIO_ALPN},
              "transport_socket": downstream_tls(
                  trust_domain, ("http/1.1",) if http else ISTIO_ALPN_TCP, sds_cluster),
              "filters": filters}
    if mode == "STRICT":
        del secure["filter_chain_match"]["application_protocols"]
        return [secure]
    plain = {"name": f"{port}-plain",
             "filter_chain_match": {"destination_port": port, "transport_protocol": "raw_buffer"},
             "filters": filters}
    return [plain] if mode == "DISABLE" else [secure, plain]


def virtual_inbound(chains, address="0.0.0.0", port=INBOUND_PORT, **more):
    """virtual_inbound takes what comes for the pod; ports without chains pass through."""
    return {"name": "virtualInbound", "address": xds.socket_address(address, port),
            "traffic_direction": "INBOUND", "listener_filters_timeout": "0s",
            "continue_on_listener_filters_timeout": True,
            "listener_filters": [
                {"name": "envoy.filters.listener.original_dst",
                 "typed_config": {"@type": "OriginalDst"}},
                {"name": "envoy.filters.listener.tls_inspector",
                 "typed_config": {"@type": "TlsInspector"}}],
            "filter_chains": [
                {"name": "virtualInbound-blackhole",
                 "filter_chain_match": {"destination_port": port},
                 "filters": [tcp_proxy("BlackHoleCluster")]},
                {"name": "virtualInbound-catchall",
                 "filters": [tcp_proxy("InboundPassthroughCluster")]}, *chains], **more}


# --- clusters -------------------------------------------------------------------------------------
# Istio's unlimited circuit breakers: thresholds are set where they are wanted.
UNLIMITED = {"thresholds": [{"max_connections": 4294967295, "max_pending_requests": 4294967295,
                             "max_requests": 4294967295, "max_retries": 4294967295}]}


def eds_cluster(name, transport_socket=None, service_name=None, **more):
    """eds_cluster is an outbound cluster; its endpoints come by EDS over ADS."""
    eds = {"eds_config": xds.ADS}
    if service_name:
        eds["service_name"] = service_name
    cluster = {"name": name, "type": "EDS", "connect_timeout": "2s", "lb_policy": "LEAST_REQUEST",
               "eds_cluster_config": eds, "circuit_breakers": UNLIMITED, **more}
    if transport_socket:
        cluster["transport_socket"] = transport_socket
    return cluster


def original_dst_cluster(name, bind=None, **more):
    """original_dst_cluster connects to where the connection was going, from `bind` if given."""
    cluster = {"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
               "connect_timeout": "2s", "circuit_breakers": UNLIMITED, **more}
    if bind:
        cluster["upstream_bind_config"] = {"source_address": {"address": bind, "port_value": 0}}
    return cluster


def static_cluster(name, endpoints, bind=None, **more):
    """static_cluster has fixed (address, port) endpoints."""
    cluster = {"name": name, "type": "STATIC", "connect_timeout": "2s",
               "load_assignment": xds.load_assignment(name, endpoints), **more}
    if bind:
        cluster["upstream_bind_config"] = {"source_address": {"address": bind, "port_value": 0}}
    return cluster


def default_clusters():
    """default_clusters are those every sidecar has."""
    return [{"name": "BlackHoleCluster", "type": "STATIC", "connect_timeout": "2s"},
            original_dst_cluster("PassthroughCluster"),
            original_dst_cluster("InboundPassthroughCluster", INBOUND_BIND)]
