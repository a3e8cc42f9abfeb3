#include "proxy/http/headers.h"

#include "base/alloc.h"

enum { FIRST_CAP = 16 };

static const struct str names[] = {
#define X(id, name) [HDR_##id] = {name, sizeof(name) - 1},
    HTTP_KNOWN_HEADERS(X)
#undef X
};

/* The known names by length: a name is compared with at most six of the same length. */
static const struct {
    uint8_t num;
    uint8_t id[6];
} by_len[] = {
    [2] = {1, {HDR_TE}},
    [3] = {1, {HDR_VIA}},
    [4] = {2, {HDR_HOST, HDR_DATE}},
    [6] = {3, {HDR_COOKIE, HDR_SERVER, HDR_EXPECT}},
    [7] = {2, {HDR_UPGRADE, HDR_TRAILER}},
    [8] = {1, {HDR_LOCATION}},
    [10] = {3, {HDR_USER_AGENT, HDR_CONNECTION, HDR_KEEP_ALIVE}},
    [11] = {1, {HDR_GRPC_STATUS}},
    [12] = {4, {HDR_CONTENT_TYPE, HDR_X_REQUEST_ID, HDR_GRPC_MESSAGE, HDR_GRPC_TIMEOUT}},
    [14] = {1, {HDR_CONTENT_LENGTH}},
    [15] = {2, {HDR_ACCEPT_ENCODING, HDR_X_FORWARDED_FOR}},
    [16] = {5,
            {HDR_CONTENT_ENCODING, HDR_X_FORWARDED_HOST, HDR_X_ENVOY_INTERNAL, HDR_X_ENVOY_RETRY_ON,
             HDR_PROXY_CONNECTION}},
    [17] = {2, {HDR_TRANSFER_ENCODING, HDR_X_FORWARDED_PROTO}},
    [18] = {1, {HDR_X_ENVOY_OVERLOADED}},
    [19] = {2, {HDR_X_ENVOY_MAX_RETRIES, HDR_X_ENVOY_RATELIMITED}},
    [21] = {3, {HDR_X_ENVOY_ORIGINAL_PATH, HDR_X_ENVOY_ATTEMPT_COUNT, HDR_X_ENVOY_RETRY_GRPC_ON}},
    [23] = {2, {HDR_X_FORWARDED_CLIENT_CERT, HDR_X_ENVOY_UPSTREAM_CANARY}},
    [24] = {2, {HDR_X_ENVOY_EXTERNAL_ADDRESS, HDR_X_ENVOY_LOCAL_OVERLOADED}},
    [27] = {1, {HDR_X_ENVOY_DECORATOR_OPERATION}},
    [29] = {1, {HDR_X_ENVOY_UPSTREAM_SERVICE_TIME}},
    [30] = {2, {HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, HDR_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS}},
    [35] = {1, {HDR_X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL}},
    [38] = {1, {HDR_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS}},
};

enum header_id header_id_of(struct str lower_name)
{
    if (lower_name.len >= ARRAY_LEN(by_len))
        return HDR_OTHER;
    unsigned num = by_len[lower_name.len].num;
    for (unsigned i = 0; i < num; i++) {
        unsigned id = by_len[lower_name.len].id[i];
        const char *name = names[id].p;
        if (lower_name.p[0] == name[0] && memcmp(lower_name.p, name, lower_name.len) == 0)
            return (enum header_id)id;
    }
    return HDR_OTHER;
}

void headers_init(struct headers *h, struct arena *a)
{
    *h = (struct headers){.arena = a};
}

void headers_reserve(struct headers *h, uint32_t more)
{
    CHECK(more < UINT16_MAX - h->n);
    uint32_t need = h->n + more;
    if (need <= h->cap)
        return;
    uint32_t cap = h->cap ? h->cap * 2 : FIRST_CAP;
    if (cap < need)
        cap = need;
    struct header *v = arena_alloc(h->arena, cap * sizeof(*v));
    if (h->n)
        memcpy(v, h->v, h->n * sizeof(*v));
    h->v = v;
    h->cap = cap;
}

static struct header *add(struct headers *h, struct str name, struct str value, unsigned id)
{
    if (UNLIKELY(h->n == h->cap))
        headers_reserve(h, 1);
    struct header *f = &h->v[h->n++];
    *f = (struct header){.name = name, .value = value, .id = (uint8_t)id};
    h->live++;
    if (id < HDR_NUM_KNOWN && !h->first[id])
        h->first[id] = (uint16_t)h->n;
    return f;
}

struct header *headers_add(struct headers *h, struct str lower_name, struct str value)
{
    return add(h, lower_name, value, header_id_of(lower_name));
}

struct header *headers_add_known(struct headers *h, enum header_id id, struct str value)
{
    return add(h, names[id], value, id);
}

struct header *headers_known(const struct headers *h, enum header_id id)
{
    return h->first[id] ? &h->v[h->first[id] - 1] : NULL;
}

struct header *headers_find(const struct headers *h, struct str lower_name)
{
    enum header_id id = header_id_of(lower_name);
    if (id < HDR_NUM_KNOWN)
        return headers_known(h, id);
    HEADERS_FOREACH(f, h)
        if (f->id == HDR_OTHER && str_eq(f->name, lower_name))
            return f;
    return NULL;
}

struct header *headers_next(const struct headers *h, const struct header *f)
{
    for (uint32_t i = (uint32_t)(f - h->v) + 1; i < h->n; i++) {
        struct header *g = &h->v[i];
        if (!g->removed && g->id == f->id && (g->id != HDR_OTHER || str_eq(g->name, f->name)))
            return g;
    }
    return NULL;
}

void headers_remove_at(struct headers *h, struct header *f)
{
    if (f->removed)
        return;
    f->removed = true;
    h->live--;
    uint32_t i = (uint32_t)(f - h->v);
    if (f->id == HDR_OTHER || h->first[f->id] != i + 1)
        return;
    struct header *next = headers_next(h, f);
    h->first[f->id] = next ? (uint16_t)(next - h->v + 1) : 0;
}

static bool remove_from(struct headers *h, struct header *f)
{
    bool any = f != NULL;
    while (f) {
        struct header *next = headers_next(h, f);
        headers_remove_at(h, f);
        f = next;
    }
    return any;
}

bool headers_remove_known(struct headers *h, enum header_id id)
{
    return remove_from(h, headers_known(h, id));
}

bool headers_remove(struct headers *h, struct str lower_name)
{
    return remove_from(h, headers_find(h, lower_name));
}

void headers_set_known(struct headers *h, enum header_id id, struct str value)
{
    struct header *f = headers_known(h, id);
    if (!f) {
        headers_add_known(h, id, value);
        return;
    }
    f->value = value;
    remove_from(h, headers_next(h, f));
}

void headers_set(struct headers *h, struct str lower_name, struct str value)
{
    struct header *f = headers_find(h, lower_name);
    if (!f) {
        headers_add(h, lower_name, value);
        return;
    }
    f->value = value;
    remove_from(h, headers_next(h, f));
}

static bool pseudo_value(const struct headers *h, struct str name, struct arena *a, struct str *out)
{
    if (str_eq(name, STR(":status"))) {
        if (!h->status)
            return false;
        *out = arena_printf(a, "%u", h->status);
        return true;
    }
    if (str_eq(name, STR(":path")))
        *out = h->path;
    else if (str_eq(name, STR(":method")))
        *out = h->method;
    else if (str_eq(name, STR(":authority")) || str_eq(name, STR("host")))
        *out = h->authority;
    else if (str_eq(name, STR(":scheme")))
        *out = h->scheme;
    else
        return false;
    return out->p != NULL;
}

bool headers_value(const struct headers *h, struct str lower_name, struct arena *a, struct str *out)
{
    *out = STR_NULL;
    if (lower_name.len && lower_name.p[0] == ':')
        return pseudo_value(h, lower_name, a, out);
    struct header *first = headers_find(h, lower_name);
    if (!first)
        return pseudo_value(h, lower_name, a, out);
    *out = first->value;
    struct header *f = headers_next(h, first);
    if (!f)
        return true;
    size_t len = first->value.len;
    for (; f; f = headers_next(h, f))
        len += 1 + f->value.len;
    char *p = arena_bytes(a, len);
    *out = str_n(p, len);
    for (f = first; f; f = headers_next(h, f)) {
        if (f != first)
            *p++ = ',';
        if (f->value.len)
            memcpy(p, f->value.p, f->value.len);
        p += f->value.len;
    }
    return true;
}

static struct str copy_view(struct arena *a, struct str s)
{
    return s.p ? arena_str(a, s) : STR_NULL;
}

void headers_copy(struct headers *to, const struct headers *from, struct arena *a)
{
    headers_init(to, a);
    headers_reserve(to, from->live);
    HEADERS_FOREACH(f, from) {
        struct str name = f->id == HDR_OTHER ? arena_str(a, f->name) : names[f->id];
        add(to, name, arena_str(a, f->value), f->id);
    }
    to->method = copy_view(a, from->method);
    to->path = copy_view(a, from->path);
    to->authority = copy_view(a, from->authority);
    to->scheme = copy_view(a, from->scheme);
    to->status = from->status;
    to->minor = from->minor;
    to->upgrade = from->upgrade;
    to->bytes = from->bytes;
}

bool headers_is_grpc(const struct headers *h)
{
    const struct header *f = headers_known(h, HDR_CONTENT_TYPE);
    if (!f || !str_starts(f->value, STR("application/grpc")))
        return false;
    return f->value.len == 16 || f->value.p[16] == '+';
}

bool headers_may_trail(const struct header *f)
{
    static const struct str refused[] = {
        {"authorization", 13},    {"proxy-authorization", 19},
        {"www-authenticate", 16}, {"set-cookie", 10},
        {"content-range", 13},    {"cache-control", 13},
        {"max-forwards", 12},     {"range", 5},
    };
    /* Of the names that are known, most are framing, routing, identity, or how to read the content.
     */
    if (f->id != HDR_OTHER)
        return f->id == HDR_GRPC_STATUS || f->id == HDR_GRPC_MESSAGE || f->id == HDR_SERVER ||
               f->id == HDR_DATE;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (str_eq(f->name, refused[i]))
            return false;
    return true;
}
