"""The differential run in full, for docs/conformance.md."""

import collections
import os

import diff_accepted
import diff_coverage
import diff_run
import peers

CONFIGURATIONS = 300
EXAMPLES = 40


def report(folder):
    configs = diff_run.generate(CONFIGURATIONS)
    refused, usable, without = diff_run.refusals(configs, os.path.join(folder, "validate"))
    diff_accepted.used.clear()
    found, theirs, again = diff_run.differences(usable, folder, without)
    rows, poor = diff_coverage.table(usable, theirs)
    requests = sum(len(c.requests) for c in usable)
    different = {request.id for _, request, *_ in found}
    lines = [
        f"{len(configs)} generated listeners with route tables, {diff_run.REQUESTS} requests each or "
        f"more, in Envoy {peers.version('envoy')} and Attaché {peers.version('attache')}: status, "
        "response headers and body, cluster, and what the upstreams saw of path, headers and body, "
        "response flags, response code details, route name and attempts from the access log.", "",
        f"{len(usable)} of the {len(configs)} configurations are taken by Attaché whole; of their "
        f"{requests} requests {len(different)} differ. {again} configurations were played again, because of "
        "times that pass at another moment on a busy machine; what differs each time counts.", ""]
    chosen = {name: diff_run.shares(name, os.path.join(folder, name + "-shares"))
              for name in ("attache", "envoy")}
    wrong = [path for path, share in chosen["attache"].items() if not diff_run.share_is_right(path, share)]
    lines += [f"Choices at random, {diff_run.SAMPLES} requests each:", "",
              "| | configured | Attaché | Envoy |", "|---|---|---|---|"]
    lines += [f"| {path} | {want:.3f} | {chosen['attache'][path]:.3f} | {chosen['envoy'][path]:.3f} |"
              for path, (_, _, want) in diff_run.SHARES.items()] + [""]
    if refused:
        lines += ["Not taken yet:", "", "| field | configurations |", "|---|---|"]
        lines += [f"| `{field}` | {len(names)} |" for field, names in sorted(refused.items())] + [""]
    if found:
        kinds = collections.Counter((_feature(c, r), part) for c, r, part, *_ in found)
        lines += ["Differences:", "", "| feature | what | requests |", "|---|---|---|"]
        lines += [f"| {name} | {part} | {count} |" for (name, part), count in sorted(kinds.items())]
        lines += [""]
    if diff_accepted.used:
        lines += ["Differences that stay:", "", "| why | values |", "|---|---|"]
        lines += [f"| {why} | {count} |" for why, count in sorted(diff_accepted.used.items())] + [""]
    lines += [f"Fields: each occurs in at least {diff_coverage.CONFIGURATIONS} configurations with at "
              f"least {diff_coverage.OUTCOMES} outcomes in Envoy" +
              (", except " + ", ".join(f"`{name}`" for name, *_ in poor) if poor else "") + ".", "",
              "| field | configurations | outcomes |", "|---|---|---|"]
    lines += [f"| {name} | {number} | {outcomes} |" for name, number, outcomes in rows]
    return lines, requests - len(different), (
        len(different) + len(configs) - len(usable) + len(poor) + len(wrong))


def _feature(config, request):
    """The feature that a request is of, by the letter in its path or host."""
    text = (request.path + " " + request.host).lower()
    for letter, name in zip(diff_run.LETTERS, config.features):
        if f"f{config.number}{letter}" in text:
            return name
    return "?"
