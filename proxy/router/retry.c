#include "proxy/router/retry.h"

#include "proxy/http/stream.h"
#include "proxy/router/matchers.h"
#include "proxy/worker.h"

#define RETRY_GRPC                                                                                 \
    (RETRY(GRPC_CANCELLED) | RETRY(GRPC_DEADLINE_EXCEEDED) | RETRY(GRPC_RESOURCE_EXHAUSTED) |      \
     RETRY(GRPC_UNAVAILABLE) | RETRY(GRPC_INTERNAL))

/* The known words of a list; *all says whether there were no others. */
static uint32_t words(struct str text, bool *all)
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
    *all = true;
    while (str_next(&text, ',', &word)) {
        uint32_t before = on;
        word = str_trim(word);
        bool found = false;
        for (size_t i = 0; i < ARRAY_LEN(known) && !found; i++) {
            found = str_eq(word, known[i].word);
            on = found ? before | known[i].bit : on;
        }
        *all &= found;
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
    bool all;
    r->retry.on |= words(f->value, &all) & allowed;
    headers_remove_known(h, id);
}

/* Only a caller of ours may name codes: from others mutate.c has dropped the header. */
static void take_codes(struct router *r, struct headers *h)
{
    struct str name = STR("x-envoy-retriable-status-codes"), text, word;
    struct arena *a = r->stream->arena;
    uint64_t n;
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

static void take_names(struct router *r, struct headers *h)
{
    struct str name = STR("x-envoy-retriable-header-names"), text, word;
    struct arena *a = r->stream->arena;
    if (!headers_value(h, name, a, &text))
        return;
    struct str *v = arena_alloc(a, (text.len / 2 + 1) * sizeof(*v));
    size_t n = 0;
    while (str_next(&text, ',', &word)) {
        word = str_trim(word);
        char *p = arena_bytes(a, word.len);
        for (size_t i = 0; i < word.len; i++)
            p[i] = word.p[i] >= 'A' && word.p[i] <= 'Z' ? (char)(word.p[i] | 0x20) : word.p[i];
        if (word.len)
            v[n++] = str_n(p, word.len);
    }
    r->retry_names = v;
    r->num_retry_names = n;
    headers_remove(h, name);
}

/* retriable_request_headers: only such requests are tried again. */
static bool request_fits(const struct router *r)
{
    const struct retry_policy *p = &r->retry;
    for (size_t i = 0; i < p->num_request_headers; i++) {
        if (header_match(&p->request_headers[i], r->stream->request, r->stream->arena))
            return true;
    }
    return p->num_request_headers == 0;
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
    if (!request_fits(r))
        r->retry.on = 0;
    if (take_number(h, HDR_X_ENVOY_MAX_RETRIES, &n))
        r->retries_left = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    if (!headers_known(h, HDR_X_ENVOY_INTERNAL))
        return;
    take_codes(r, h);
    take_names(r, h);
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

static bool header_listed(const struct router *r, const struct headers *h)
{
    const struct retry_policy *p = &r->retry;
    for (size_t i = 0; i < p->num_response_headers; i++) {
        if (header_match(&p->response_headers[i], h, r->stream->arena))
            return true;
    }
    for (size_t i = 0; i < r->num_retry_names; i++) {
        if (headers_find(h, r->retry_names[i]))
            return true;
    }
    return false;
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
    if ((p->on & RETRY(RETRIABLE_HEADERS)) && header_listed(r, h))
        return true;
    return (p->on & grpc_bit(h)) != 0;
}

uint64_t retry_wait_ms(const struct router *r, const struct headers *h)
{
    const struct retry_policy *p = &r->retry;
    for (size_t i = 0; i < p->num_reset_headers; i++) {
        const struct header *f = headers_find(h, p->reset_headers[i].name);
        uint64_t n;
        if (!f || !str_to_u64(str_trim(f->value), &n))
            continue;
        if (p->reset_headers[i].timestamp) {
            uint64_t now = loop_wall_us(r->stream->worker->loop) / 1000000;
            if (n < now)
                continue;
            n -= now;
        }
        if (n > p->reset_max_ms / 1000)
            continue;
        return n * 1000;
    }
    return 0;
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

bool retry_header_valid(struct str name, struct str value)
{
    bool grpc = str_eq(name, STR("x-envoy-retry-grpc-on"));
    uint64_t n;
    bool all;
    if (!grpc && !str_eq(name, STR("x-envoy-retry-on")))
        return str_to_u64(str_trim(value), &n);
    uint32_t on = words(value, &all);
    return all && !(on & (grpc ? ~RETRY_GRPC : RETRY_GRPC));
}
