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


@rule("an upgrade that the server does not take: its answer is an ordinary response (RFC 9110 7.8); Envoy "
      "cuts its body off and closes")
def _no_upgrade(request, part, one, two, ours, theirs):
    return theirs.log.get("details") == "websocket_handshake_unsuccessful" and (
        ours.status == theirs.status and part in ("response headers", "body", "log details"))


@rule("204 has no body (RFC 9110 15.3.5): Envoy sends that of the configuration")
def _no_content(request, part, one, two, ours, theirs):
    return ours.status == 204 and part in ("response headers", "body", "status")


@rule("a safe request on a pooled connection that ends before a byte of the response is sent once more, "
      "whatever the retry policy (RFC 9110 9.2.2, RFC 9112 9.3.1): it may have been closed for being idle")
def _sent_again(request, part, one, two, ours, theirs):
    answers = dict(request.headers).get("x-test-answers", "")
    return answers.startswith("reset") and request.method == "GET" and (
        len(ours.upstream) > int(ours.log.get("attempts") or 0))


@rule("a refusal in one of the codecs, before the fields are known: the log's entry cannot be found by its id")
def _refused_by_a_codec(request, part, one, two, ours, theirs):
    return part.startswith("log ") and ours.status == theirs.status == 400 and (
        "no" in ours.log or "no" in theirs.log)


@rule("a target with a fragment (RFC 9112 3.2.1) is refused by the codec, as what is not HTTP/1 always is: "
      "with a body, and without date and server")
def _fragment(request, part, one, two, ours, theirs):
    return "#" in request.path and ours.status == theirs.status == 400 and (
        part in ("response headers", "body"))


@rule("an internal redirect that a predicate refuses: Envoy's log names the route and the cluster of its "
      "target, though the request went to the first one only")
def _refused_redirect(request, part, one, two, ours, theirs):
    return part in ("log route", "log cluster") and ours.status == theirs.status and (
        300 < int(ours.status) < 309 and len(ours.upstream) == len(theirs.upstream) == 1)


@rule("include_attempt_count_in_response: Envoy leaves the count out of the stream's own timeouts, unless the "
      "request carries one")
def _attempts_of_a_timeout(request, part, one, two, ours, theirs):
    return part == "response headers" and two == _without(one, "x-envoy-attempt-count") and (
        theirs.log.get("details") in ("max_duration_timeout", "stream_idle_timeout"))


@rule("an upgrade passes the buffer filter: Envoy's waits for the end of a request that has none, and the client "
      "waits with it")
def _buffered_upgrade(request, part, one, two, ours, theirs):
    return "per_filter" in request.features and ("upgrade", "websocket") in request.headers and (
        theirs.status == "TimeoutError" and theirs.log.get("details") == "downstream_remote_disconnect")


@rule("the buffer filter's limit holds for a body that a filter before it has already collected; in Envoy such "
      "a body passes, whatever its size")
def _collected_before(request, part, one, two, ours, theirs):
    return ours.log.get("details") == "request_payload_too_large" != theirs.log.get("details") and (
        "per_filter" in request.features and ("content-type", "application/json") in request.headers)
