"""What a generated configuration of the differential run is made of: listeners with routes, and the
requests that are sent to them."""

import copy

import peers  # noqa: F401  (sets the path to controlplane)
from controlplane import mesh

URL = "type.googleapis.com/"
# Kinds of clusters that Attaché does not take yet: no configuration uses them. Take a name out when
# its kind works.
LATER = ("ring", "maglev", "subsets", "dns")
ROUTER = {"name": "envoy.filters.http.router", "typed_config": {"@type": "Router"}}
# What the log says of a request; %REQ(X-TEST-ID)% tells which.
LOG = {"id": "%REQ(X-TEST-ID)%", "code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%",
       "details": "%RESPONSE_CODE_DETAILS%", "cluster": "%UPSTREAM_CLUSTER%",
       "route": "%ROUTE_NAME%", "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
       "path": "%REQ(:PATH)%", "original": "%REQ(X-ENVOY-ORIGINAL-PATH)%"}
# Where a default of Attaché differs on purpose (docs/differences.md) the value is written out.
EXPLICIT = {"normalize_path": False, "request_headers_timeout": "30s", "stream_idle_timeout": "60s",
            "generate_request_id": True, "use_remote_address": False, "server_name": "proxy"}


class Request:
    """One request: `headers` are (name, value) pairs; `group` marks those whose upstream is chosen at
    random, to be compared as a distribution only."""

    def __init__(self, path, method, headers, host, body, group, again):
        self.path, self.method, self.headers = path, method, list(headers)
        self.host, self.body, self.group, self.again = host, body, group, again
        self.id, self.features = None, []

    def __repr__(self):
        return f"{self.method} {self.path} Host: {self.host} {self.headers}"


class Config:
    """One listener. Features add routes, virtual hosts and requests."""

    def __init__(self, number, rng, turns):
        self.number, self.rng, self.turns = number, rng, turns
        self.name = f"c{number}"
        self.hcm = copy.deepcopy(EXPLICIT)
        self.filters, self.plugins = [], []
        self.vhost = {"name": "main", "domains": ["*"], "routes": []}
        self.vhosts = [self.vhost]
        self.table = {"name": f"t{number}", "validate_clusters": False}
        self.requests, self.features = [], []

    def turn(self, key, options):
        """turn is the next of the options, over all configurations: each comes as often as another."""
        self.turns[key] += 1
        return options[self.turns[key] % len(options)]

    def route(self, match, action=None, **more):
        """route adds one; `action` is a RouteAction, {"redirect": ...} and the like come in `more`."""
        entry = {"match": match, **more}
        if action is not None:
            entry["route"] = {"timeout": "5s", **action}
        self.vhost["routes"].append(entry)
        return entry

    def ask(self, path, headers=(), method="GET", host="main.test", body=None, group=None, again=True):
        """ask adds a request; `again`: it may be repeated with another method."""
        self.requests.append(Request(path, method, headers, host, body, group, again))

    def listener(self, folder_log):
        filters = [{"name": f"f{i}", "typed_config": f} for i, f in enumerate(self.filters)]
        filters.append(ROUTER)
        hosts = copy.deepcopy(self.vhosts)
        for host in hosts:
            for entry in host["routes"]:
                entry.get("route", {}).pop("_", None)
        manager = mesh.hcm(self.name, route_config={**self.table, "virtual_hosts": hosts},
                           log=folder_log, **{**self.hcm, "http_filters": filters})
        manager["typed_config"]["access_log"] = mesh.access_log(
            folder_log, {**LOG, "config": self.name})
        return {"name": self.name, "address": {"socket_address": {
            "address": "127.0.0.1", "port_value": 0}},
            "per_connection_buffer_limit_bytes": 1048576,
            "filter_chains": [{"filters": [manager]}]}

    def route_config(self):
        return {**self.table, "virtual_hosts": self.vhosts}


def typed(name, /, **fields):
    """typed is an Any of the full message name."""
    return {"@type": URL + name, **fields}


def extension(name, type_name, /, **fields):
    """extension is a TypedExtensionConfig."""
    return {"name": name, "typed_config": typed(type_name, **fields)}
