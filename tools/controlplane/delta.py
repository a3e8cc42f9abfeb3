"""What a stream of incremental xDS asked for of one type, and what it is to be told."""

from . import xds

RESPONSE = "envoy.service.discovery.v3.DeltaDiscoveryResponse"
RESOURCE = "envoy.service.discovery.v3.Resource"


class Subscription:
    """The same attributes as for state of the world, and what the client has."""

    def __init__(self):
        self.names = ()       # subscribed to by name, in order of asking
        self.wildcard = False
        self.nonce = ""       # of the last response
        self.nonces = {}      # of every response -> its version
        self.version = None   # of the last response
        self.has = {}         # name -> version

    def take(self, request, first):
        """take notes a request and returns the names that are new (a set; None: all)."""
        before = self.wildcard, set(self.names)
        asked = list(request.resource_names_subscribe)
        if first:
            self.has = dict(request.initial_resource_versions)
        if "*" in asked or (first and not asked):
            self.wildcard = True
        gone = set(request.resource_names_unsubscribe)
        if "*" in gone:
            self.wildcard = False
        names = [n for n in self.names if n not in gone]
        self.names = tuple(names + [n for n in asked if n != "*" and n not in names])
        for name in gone:
            self.has.pop(name, None)
        if self.wildcard and not before[0]:
            return None
        # A name that is asked for again is answered again, unless the client said what it has.
        return {n for n in asked if n != "*"}

    def wants(self, name):
        return self.wildcard or name in self.names

    def changes(self, resources, versions, force=()):
        """changes are the resources ({name: Any}) that the client does not have in these versions,
        or that are in `force`, and the names of those that it has and that are gone."""
        changed = {n: r for n, r in resources.items() if self.wants(n)
                   and (n in force or self.has.get(n) != versions[n])}
        return changed, [n for n in self.has if n not in resources]

    def sent(self, resources, versions, removed):
        for name in resources:
            self.has[name] = versions.get(name, "")
        for name in removed:
            self.has.pop(name, None)


def response(kind, version, nonce, resources, versions, removed, type_url=None):
    """response is a DeltaDiscoveryResponse; a resource is an Any, or a whole Resource."""
    out = xds.message_class(RESPONSE)(
        system_version_info=version, nonce=nonce, type_url=type_url or xds.type_url(kind),
        removed_resources=removed)
    for name, packed in resources:
        if packed.DESCRIPTOR.full_name == RESOURCE:
            out.resources.append(packed)
        else:
            out.resources.add(name=name, version=versions.get(name, version), resource=packed)
    return out
