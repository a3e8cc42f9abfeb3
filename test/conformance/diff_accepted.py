"""Differences to Envoy that stay, each with its reason. A rule is a function of (request, part, our
value, Envoy's value, our result, Envoy's result) and names its reason; `used` counts what each took."""

import collections

RULES = []
used = collections.Counter()


def rule(text):
    """rule registers a function under its reason."""
    def register(function):
        RULES.append((text, function))
        return function
    return register


def reason(entry, ours, theirs):
    """reason is why a difference is accepted, or None."""
    _, request, part, one, two = entry
    for text, function in RULES:
        if function(request, part, one, two, ours[request.id], theirs[request.id]):
            used[text] += 1
            return text
    return None


def _without(headers, *names):
    return [field for field in headers if field[0] not in names]


@rule("HEAD answered by the proxy without a body: Envoy announces a chunked one")
def _head(request, part, one, two, *_):
    return part == "response headers" and request.method == "HEAD" and (
        _without(two, "transfer-encoding") == one)


@rule("413 of the buffer filter when the whole request is there: Envoy closes the connection")
def _too_large(request, part, one, two, ours, theirs):
    return part == "response headers" and theirs.log.get("details") == "request_payload_too_large" and (
        _without(two, "connection") == one)
