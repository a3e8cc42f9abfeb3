"""The demo's control plane, one process: ADS for all pods on TCP, the certificate authority, and
for each pod SDS on a Unix socket of its own, so that a private key never crosses the network.

It watches the settings file and pushes what changed, and writes down all it hears.
"""

import dataclasses
import json
import os
import time

import world
from controlplane import Authority, ControlPlane

POLL_SECONDS = 0.03


class Control:
    def __init__(self):
        self.authority = Authority(folder=world.CA_FOLDER)
        self.transcript = open(world.TRANSCRIPT, "a", encoding="utf-8")
        self.ads = ControlPlane(f"{world.CONTROL}:{world.XDS_PORT}", on_event=self.write_down)
        self.sds = {pod: ControlPlane(f"unix:{world.sds_socket(pod)}", on_event=self.write_down)
                    for pod in world.POD_ADDRESS}
        self.pushed = {}        # (pod, kind) -> the serialized resources
        self.certificates = None

    def write_down(self, event):
        fields = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)
                  if f.name != "message"}
        json.dump({"event": type(event).__name__, **fields}, self.transcript)
        self.transcript.write("\n")
        self.transcript.flush()

    def issue(self, generation):
        serials = {}
        for pod, server in self.sds.items():
            identity = self.authority.issue(world.spiffe(pod))
            serials[pod] = identity.serial
            server.set("Secret", [self.authority.secret_identity(identity),
                                  self.authority.secret_roots()])
        # A certificate for a caller outside of the mesh's pods, to look at what a server shows.
        probe = self.authority.issue(world.spiffe("probe"))
        probe.write(os.path.dirname(world.IDENTITIES))
        world.write_file(world.IDENTITIES, json.dumps({"generation": generation, **serials}))
        self.certificates = generation

    def apply(self, settings):
        if settings["certificates"] != self.certificates:
            self.issue(settings["certificates"])
        for pod in world.POD_ADDRESS:
            changed = {}
            for kind, resources in world.resources(pod, settings).items():
                data = [r.SerializeToString(deterministic=True) for r in resources]
                if self.pushed.get((pod, kind)) != data:
                    self.pushed[pod, kind] = data
                    changed[kind] = resources
            if changed:
                self.ads.set_all(changed, node=world.node_id(pod))

    def run(self):
        self.apply(world.read_settings())
        for pod, server in self.sds.items():
            server.start()
            os.chown(world.sds_socket(pod), world.PROXY_UID, world.PROXY_UID)
            os.chmod(world.sds_socket(pod), 0o600)
        self.ads.start()
        seen = None
        while True:
            stamp = os.stat(world.SETTINGS).st_mtime_ns
            if stamp != seen:
                seen = stamp
                self.apply(world.read_settings())
            time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    Control().run()
