"""What a try may cost and what follows when it fails: retry policies in full, timeouts, hedging, and
responses that come at the wrong moment."""

import socket
import threading
import time

import pytest

from controlplane import mesh
from harness.http1 import Client, Closed, Reader, ask
from harness.proxy import cluster, http_listener, static
from harness.upstream import response

# Everybody is one of us: who may use the x-envoy-* headers.
INTERNAL = {"use_remote_address": True, "internal_address_config": {
    "cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]}}
ROUTER = "envoy.filters.http.router"


def one_route(start, upstream, vhost=None, hcm=None, cluster_more=None, **action):
    listener = http_listener([mesh.route("up", **action)], log="access.log",
                             hcm={**INTERNAL, **(hcm or {})})
    config = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]
    config["virtual_hosts"][0].update(vhost or {})
    return start(static([listener], [cluster("up", upstream, **(cluster_more or {}))]))


def in_turn(*answers):
    """The answers one after the other, the last one for ever; a number sleeps before the next."""
    turn, lock = [0], threading.Lock()

    def answer(request):
        with lock:
            mine = answers[min(turn[0], len(answers) - 1)]
            turn[0] += 1
        pause, data = mine if isinstance(mine, tuple) else (0, mine)
        time.sleep(pause)
        return data
    return answer


BAD, GOOD = response(503, b"bad"), response(200, b"good")


def http_options(**common):
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {"typed_extension_protocol_options": {name: {
        "@type": f"type.googleapis.com/{name}", "common_http_protocol_options": common,
        "explicit_http_config": {"http_protocol_options": {}}}}}


# --- what is tried again --------------------------------------------------------------------------
@pytest.mark.parametrize("policy,headers,first,retried", [
    ({"retry_on": "retriable-headers", "retriable_headers": [
        {"name": "x-again", "string_match": {"exact": "1"}}]}, {}, {"X-Again": "1"}, True),
    ({"retry_on": "retriable-headers", "retriable_headers": [
        {"name": "x-again", "string_match": {"exact": "1"}}]}, {}, {"X-Again": "2"}, False),
    ({}, {"x-envoy-retry-on": "retriable-headers",
          "x-envoy-retriable-header-names": "x-b, X-Again"}, {"X-Again": ""}, True),
    ({"retry_on": "5xx"}, {}, {"x-envoy-ratelimited": "true"}, False),
    ({"retry_on": "unavailable"}, {}, {"grpc-status": "14"}, True),
    ({"retry_on": "unavailable"}, {}, {"grpc-status": "13"}, False),
    ({}, {"x-envoy-retry-grpc-on": "internal"}, {"grpc-status": "13"}, True),
    ({"retry_on": "5xx", "retriable_request_headers": [{"name": "x-me", "present_match": True}]},
     {}, {}, False),
    ({"retry_on": "5xx", "retriable_request_headers": [{"name": "x-me", "present_match": True}]},
     {"x-me": ""}, {}, True),
    ({"retry_on": "5xx"}, {"x-envoy-max-retries": "0"}, {}, False)])
def test_what_is_retried(start, serve, policy, headers, first, retried):
    status = 200 if "retry_on" in policy and "retriable" in policy["retry_on"] else 503
    upstream = serve(in_turn(response(status, b"bad", first), GOOD))
    proxy = one_route(start, upstream, retry_policy=policy)
    assert ask(proxy.port(), headers=headers).body == (b"good" if retried else b"bad")
    assert len(upstream.requests) == 1 + retried
    assert not [n for r in upstream.requests for n, _ in r.headers
                if n.startswith("x-envoy-ret") or n == "x-envoy-max-retries"]


def test_policy_of_the_virtual_host_is_replaced_not_merged(start, serve):
    upstream = serve(in_turn(BAD, GOOD))
    proxy = one_route(start, upstream, vhost={"retry_policy": {"retry_on": "5xx"}},
                      retry_policy={"num_retries": 5})
    assert ask(proxy.port()).status == 503


def test_reset_headers_say_when(start, serve):
    upstream = serve(in_turn(response(503, b"", {"Retry-After": "1"}), GOOD))
    proxy = one_route(start, upstream, retry_policy={
        "retry_on": "5xx", "rate_limited_retry_back_off": {
            "reset_headers": [{"name": "X-Other"}, {"name": "Retry-After"}]}})
    begin = time.monotonic()
    assert ask(proxy.port()).body == b"good"
    assert time.monotonic() - begin > 0.95
    assert proxy.stat("cluster.up.upstream_rq_retry_backoff_ratelimited") == 1
    assert proxy.stat("cluster.up.upstream_rq_retry_backoff_exponential") == 0


@pytest.mark.parametrize("name,fmt,value", [
    ("retry-after", "SECONDS", "100"), ("retry-after", "SECONDS", "soon"),
    ("x-reset", "UNIX_TIMESTAMP", "5"), ("x-reset", "UNIX_TIMESTAMP", "99999999999")])
def test_reset_headers_that_do_not_count(start, serve, name, fmt, value):
    upstream = serve(in_turn(response(503, b"", {name: value}), GOOD))
    proxy = one_route(start, upstream, retry_policy={
        "retry_on": "5xx", "rate_limited_retry_back_off": {
            "max_interval": "2s", "reset_headers": [{"name": name, "format": fmt}]}})
    assert ask(proxy.port()).body == b"good"
    assert proxy.stat("cluster.up.upstream_rq_retry_backoff_exponential") == 1


@pytest.mark.parametrize("limit", ["per_request_buffer_limit_bytes", "request_body_buffer_limit"])
@pytest.mark.parametrize("size,retried", [(900, True), (1100, False)])
def test_body_is_kept_up_to_a_limit(start, serve, limit, size, retried):
    upstream = serve(in_turn(BAD, GOOD))
    proxy = one_route(start, upstream, vhost={limit: 1000}, retry_policy={"retry_on": "5xx"})
    answer = ask(proxy.port(), method="POST", body=b"b" * size)
    assert answer.body == (b"good" if retried else b"bad")
    assert [len(r.body) for r in upstream.requests] == [size] * (1 + retried)
    assert proxy.stat("cluster.up.retry_or_shadow_abandoned") == int(not retried)


def two_priorities(first, second, frequency, **retry):
    config = cluster("up", first)
    other = cluster("up", second)["load_assignment"]["endpoints"][0]
    config["load_assignment"]["endpoints"].append({**other, "priority": 1})
    typed = {"@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3."
                      "PreviousPrioritiesConfig", "update_frequency": frequency}
    policy = {"retry_on": "5xx", "num_retries": 3, **retry, "retry_priority": {
        "name": "envoy.retry_priorities.previous_priorities", "typed_config": typed}}
    return static([http_listener([mesh.route("up", retry_policy=policy)])], [config])


@pytest.mark.parametrize("frequency,tries", [(1, 1), (2, 2), (3, 3)])
def test_retries_leave_the_priority_that_failed(start, serve, frequency, tries):
    bad, good = serve(lambda r: BAD), serve(lambda r: GOOD)
    proxy = start(two_priorities(bad, good, frequency))
    for _ in range(5):
        assert ask(proxy.port()).body == b"good"
    assert (len(bad.requests), len(good.requests)) == (5 * tries, 5)


def test_all_priorities_have_failed(start, serve):
    first, second = serve(lambda r: BAD), serve(lambda r: BAD)
    proxy = start(two_priorities(first, second, 1))
    assert ask(proxy.port()).status == 503
    assert (len(first.requests), len(second.requests)) == (2, 2)


# --- what the upstream and the client are told ----------------------------------------------------
def test_attempts_and_late_ones_are_told(start, serve):
    upstream = serve(in_turn((1, BAD), BAD, GOOD))
    proxy = one_route(start, upstream, timeout="9s", retry_policy={
        "retry_on": "5xx", "num_retries": 2, "per_try_timeout": "0.4s"},
        vhost={"include_request_attempt_count": True, "include_attempt_count_in_response": True,
               "include_is_timeout_retry_header": True})
    answer = ask(proxy.port())
    assert answer.body == b"good" and answer.get("x-envoy-attempt-count") == "3"
    assert [(r.get("x-envoy-attempt-count"), r.get("x-envoy-is-timeout-retry"))
            for r in upstream.requests] == [("1", None), ("2", "true"), ("3", "false")]
    assert {r.get("x-envoy-expected-rq-timeout-ms") for r in upstream.requests} == {"400"}


def test_strict_headers(start, serve):
    upstream = serve()
    proxy = one_route(start, upstream, hcm={"http_filters": [{"name": ROUTER, "typed_config": {
        "@type": "Router", "strict_check_headers": ["x-envoy-max-retries", "x-envoy-retry-on"]}}]})
    answer = ask(proxy.port(), headers={"x-envoy-max-retries": "many"})
    assert (answer.status, answer.body) == (
        400, b"invalid header 'x-envoy-max-retries' with value 'many'")
    entry = proxy.wait_log()[0]
    assert entry["flags"] == "IH"
    assert entry["details"] == "request_headers_failed_strict_check{x-envoy-max-retries}"
    assert ask(proxy.port(), headers={"x-envoy-retry-on": "5xx,bogus"}).status == 400
    assert ask(proxy.port(), headers={"x-envoy-retry-on": "5xx,reset"}).status == 200
    assert len(upstream.requests) == 1


def test_families_of_codes(start, serve):
    upstream = serve(in_turn(response(200, b"", {"x-envoy-upstream-canary": "true"})))
    proxy = one_route(start, upstream)
    ask(proxy.port(), headers={"x-envoy-upstream-alt-stat-name": "alt"})
    for family in ("", "internal.", "canary.", "alt.", "alt.internal."):
        for name in ("200", "2xx", "completed"):
            assert proxy.stat(f"cluster.up.{family}upstream_rq_{name}") == 1, (family, name)
    assert upstream.requests[0].get("x-envoy-upstream-alt-stat-name") is None


def test_log_of_every_try(start, serve):
    upstream = serve(in_turn(response(503, b"bad", {"X-A": "1"}), (2, GOOD), GOOD))
    fields = {"code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "a": "%RESP(X-A)%",
              "path": "%REQ(:PATH)%", "received": "%BYTES_RECEIVED%", "sent": "%BYTES_SENT%"}
    router = {"@type": "Router", "upstream_log": mesh.access_log("tries.log", fields)}
    proxy = one_route(start, upstream, timeout="9s", retry_policy={
        "retry_on": "5xx", "num_retries": 2, "per_try_timeout": "0.4s"},
        hcm={"http_filters": [{"name": ROUTER, "typed_config": router}]})
    assert ask(proxy.port(), "/p", "POST", body=b"12345").body == b"good"
    entries = proxy.wait_log(3, "tries.log")
    assert [(e["code"], e["flags"], e["a"]) for e in entries] == [
        (503, "-", "1"), (0, "UT", None), (200, "-", None)]
    assert {(e["path"], e["sent"]) for e in entries} == {("/p", 5)}
    assert entries[2]["received"] == 4
    assert len(proxy.wait_log()) == 1


# --- timeouts -------------------------------------------------------------------------------------
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"


def half_answer(sock):
    Reader(sock).request()
    sock.sendall(HALF)
    sock.recv(1)


@pytest.mark.parametrize("more,flags,details,counter", [
    ({"timeout": "0.3s"}, "UT", "response_timeout", "upstream_rq_timeout"),
    ({"retry_policy": {"per_try_timeout": "0.3s"}}, "UT", "upstream_per_try_timeout",
     "upstream_rq_per_try_timeout"),
    ({"retry_policy": {"per_try_idle_timeout": "0.3s"}}, "UT", "upstream_per_try_idle_timeout",
     "upstream_rq_per_try_idle_timeout"),
    ({"cluster_more": http_options(max_stream_duration="0.3s")}, "UMSDR",
     "upstream_max_stream_duration_reached", "upstream_rq_max_duration_reached")])
def test_no_answer_in_time(start, serve, more, flags, details, counter):
    proxy = one_route(start, serve(in_turn((3, GOOD))), **more)
    assert ask(proxy.port()).status == 504
    entry = proxy.wait_log()[0]
    assert (entry["flags"], entry["details"]) == (flags, details)
    assert proxy.stat(f"cluster.up.{counter}") == 1


@pytest.mark.parametrize("more,flags,details", [
    ({"timeout": "0.3s"}, "UT", "response_timeout"),
    ({"retry_policy": {"per_try_idle_timeout": "0.3s"}}, "UT", "upstream_per_try_idle_timeout"),
    ({"cluster_more": http_options(max_stream_duration="0.3s")}, "UMSDR",
     "upstream_max_stream_duration_reached")])
def test_answer_not_complete_in_time(start, serve, more, flags, details):
    proxy = one_route(start, serve(handle=half_answer), **more)
    with pytest.raises(Closed):
        ask(proxy.port())
    entry = proxy.wait_log()[0]
    assert (entry["code"], entry["flags"], entry["details"]) == (200, flags, details)


def test_alternative_answer_of_a_timeout(start, serve):
    proxy = one_route(start, serve(in_turn((3, GOOD))), timeout="0.3s")
    answer = ask(proxy.port(), headers={"x-envoy-upstream-rq-timeout-alt-response": "1"})
    assert (answer.status, answer.body) == (204, b"")


def test_expected_timeout_of_another_proxy(start, serve):
    upstream = serve(in_turn((3, GOOD)))
    router = {"@type": "Router", "respect_expected_rq_timeout": True}
    proxy = one_route(start, upstream, timeout="9s",
                      hcm={"http_filters": [{"name": ROUTER, "typed_config": router}]})
    headers = {"x-envoy-expected-rq-timeout-ms": "300", "x-envoy-upstream-rq-timeout-ms": "8000"}
    assert ask(proxy.port(), headers=headers).status == 504


def test_max_stream_duration_takes_the_place_of_the_timeout(start, serve):
    proxy = one_route(start, serve(in_turn((0.8, GOOD))), timeout="0.3s", max_stream_duration={})
    assert ask(proxy.port()).body == b"good"


def test_cve_2024_23322_timers_that_coincide(start, serve):
    """Back-off, per-try timeout, idle timeout and the timeout of the whole at one moment."""
    upstream = serve(in_turn((0.1, BAD), (3, GOOD), BAD))
    proxy = one_route(start, upstream, timeout="0.2s", idle_timeout="0.2s", retry_policy={
        "retry_on": "5xx,reset", "num_retries": 9, "per_try_timeout": "0.1s",
        "per_try_idle_timeout": "0.1s",
        "retry_back_off": {"base_interval": "0.1s", "max_interval": "0.1s"}})
    port = proxy.port()
    with_timeouts = [threading.Thread(target=ask, args=(port,)) for _ in range(30)]
    for thread in with_timeouts:
        thread.start()
        time.sleep(0.003)
    for thread in with_timeouts:
        thread.join()
    assert len(proxy.wait_log(30)) == 30
    assert {e["code"] for e in proxy.log_entries()} <= {200, 503, 504}
    proxy.wait(lambda: proxy.stat("cluster.up.upstream_rq_active") == 0, what="an end of all tries")


# --- hedging --------------------------------------------------------------------------------------
HEDGED = {"timeout": "9s", "retry_policy": {"retry_on": "5xx", "num_retries": 1,
                                            "per_try_timeout": "0.4s"}}


@pytest.mark.parametrize("first,second,body", [
    ((3, b"first"), (0, b"second"), b"second"), ((0.8, b"first"), (3, b"second"), b"first")])
@pytest.mark.parametrize("by_header", [False, True])
def test_first_answer_wins(start, serve, first, second, body, by_header):
    upstream = serve(in_turn(*((pause, response(200, text)) for pause, text in (first, second))))
    more = {} if by_header else {"hedge_policy": {"hedge_on_per_try_timeout": True}}
    proxy = one_route(start, upstream, **HEDGED, **more)
    headers = {"x-envoy-hedge-on-per-try-timeout": "true"} if by_header else {}
    begin = time.monotonic()
    answer = ask(proxy.port(), method="POST", body=b"b" * 5000, headers=headers)
    assert answer.body == body and time.monotonic() - begin < 2.5
    assert [len(r.body) for r in upstream.requests] == [5000, 5000]
    assert len(proxy.wait_log()) == 1
    proxy.wait(lambda: proxy.stat("cluster.up.upstream_rq_active") == 0, what="the loser's end")


def test_bad_answer_waits_for_the_other_try(start, serve):
    upstream = serve(in_turn((0.8, BAD), (1, GOOD)))
    proxy = one_route(start, upstream, hedge_policy={"hedge_on_per_try_timeout": True}, **HEDGED)
    assert ask(proxy.port()).body == b"good"


@pytest.mark.parametrize("lost", [BAD, None], ids=["bad", "reset"])
def test_the_only_try_is_lost_before_the_hedge_begins(start, serve, lost):
    """The hedge is waiting for its turn when the try it was to race is over: it has the whole body."""
    upstream = serve(in_turn((0.5, lost), (0, GOOD)))
    retry = {**HEDGED["retry_policy"], "retry_back_off": {"base_interval": "2s", "max_interval": "2s"}}
    proxy = one_route(start, upstream, hedge_policy={"hedge_on_per_try_timeout": True}, timeout="9s",
                      retry_policy=retry)
    assert ask(proxy.port(), method="POST", body=b"b" * 5000).body == b"good"
    assert [len(r.body) for r in upstream.requests] == [5000, 5000]


def test_hedged_tries_and_the_timeout(start, serve):
    proxy = one_route(start, serve(in_turn((3, GOOD))), timeout="1s",
                      hedge_policy={"hedge_on_per_try_timeout": True},
                      retry_policy=HEDGED["retry_policy"])
    assert ask(proxy.port()).status == 504
    assert proxy.stat("cluster.up.upstream_rq_timeout") == 2


# --- at the wrong moment --------------------------------------------------------------------------
def upload(proxy, rest=True):
    """Sends a head and a bit of a body; then, after the answer, what it announced."""
    with Client(proxy.port()) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nabc")
        answer = client.response()
        if rest:
            try:
                client.send(b"x" * 997)
            except OSError:
                pass
        assert client.is_closed()
        return answer


@pytest.mark.parametrize("action,status", [
    ({}, 413), ({"retry_policy": {"retry_on": "5xx"}}, 503),
    ({"internal_redirect_policy": {}}, 302)])
def test_early_answer(start, serve, action, status):
    """It ends the upload: neither tried again nor followed elsewhere with half a body."""
    def handle(sock):
        Reader(sock).head()
        sock.sendall(response(status, b"early", {"Location": "http://o/"}))
        sock.recv(1)
        sock.settimeout(5)
        while sock.recv(65536):
            continue
    upstream = serve(handle=handle)
    proxy = one_route(start, upstream, retry_policy=action.pop("retry_policy", {"num_retries": 0}),
                      **action)
    if status == 503 and not proxy.is_envoy:
        assert upload(proxy).status in (503, 504)
    else:
        answer = upload(proxy)
        assert (answer.status, answer.get("connection")) == (status, "close")
    assert proxy.stat("http.test.downstream_rq_response_before_rq_complete") == 1


def test_body_after_the_response(start, serve):
    """Bytes that no request asked for are not the next response."""
    def handle(sock):
        reader = Reader(sock)
        reader.request()
        sock.sendall(response(body=b"one") + response(body=b"smuggled"))
        reader.request()
        sock.sendall(response(body=b"two"))
    upstream = serve(handle=handle)
    proxy = one_route(start, upstream)
    with Client(proxy.port()) as client:
        assert client.ask().body == b"one"
        assert client.ask().body == b"one"  # of another connection
    assert upstream.connections == 2


def test_reset_after_the_head(start, serve):
    def handle(sock):
        Reader(sock).request()
        sock.sendall(HALF)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    proxy = one_route(start, serve(handle=handle), retry_policy={"retry_on": "5xx,reset"})
    with pytest.raises(Closed):
        ask(proxy.port())
    entry = proxy.wait_log()[0]
    assert entry["code"] == 200 and entry["flags"] in ("UC", "UPE")
    assert entry["details"].startswith("upstream_reset_after_response_started{")
