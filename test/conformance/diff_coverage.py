"""Which fields of routes the generated configurations use, and how many outcomes they have in Envoy."""

import collections

import peers  # noqa: F401  (sets the path to controlplane)
from controlplane import xds
from diff_config import LATER

ROUTES = "envoy.config.route.v3."
CONFIGURATIONS = 3
OUTCOMES = 2

# Fields that no configuration uses, each with the reason.
LEFT_OUT = {
    "VirtualHost.virtual_clusters": "statistics only",
    "VirtualCluster.": "statistics only",
    "VirtualHost.rate_limits": "the filter comes with the rate limit service",
    "RouteAction.rate_limits": "the filter comes with the rate limit service",
    "RouteAction.include_vh_rate_limits": "deprecated, and of the rate limit filter",
    "RateLimit": "the filter comes with the rate limit service",
    "RouteAction.RequestMirrorPolicy.trace_sampled": "comes with tracing",
    "WeightedCluster.runtime_key_prefix": "runtime keys come with the configuration issue",
    "Route.stat_prefix": "statistics only",
    "Tracing.": "comes with tracing", "Route.tracing": "comes with tracing",
    "RouteConfiguration.vhds": "comes with the configuration issue", "Vhds.": "the same",
    "VirtualHost.cors": "deprecated: the filter's own message", "RouteAction.cors": "deprecated",
    "CorsPolicy.": "deprecated",
    "VirtualHost.per_request_buffer_limit_bytes": "deprecated",
    "Route.per_request_buffer_limit_bytes": "deprecated",
    "WeightedCluster.total_weight": "deprecated",
    "RouteAction.internal_redirect_action": "deprecated",
    "RouteAction.max_internal_redirects": "deprecated",
    "VirtualHost.retry_policy_typed_config": "Envoy 1.40 has no extension of this kind",
    "RouteAction.retry_policy_typed_config": "Envoy 1.40 has no extension of this kind",
    "RetryPolicy.retry_options_predicates": "Envoy 1.40 has no extension of this kind",
    "RouteAction.early_data_policy": "of HTTP/3 upstreams",
    "RouteAction.flush_timeout": "shows with a client that reads nothing only (test/e2e)",
    "RouteAction.UpgradeConfig.connect_config": "CONNECT has its own tests (test/e2e)",
    "RouteAction.UpgradeConfig.ConnectConfig.": "CONNECT has its own tests (test/e2e)",
    "RouteMatch.connect_matcher": "CONNECT has its own tests (test/e2e)",
    "RouteMatch.ConnectMatcher.": "CONNECT has its own tests (test/e2e)",
    "Route.filter_action": "of a filter that Envoy 1.40 does not have", "FilterAction.": "the same",
    "ClusterSpecifierPlugin.is_optional": "of extensions that are not there",
}

if "subsets" in LATER:
    LEFT_OUT.update({f"{name}.metadata_match": "chooses among the hosts of a subset, which come with the "
                     "load balancers" for name in ("RouteAction", "WeightedCluster.ClusterWeight")})


def _walk(descriptor, value, found):
    """Adds the fields that are set; keys that the descriptors here do not know yet count too."""
    name = descriptor.full_name.removeprefix(ROUTES)
    for key, inner in value.items():
        if key == "@type":
            continue
        found.add(f"{name}.{key}")
        field = descriptor.fields_by_name.get(key)
        if not field or not field.message_type or not field.message_type.full_name.startswith(ROUTES):
            continue
        if field.message_type.GetOptions().map_entry:
            continue
        for item in inner if isinstance(inner, list) else [inner]:
            if isinstance(item, dict):
                _walk(field.message_type, item, found)


def fields_of(config):
    """fields_of are the names Message.field that a configuration sets."""
    found = set()
    _walk(xds.message_class("RouteConfiguration").DESCRIPTOR, config.route_config(), found)
    return found


def every_field():
    """every_field are all of RouteConfiguration and what is below it."""
    names, seen, todo = set(), set(), [xds.message_class("RouteConfiguration").DESCRIPTOR]
    while todo:
        descriptor = todo.pop()
        if descriptor.full_name in seen or descriptor.GetOptions().map_entry:
            continue
        seen.add(descriptor.full_name)
        for field in descriptor.fields:
            names.add(f"{descriptor.full_name.removeprefix(ROUTES)}.{field.name}")
            if field.message_type and field.message_type.full_name.startswith(ROUTES):
                todo.append(field.message_type)
    return names | {"RouteMatch.cookies"}  # younger than the descriptors


def left_out(name):
    """left_out is the reason why no configuration has the field; None if one must."""
    return next((why for prefix, why in LEFT_OUT.items()
                 if name == prefix or (prefix[-1] == "." or prefix == "RateLimit") and
                 name.startswith(prefix)), None)


def table(configs, results):
    """table is (rows of (field, configurations, outcomes in Envoy), the fields with too few)."""
    used, outcomes = collections.Counter(), collections.defaultdict(set)
    for config in configs:
        for name in fields_of(config):
            used[name] += 1
            outcomes[name] |= {results[r.id].outcome() for r in config.requests}
    rows = [(name, used[name], len(outcomes[name])) for name in sorted(every_field() | set(used))
            if not left_out(name)]
    return rows, [r for r in rows if r[1] < CONFIGURATIONS or r[2] < OUTCOMES]
