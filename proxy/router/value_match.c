#include "proxy/router/value_match.h"

#include "api-protos/wkt.h"
#include "envoy/type/matcher/v3/address.pb-c.h"
#include "envoy/type/matcher/v3/filter_state.pb-c.h"
#include "envoy/type/matcher/v3/metadata.pb-c.h"
#include "envoy/type/matcher/v3/number.pb-c.h"
#include "envoy/type/matcher/v3/value.pb-c.h"
#include "envoy/type/v3/range.pb-c.h"
#include "xds/core/v3/cidr.pb-c.h"

typedef Envoy__Type__Matcher__V3__ValueMatcher ValueMatcher;
typedef Envoy__Type__Matcher__V3__MetadataMatcher MetadataMatcher;
typedef Envoy__Type__Matcher__V3__FilterStateMatcher FilterStateMatcher;
#define VALUE(x) ENVOY__TYPE__MATCHER__V3__VALUE_MATCHER__MATCH_PATTERN_##x
#define STATE(x) ENVOY__TYPE__MATCHER__V3__FILTER_STATE_MATCHER__MATCHER_##x

/* An address range; only the first `bits` of the address count. */
struct cidr {
    struct addr address;
    unsigned bits;
};

/* --- values --- */

static void compile_value(struct value_match *out, struct regex_list *l, struct arena *a,
                          const ValueMatcher *m, struct errors *e);

static void compile_double(struct value_match *out,
                           const Envoy__Type__Matcher__V3__DoubleMatcher *m, struct errors *e)
{
    switch (m->match_pattern_case) {
    case ENVOY__TYPE__MATCHER__V3__DOUBLE_MATCHER__MATCH_PATTERN_RANGE:
        out->from = m->range->start;
        out->to = m->range->end;
        return;
    case ENVOY__TYPE__MATCHER__V3__DOUBLE_MATCHER__MATCH_PATTERN_EXACT:
        out->from = m->exact;
        out->exact = true;
        return;
    default:
        errors_add(e, NULL, "range or exact is required");
    }
}

static void compile_list(struct value_match *out, struct regex_list *l, struct arena *a,
                         const Envoy__Type__Matcher__V3__ListMatcher *m, struct errors *e)
{
    out->inner = arena_zalloc(a, sizeof(*out->inner));
    out->num_inner = 1;
    size_t mark = errors_push(e, "one_of");
    if (m->one_of)
        compile_value(out->inner, l, a, m->one_of, e);
    else
        errors_add(e, NULL, "is required");
    errors_pop(e, mark);
}

static void compile_or(struct value_match *out, struct regex_list *l, struct arena *a,
                       const Envoy__Type__Matcher__V3__OrMatcher *m, struct errors *e)
{
    out->num_inner = m->n_value_matchers;
    out->inner = arena_zalloc(a, (out->num_inner + 1) * sizeof(*out->inner));
    for (size_t i = 0; i < out->num_inner; i++) {
        size_t mark = errors_push_index(e, "value_matchers", i);
        compile_value(&out->inner[i], l, a, m->value_matchers[i], e);
        errors_pop(e, mark);
    }
}

static void compile_value(struct value_match *out, struct regex_list *l, struct arena *a,
                          const ValueMatcher *m, struct errors *e)
{
    static const char *const names[] = {NULL,           "null_match", "double_match",
                                        "string_match", "bool_match", "present_match",
                                        "list_match",   "or_match"};
    size_t mark = errors_push(e, m->match_pattern_case ? names[m->match_pattern_case] : "value");
    switch (m->match_pattern_case) {
    case ENVOY__TYPE__MATCHER__V3__VALUE_MATCHER__MATCH_PATTERN_NULL_MATCH:
        out->kind = VALUE_NULL;
        break;
    case VALUE(DOUBLE_MATCH):
        out->kind = VALUE_DOUBLE;
        compile_double(out, m->double_match, e);
        break;
    case VALUE(STRING_MATCH):
        out->kind = VALUE_STRING;
        (void)string_match_compile(&out->string, l, a, m->string_match, e);
        break;
    case VALUE(BOOL_MATCH):
        out->kind = VALUE_BOOL;
        out->flag = m->bool_match;
        break;
    case VALUE(PRESENT_MATCH):
        out->kind = VALUE_PRESENT;
        out->flag = m->present_match;
        break;
    case VALUE(LIST_MATCH):
        out->kind = VALUE_LIST;
        compile_list(out, l, a, m->list_match, e);
        break;
    case VALUE(OR_MATCH):
        out->kind = VALUE_OR;
        compile_or(out, l, a, m->or_match, e);
        break;
    default:
        errors_add(e, NULL, "a match pattern is required");
    }
    errors_pop(e, mark);
}

static bool fits_any(const struct value_match *m, const struct json *j);

/* j NULL: there is no value. */
static bool value_fits(const struct value_match *m, const struct json *j)
{
    double d;
    switch (m->kind) {
    case VALUE_NULL:
        return j && j->type == JSON_NULL;
    case VALUE_DOUBLE:
        if (!j || j->type != JSON_NUMBER || !json_double(j, &d))
            return false;
        return m->exact ? d == m->from : d >= m->from && d < m->to;
    case VALUE_STRING:
        return j && j->type == JSON_STRING && string_match(&m->string, j->text);
    case VALUE_BOOL:
        return j && j->type == JSON_BOOL && j->boolean == m->flag;
    case VALUE_PRESENT:
        return m->flag && j;
    case VALUE_LIST:
        if (!j || j->type != JSON_ARRAY)
            return false;
        for (const struct json *item = j->first; item; item = item->next) {
            if (value_fits(m->inner, item))
                return true;
        }
        return false;
    case VALUE_OR:
        return fits_any(m, j);
    }
    return false;
}

static bool fits_any(const struct value_match *m, const struct json *j)
{
    for (size_t i = 0; i < m->num_inner; i++) {
        if (value_fits(&m->inner[i], j))
            return true;
    }
    return false;
}

/* --- metadata --- */

struct metadata_match *metadata_matches_compile(struct regex_list *l, struct arena *a,
                                                void *const *msgs, size_t n, const char *field,
                                                struct errors *e)
{
    struct metadata_match *v = arena_zalloc(a, (n + 1) * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        const MetadataMatcher *m = msgs[i];
        size_t mark = errors_push_index(e, field, i);
        v[i].filter = arena_str(a, str_of(m->filter));
        v[i].invert = m->invert;
        v[i].num_path = m->n_path;
        v[i].path = arena_zalloc(a, (m->n_path + 1) * sizeof(*v[i].path));
        for (size_t k = 0; k < m->n_path; k++)
            v[i].path[k] = arena_str(a, str_of(m->path[k]->key));
        size_t inner = errors_push(e, "value");
        if (m->value)
            compile_value(&v[i].value, l, a, m->value, e);
        else
            errors_add(e, NULL, "is required");
        errors_pop(e, inner);
        errors_pop(e, mark);
    }
    return v;
}

bool metadata_match(const struct metadata_match *m, const struct metadata *md)
{
    const struct json *j = md ? metadata_path(md, m->filter, m->path, m->num_path) : NULL;
    return value_fits(&m->value, j) != m->invert;
}

/* --- filter state --- */

static void compile_ranges(struct filter_state_match *out, struct arena *a,
                           const Envoy__Type__Matcher__V3__AddressMatcher *m, struct errors *e)
{
    out->num_ranges = m->n_ranges;
    out->ranges = arena_zalloc(a, (m->n_ranges + 1) * sizeof(*out->ranges));
    for (size_t i = 0; i < m->n_ranges; i++) {
        struct cidr *c = &out->ranges[i];
        size_t mark = errors_push_index(e, "ranges", i);
        if (!addr_parse_ip(str_of(m->ranges[i]->address_prefix), 0, &c->address))
            errors_add(e, "address_prefix", "'%s' is not an IP address",
                       m->ranges[i]->address_prefix);
        c->bits = wkt_u32(m->ranges[i]->prefix_len, 0);
        if (c->bits > addr_ip_bytes(&c->address).len * 8)
            errors_add(e, "prefix_len", "%u is longer than the address", c->bits);
        errors_pop(e, mark);
    }
}

struct filter_state_match *filter_state_matches_compile(struct regex_list *l, struct arena *a,
                                                        void *const *msgs, size_t n,
                                                        const char *field, struct errors *e)
{
    struct filter_state_match *v = arena_zalloc(a, (n + 1) * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        const FilterStateMatcher *m = msgs[i];
        size_t mark = errors_push_index(e, field, i), inner;
        v[i].key = arena_str(a, str_of(m->key));
        switch (m->matcher_case) {
        case STATE(STRING_MATCH):
            inner = errors_push(e, "string_match");
            (void)string_match_compile(&v[i].string, l, a, m->string_match, e);
            errors_pop(e, inner);
            break;
        case STATE(ADDRESS_MATCH):
            inner = errors_push(e, "address_match");
            v[i].is_address = true;
            compile_ranges(&v[i], a, m->address_match, e);
            errors_pop(e, inner);
            break;
        default:
            errors_add(e, NULL, "string_match or address_match is required");
        }
        errors_pop(e, mark);
    }
    return v;
}

static bool in_range(const struct cidr *c, const struct addr *address)
{
    struct str range = addr_ip_bytes(&c->address), ip = addr_ip_bytes(address);
    size_t whole = c->bits / 8, more = c->bits % 8;
    if (range.len != ip.len || whole > ip.len || memcmp(range.p, ip.p, whole) != 0)
        return false;
    unsigned char mask = (unsigned char)(0xff00 >> more);
    return !more || ((unsigned char)range.p[whole] & mask) == ((unsigned char)ip.p[whole] & mask);
}

bool filter_state_match(const struct filter_state_match *m, const struct filter_state *fs)
{
    struct str text = fs ? filter_state_get(fs, m->key) : STR_NULL;
    struct addr address;
    if (!text.p)
        return false;
    if (!m->is_address)
        return string_match(&m->string, text);
    if (!addr_parse_ip(text, 0, &address) && !addr_parse_ip_port(text, &address))
        return false;
    for (size_t i = 0; i < m->num_ranges; i++) {
        if (in_range(&m->ranges[i], &address))
            return true;
    }
    return false;
}
