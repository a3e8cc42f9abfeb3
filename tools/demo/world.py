"""What the demo's world is: names, addresses, and the settings that the steps change.

The settings live in one JSON file. The control plane watches it and pushes what follows from it;
killed and started anew it finds the mesh as it was.
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from controlplane import mesh, xds  # noqa: E402

RUN = "/run/attache-demo"  # on a tmpfs of the demo's own mount namespace
SETTINGS = f"{RUN}/mesh.json"
TRANSCRIPT = f"{RUN}/control/transcript.jsonl"
IDENTITIES = f"{RUN}/control/identities.json"
CA_FOLDER = f"{RUN}/control/ca"

BRIDGE = "mesh0"
CONTROL = "10.77.0.1"
XDS_PORT = 15010
ADMIN_PORT = 15000
PROXY_UID = 1337
WEB_PORT = 8080
REDIS_PORT = 6379
WEB_VIP, REDIS_VIP = "10.77.200.1", "10.77.200.2"
WEB, REDIS = "web.demo.svc.cluster.local", "redis.demo.svc.cluster.local"
POD_ADDRESS = {"client": "10.77.0.10", "server-v1": "10.77.0.21", "server-v2": "10.77.0.22"}
V1, V2 = "server-v1", "server-v2"
HOSTS = f"127.0.0.1 localhost\n{WEB_VIP} {WEB} web.demo web\n{REDIS_VIP} {REDIS} redis.demo redis\n"

DEFAULTS = {
    "weights": {"v1": 90, "v2": 10},
    "certificates": 1,       # a new number: new certificates for everyone
    "outlier": False,        # eject a host after three 5xx in a row
    "bad_cluster": False,    # push a cluster that cannot be right
}


def node_id(pod):
    return f"sidecar~{POD_ADDRESS[pod]}~{pod}.demo~demo.svc.cluster.local"


def folder(pod):
    return f"{RUN}/pods/{pod}"


def sds_socket(pod):
    return f"{folder(pod)}/sds.sock"


def spiffe(pod):
    return f"spiffe://cluster.local/ns/demo/sa/{pod}"


def write_file(path, text):
    """write_file replaces a file whole."""
    with open(path + ".new", "w", encoding="utf-8") as out:
        out.write(text)
    os.replace(path + ".new", path)


def read_settings():
    with open(SETTINGS, encoding="utf-8") as src:
        return {**DEFAULTS, **json.load(src)}


def change_settings(**changes):
    write_file(SETTINGS, json.dumps({**read_settings(), **changes}, indent=2) + "\n")


def bootstrap(pod):
    return xds.bootstrap(node_id(pod), f"{CONTROL}:{XDS_PORT}", sds=f"unix:{sds_socket(pod)}",
                         admin=("127.0.0.1", ADMIN_PORT), cluster=f"{pod}.demo",
                         metadata={"NAME": pod, "NAMESPACE": "demo", "INTERCEPTION_MODE": "REDIRECT"})


# --- what each pod is told ------------------------------------------------------------------------
def log_path(pod):
    return f"{folder(pod)}/access.log"


def cluster_name(port, host, subset=""):
    return f"outbound|{port}|{subset}|{host}"


# What the breaker of the slow service lets through: connections, and requests that wait for one.
SLOW_CONNECTIONS, SLOW_PENDING = 4, 4


def _web_cluster(subset, pods, **more):
    name = cluster_name(80, WEB, subset)
    sni = f"outbound_.80_.{subset}_.{WEB}"
    return mesh.eds_cluster(name, mesh.upstream_tls(sni, [spiffe(p) for p in pods]), **more)


def client_resources(settings):
    """client_resources are the sets for the client's sidecar, as {kind: {name: dictionary}}."""
    both = {"lb_policy": "ROUND_ROBIN"}
    if settings["outlier"]:
        both["outlier_detection"] = {
            "consecutive_5xx": 3, "interval": "0.2s", "base_ejection_time": "2s",
            "max_ejection_percent": 50, "enforcing_consecutive_5xx": 100,
            "enforcing_success_rate": 0}
    breaker = {"thresholds": [{"max_connections": SLOW_CONNECTIONS,
                               "max_pending_requests": SLOW_PENDING, "max_requests": 1024}]}
    redis = cluster_name(REDIS_PORT, REDIS)
    clusters = [
        *mesh.default_clusters(),
        _web_cluster("v1", [V1]), _web_cluster("v2", [V2]),
        _web_cluster("", [V1, V2], **both),
        _web_cluster("slow", [V2], circuit_breakers=breaker),
        mesh.eds_cluster(redis, mesh.upstream_tls(
            f"outbound_.{REDIS_PORT}_._.{REDIS}", [spiffe(V2)], mesh.ISTIO_ALPN_TCP)),
    ]
    if settings["bad_cluster"]:
        clusters.append({**_web_cluster("bad", [V1]), "connect_timeout": "-1s"})
    endpoints = [
        xds.load_assignment(cluster_name(80, WEB, subset),
                            [(POD_ADDRESS[p], WEB_PORT) for p in pods])
        for subset, pods in (("v1", [V1]), ("v2", [V2]), ("", [V1, V2]), ("slow", [V2]))]
    endpoints.append(xds.load_assignment(redis, [(POD_ADDRESS[V2], REDIS_PORT)]))
    log = log_path("client")
    listeners = [
        mesh.virtual_outbound(), mesh.virtual_inbound([]),
        mesh.outbound_listener("0.0.0.0", 80, [mesh.hcm("outbound_0.0.0.0_80;", rds="80",
                                                        log=log)]),
        mesh.outbound_listener(REDIS_VIP, REDIS_PORT, [mesh.tcp_proxy(redis, log=log)]),
    ]
    split = {cluster_name(80, WEB, v): w for v, w in settings["weights"].items()}
    routes = mesh.route_config("80", [
        mesh.route(split, "/split", retry_policy=mesh.RETRIES),
        mesh.route(cluster_name(80, WEB), "/both", retry_policy=mesh.RETRIES),
        mesh.route(cluster_name(80, WEB, "slow"), "/slow"),
    ], domains=(WEB, "web.demo", "web", WEB_VIP))
    routes["virtual_hosts"].append({"name": "allow_any", "domains": ["*"],
                                    "routes": [mesh.route("PassthroughCluster")]})
    return _named(Cluster=clusters, ClusterLoadAssignment=endpoints, Listener=listeners,
                  RouteConfiguration=[routes])


def server_resources(pod):
    """server_resources are the sets for a server's sidecar: server-v1 also takes plain text."""
    log = log_path(pod)
    web, redis = f"inbound|{WEB_PORT}||", f"inbound|{REDIS_PORT}||"
    chains = mesh.inbound_chains(
        WEB_PORT, [mesh.hcm(f"inbound_0.0.0.0_{WEB_PORT};", log=log, route_config=mesh.route_config(
            web, [mesh.route(web)]))], "PERMISSIVE" if pod == V1 else "STRICT")
    clusters = [*mesh.default_clusters(), mesh.original_dst_cluster(web, mesh.INBOUND_BIND)]
    if pod == V2:
        chains += mesh.inbound_chains(REDIS_PORT, [mesh.tcp_proxy(redis, log=log)], "STRICT",
                                      http=False)
        clusters.append(mesh.static_cluster(redis, [("127.0.0.1", REDIS_PORT)],
                                            mesh.INBOUND_BIND))
    return _named(Cluster=clusters, ClusterLoadAssignment=[], RouteConfiguration=[],
                  Listener=[mesh.virtual_outbound(), mesh.virtual_inbound(chains)])


def _named(**sets):
    return {kind: [xds.message(kind, r) for r in resources] for kind, resources in sets.items()}


def resources(pod, settings):
    return client_resources(settings) if pod == "client" else server_resources(pod)
