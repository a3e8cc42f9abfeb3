/* hash_policy: what consistent-hashing balancers, and weighted clusters that say so, choose by. */
#include "base/hash.h"
#include "proxy/router/route_private.h"
#include <stdlib.h>

static uint64_t hash_text(struct str s)
{
    return hash_xxh64(s.p, s.len, 0);
}

static struct str replaced(const struct hash_policy *p, struct str value, struct arena *a)
{
    return p->regex ? regex_replace_all(p->regex, value, p->substitution, a) : value;
}

static int by_bytes(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

/* Of several fields each hash is the seed of the next; their order does not count. */
static bool hash_header(const struct hash_policy *p, const struct headers *h, struct arena *a,
                        uint64_t *out)
{
    struct str value;
    const struct header *f = headers_find(h, p->name);
    if (!f) { /* a pseudo-header perhaps */
        if (!headers_value(h, p->name, a, &value))
            return false;
        *out = hash_text(replaced(p, value, a));
        return true;
    }
    if (!headers_next(h, f)) {
        *out = hash_text(replaced(p, f->value, a));
        return true;
    }
    struct str *values = arena_alloc(a, h->n * sizeof(*values));
    size_t n = 0;
    for (; f; f = headers_next(h, f))
        values[n++] = replaced(p, f->value, a);
    qsort(values, n, sizeof(*values), by_bytes);
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out = hash_xxh64(values[i].p, values[i].len, *out);
    return true;
}

/* The same for all requests of a connection: of several at once one cookie may win. */
static struct str new_cookie(const struct route_match_input *in, struct arena *a)
{
    char remote[ADDR_TEXT_MAX], local[ADDR_TEXT_MAX];
    struct str from = STR_NULL, to = STR_NULL;
    if (in->conn) {
        from = addr_format(&in->conn->remote, remote);
        to = addr_format(&in->conn->local, local);
    }
    struct str ends = arena_printf(a, "%.*s%.*s", STR_ARG(from), STR_ARG(to));
    return arena_printf(a, "%016llx", (unsigned long long)hash_text(ends));
}

static bool hash_cookie(const struct hash_policy *p, const struct route_match_input *in,
                        struct arena *a, struct route_cookie *out_cookie, uint64_t *out)
{
    struct str value;
    if (route_cookie_value(in->headers, p->name, &value) && value.len) {
        *out = hash_text(value);
        return true;
    }
    if (!p->has_ttl || !out_cookie)
        return false;
    out_cookie->policy = p;
    out_cookie->value = new_cookie(in, a);
    *out = hash_text(out_cookie->value);
    return true;
}

static bool hash_source(const struct route_match_input *in, uint64_t *out)
{
    char text[ADDR_TEXT_MAX];
    if (!in->remote || !addr_is_ip(in->remote))
        return false;
    *out = hash_text(addr_format_ip(in->remote, text));
    return true;
}

static bool hash_one(const struct hash_policy *p, const struct route_match_input *in,
                     struct arena *a, struct route_cookie *out_cookie, uint64_t *out)
{
    struct str value;
    switch (p->kind) {
    case HASH_HEADER:
        return hash_header(p, in->headers, a, out);
    case HASH_COOKIE:
        return hash_cookie(p, in, a, out_cookie, out);
    case HASH_SOURCE_IP:
        return hash_source(in, out);
    case HASH_QUERY:
        if (!route_query_value(in->headers->path, p->name, &value))
            return false;
        *out = hash_text(value);
        return true;
    case HASH_FILTER_STATE:
        value = in->filter_state ? filter_state_get(in->filter_state, p->name) : STR_NULL;
        *out = hash_text(value);
        return value.p != NULL;
    }
    return false;
}

bool route_hash(const struct route *r, const struct route_match_input *in, struct arena *a,
                struct route_cookie *out_cookie, uint64_t *out)
{
    bool any = false;
    uint64_t all = 0, one;
    if (out_cookie)
        *out_cookie = (struct route_cookie){.policy = NULL};
    for (size_t i = 0; i < r->num_hash; i++) {
        if (hash_one(&r->hash[i], in, a, out_cookie, &one)) {
            all = any ? (all << 1 | all >> 63) ^ one : one;
            any = true;
        }
        if (any && r->hash[i].terminal)
            break;
    }
    *out = all;
    return any;
}

struct str route_cookie_header(const struct route_cookie *c, struct arena *a)
{
    const struct hash_policy *p = c->policy;
    struct str age = p->ttl_s ? arena_printf(a, "; Max-Age=%llu", (unsigned long long)p->ttl_s)
                              : STR("");
    return arena_printf(a, "%.*s=\"%.*s\"%.*s%s%.*s; HttpOnly%.*s", STR_ARG(p->name),
                        STR_ARG(c->value), STR_ARG(age), p->path.len ? "; Path=" : "",
                        STR_ARG(p->path), STR_ARG(p->attributes));
}
