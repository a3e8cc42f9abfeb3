"""A control plane for the demo and the end-to-end tests.

It serves ADS, and each type on streams of its own, state of the world or incremental as the client
asks, on any number of TCP or Unix addresses, is its own certificate authority, and writes down
every request it gets, so that a test can assert on the transcript.

    from controlplane import ControlPlane, xds

    cp = ControlPlane()                                  # 127.0.0.1, a free port
    cp.start()
    cp.set("Cluster", [xds.message("Cluster", {...})])   # for every node
    cp.set("Listener", [...], node="sidecar~...")        # for one node only
    version = cp.set("RouteConfiguration", [...])
    cp.wait_ack("RouteConfiguration", version)
    cp.stop(); cp.start()                                # the same port, the same resources

Modules: `server` (the protocol), `delta` (its incremental part), `xds` (messages from dictionaries, bootstrap), `ca` (identities
and secrets), `mesh` (the listeners and clusters of a sidecar, shaped as Istio shapes them).
"""

from .ca import Authority, Identity
from .server import ControlPlane, Raw

__all__ = ["Authority", "ControlPlane", "Identity", "Raw"]
