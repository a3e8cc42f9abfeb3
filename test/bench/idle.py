"""Resident memory at rest with what the demo gives a sidecar: listeners, routes, clusters and
endpoints over ADS from the demo's own control plane, certificates over SDS on a Unix socket.

The sidecar here is the client and a server of the demo in one: everything the demo pushes to any
pod. It carries no traffic.
"""

import json
import os
import sys
import time

import contenders as cont

SETTLE_S = 3.0
NODE = "sidecar~127.0.0.1~bench.demo~demo.svc.cluster.local"


def control_plane_package():
    """The demo's control plane, or None where its Python environment is not."""
    tools = os.path.join(os.path.dirname(os.path.dirname(cont.HERE)), "tools")
    sys.path.insert(0, tools)
    try:
        import controlplane  # pylint: disable=import-outside-toplevel
        from controlplane import mesh, xds  # pylint: disable=import-outside-toplevel
    except ImportError:
        return None
    return controlplane, mesh, xds


def resources(package, authority, ports, log):
    """Everything the sidecar is sent, by kind."""
    _, mesh, xds = package
    peer = authority.spiffe("server")
    tls = mesh.upstream_tls("outbound_.80_._.server.demo.svc.cluster.local", [peer])
    versions = ["server-v1", "server-v2"]
    listeners = [
        mesh.virtual_outbound("127.0.0.1", ports["outbound"]),
        mesh.outbound_listener("127.0.0.1", 80, [mesh.hcm("outbound_80", rds="80", log=log)]),
        mesh.outbound_listener("127.0.0.2", 6379, [mesh.tcp_proxy("redis", log=log)]),
        mesh.virtual_inbound(
            mesh.inbound_chains(8080, [mesh.hcm("inbound_8080", route_config=mesh.route_config(
                "inbound|8080||", [mesh.route("inbound|8080||")]), log=log)])
            + mesh.inbound_chains(6379, [mesh.tcp_proxy("inbound|6379||", log=log)], "STRICT",
                                  http=False),
            "127.0.0.1", ports["inbound"])]
    routes = [mesh.route_config("80", [mesh.route({"server-v1": 90, "server-v2": 10},
                                                  retry_policy=mesh.RETRIES)])]
    clusters = [*mesh.default_clusters(),
                mesh.static_cluster("inbound|8080||", [("127.0.0.1", 8080)], mesh.INBOUND_BIND),
                mesh.static_cluster("inbound|6379||", [("127.0.0.1", 6379)], mesh.INBOUND_BIND),
                *[mesh.eds_cluster(name, tls) for name in (*versions, "redis")]]
    endpoints = [xds.load_assignment(name, [("127.0.0.1", 15999)]) for name in (*versions, "redis")]
    return {"Listener": [xds.message("Listener", row) for row in listeners],
            "RouteConfiguration": [xds.message("RouteConfiguration", row) for row in routes],
            "Cluster": [xds.message("Cluster", row) for row in clusters],
            "ClusterLoadAssignment": [xds.message("ClusterLoadAssignment", row)
                                      for row in endpoints],
            "Secret": [authority.secret_identity(authority.issue(authority.spiffe("client"))),
                       authority.secret_roots()]}


def measure(package, row, tmp, core):
    """(resident KiB, proportional KiB) of one contender at rest."""
    controlplane, _, xds = package
    authority = controlplane.Authority()
    ports = {"outbound": cont.free_port(), "inbound": cont.free_port(), "admin": cont.free_port()}
    socket_path = os.path.join(tmp, "sds.sock")
    log = os.path.join(tmp, f"{row.name}_idle_access.log")
    plane = controlplane.ControlPlane("127.0.0.1:0", f"unix:{socket_path}")
    versions = plane.set_all(resources(package, authority, ports, log))
    with plane:
        conf = os.path.join(tmp, f"{row.name}_idle.json")
        with open(conf, "w", encoding="utf-8") as file:
            json.dump(xds.bootstrap(NODE, f"127.0.0.1:{plane.port}", f"unix:{socket_path}",
                                    admin=("127.0.0.1", ports["admin"])), file)
        argv = [row.program, *[cont.fill(arg, {"CONF": conf}) for arg in row.argv]]
        process = cont.Process(row.name, argv, os.path.join(tmp, f"{row.name}_idle.log"), core)
        try:
            process.wait_port(ports["inbound"])
            process.wait_port(ports["outbound"])
            for kind in ("Cluster", "Listener", "RouteConfiguration", "ClusterLoadAssignment"):
                plane.wait_ack(kind, versions[kind])
            time.sleep(SETTLE_S)
            return process.memory_kib()
        except TimeoutError as error:
            raise cont.BenchError(f"{row.name} at rest: {error}\n{process.said()}") from error
        finally:
            process.stop()
