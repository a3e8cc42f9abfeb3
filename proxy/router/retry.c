#include "proxy/router/retry.h"

#include "proxy/http/stream.h"

#define RETRY_GRPC                                                                                 \
    (RETRY(GRPC_CANCELLED) | RETRY(GRPC_DEADLINE_EXCEEDED) | RETRY(GRPC_RESOURCE_EXHAUSTED) |      \
     RETRY(GRPC_UNAVAILABLE) | RETRY(GRPC_INTERNAL))

static uint32_t words(struct str text)
{
    static const struct {
        struct str word;
        uint32_t bit;
    } known[] = {
#define X(id, word) {{word, sizeof(word) - 1}, RETRY(id)},
        RETRY_ON(X)
#undef X
    };
    uint32_t on = 0;
    struct str word;
    while (str_next(&text, ',', &word)) {
        word = str_trim(word);
        for (size_t i = 0; i < ARRAY_LEN(known); i++) {
            if (str_eq(word, known[i].word))
                on |= known[i].bit;
        }
    }
    return on;
}

/* Takes a number out of a request header; false if it is not there or not a number. */
static bool take_number(struct headers *h, enum header_id id, uint64_t *out)
{
    struct header *f = headers_known(h, id);
    if (!f)
        return false;
    bool ok = str_to_u64(str_trim(f->value), out);
    headers_remove_known(h, id);
    return ok;
}

static void take_words(struct router *r, struct headers *h, enum header_id id, uint32_t allowed)
{
    struct header *f = headers_known(h, id);
    if (!f)
        return;
    r->retry.on |= words(f->value) & allowed;
    headers_remove_known(h, id);
}

/* Only a caller of ours may name codes: from others mutate.c has dropped the header. */
static void take_codes(struct router *r, struct headers *h)
{
    struct str name = STR("x-envoy-retriable-status-codes"), text, word;
    struct arena *a = r->stream->arena;
    uint64_t n;
    if (!headers_known(h, HDR_X_ENVOY_INTERNAL))
        return;
    headers_remove(h, STR("x-envoy-retriable-header-names"));
    if (!headers_value(h, name, a, &text))
        return;
    size_t had = r->retry.num_status_codes;
    uint16_t *codes = arena_alloc(a, (had + text.len / 2 + 1) * sizeof(*codes));
    if (had)
        memcpy(codes, r->retry.status_codes, had * sizeof(*codes));
    while (str_next(&text, ',', &word)) {
        if (str_to_u64(str_trim(word), &n) && n >= 100 && n < 600)
            codes[had++] = (uint16_t)n;
    }
    r->retry.status_codes = codes;
    r->retry.num_status_codes = had;
    headers_remove(h, name);
}

void retry_init(struct router *r)
{
    struct stream *s = r->stream;
    struct headers *h = s->request;
    const struct route *route = s->route;
    uint64_t n;
    r->retries_left = 1;
    if (route->retry) {
        r->retry = *route->retry;
        r->retries_left = route->retry->num_retries;
    }
    if (!r->retry.backoff_base_ms) {
        r->retry.backoff_base_ms = 25;
        r->retry.backoff_max_ms = 250;
    }
    take_words(r, h, HDR_X_ENVOY_RETRY_ON, ~RETRY_GRPC);
    take_words(r, h, HDR_X_ENVOY_RETRY_GRPC_ON, RETRY_GRPC);
    take_codes(r, h);
    if (take_number(h, HDR_X_ENVOY_MAX_RETRIES, &n))
        r->retries_left = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    r->timeout_ms = route_timeout_ms(route, h);
    if (take_number(h, HDR_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, &n))
        r->timeout_ms = n;
    r->per_try_ms = r->retry.per_try_timeout_ms;
    if (take_number(h, HDR_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, &n))
        r->per_try_ms = n;
    if (r->timeout_ms && r->per_try_ms >= r->timeout_ms)
        r->per_try_ms = 0;
}

static bool status_listed(const struct retry_policy *p, unsigned status)
{
    for (size_t i = 0; i < p->num_status_codes; i++) {
        if (p->status_codes[i] == status)
            return true;
    }
    return false;
}

/* grpc-status of a response without body. */
static uint32_t grpc_bit(const struct headers *h)
{
    static const struct {
        uint64_t status;
        uint32_t bit;
    } map[] = {{1, RETRY(GRPC_CANCELLED)},
               {4, RETRY(GRPC_DEADLINE_EXCEEDED)},
               {8, RETRY(GRPC_RESOURCE_EXHAUSTED)},
               {13, RETRY(GRPC_INTERNAL)},
               {14, RETRY(GRPC_UNAVAILABLE)}};
    struct header *f = headers_known(h, HDR_GRPC_STATUS);
    uint64_t status;
    if (!f || !str_to_u64(f->value, &status))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(map); i++) {
        if (map[i].status == status)
            return map[i].bit;
    }
    return 0;
}

bool retry_wants_response(const struct router *r, const struct headers *h)
{
    const struct retry_policy *p = &r->retry;
    unsigned status = h->status;
    if (!p->on)
        return false;
    if (headers_known(h, HDR_X_ENVOY_RATELIMITED))
        return (p->on & RETRY(ENVOY_RATELIMITED)) != 0;
    if ((p->on & RETRY(5XX)) && status >= 500 && status < 600)
        return true;
    if ((p->on & RETRY(GATEWAY_ERROR)) && status >= 502 && status <= 504)
        return true;
    if ((p->on & RETRY(RETRIABLE_4XX)) && status == 409)
        return true;
    if ((p->on & RETRY(RETRIABLE_STATUS_CODES)) && status_listed(p, status))
        return true;
    return (p->on & grpc_bit(h)) != 0;
}

bool retry_wants_failure(const struct router *r, enum try_failure f, bool started)
{
    uint32_t on = r->retry.on;
    if (f == TRY_OVERFLOW)
        return false;
    if (on & (RETRY(RESET) | RETRY(5XX) | RETRY(GATEWAY_ERROR)))
        return true;
    if ((on & RETRY(RESET_BEFORE_REQUEST)) && !started)
        return true;
    if (f == TRY_REFUSED)
        return (on & RETRY(REFUSED_STREAM)) != 0;
    if (f == TRY_CONNECT_FAILED || f == TRY_CONNECT_TIMEOUT)
        return (on & RETRY(CONNECT_FAILURE)) != 0;
    return false;
}
