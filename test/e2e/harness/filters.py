"""Short forms for tests of HTTP filters."""

import json
import subprocess

from controlplane import mesh, xds

from .proxy import SANITIZER, cluster, http_listener, static

TYPES = "type.googleapis.com/envoy.extensions.filters.http"
ROUTER = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.router.v3.Router"}}


def http_filter(name, message, **config):
    """http_filter is an entry of http_filters: http_filter("cors", "cors.v3.Cors")."""
    return {"name": f"envoy.filters.http.{name}",
            "typed_config": {"@type": f"{TYPES}.{message}", **config}}


def override(name, message, **config):
    """override is a typed_per_filter_config of one filter, to be merged into a route."""
    return {"typed_per_filter_config": {f"envoy.filters.http.{name}":
                                        {"@type": f"{TYPES}.{message}", **config}}}


def routed(prefix, over, to="up"):
    """routed is a route with an override()."""
    return {**mesh.route(to, prefix=prefix), **over}


def always(percent=100):
    """always is a runtime fraction's default value."""
    return {"default_value": {"numerator": percent}}


def bootstrap_with(upstream, filters, routes=None, hcm=None, clusters=None, vhost=None, table=None):
    """bootstrap_with has one HTTP listener, these filters and the cluster "up". `vhost` and `table`
    are further fields of the virtual host and of the route table."""
    log = None if hcm and "access_log" in hcm else "access.log"
    listener = http_listener(routes or [mesh.route("up")], log=log,
                             hcm={"http_filters": [*filters, ROUTER], **(hcm or {})})
    config = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]
    config.update(table or {})
    config["virtual_hosts"][0].update(vhost or {})
    return static([listener], clusters or [cluster("up", upstream)])


def start_with(start, upstream, filters, routes=None, hcm=None, clusters=None, vhost=None, table=None,
               **more):
    """start_with starts a proxy with bootstrap_with()."""
    return start(bootstrap_with(upstream, filters, routes, hcm, clusters, vhost, table), **more)


def refusal(binary, folder, filters, routes=None):
    """refusal is what a proxy says of a configuration that it must refuse."""
    path = folder / "bootstrap.json"
    config = {"node": {"id": "n", "cluster": "c"},
              **bootstrap_with(("127.0.0.1", 1), filters, routes)}
    path.write_text(json.dumps(xds._expand(config)))
    done = subprocess.run([binary[0], "-c", str(path), "--mode", "validate"], timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 1 and not SANITIZER.search(done.stdout), done.stdout
    return done.stdout
