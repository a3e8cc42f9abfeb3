#include "proxy/filters/compressor_choice.h"

#include "proxy/filters/header_tokens.h"

static const char *const default_types[] = {
    "text/html",
    "text/plain",
    "text/css",
    "application/javascript",
    "application/x-javascript",
    "text/javascript",
    "text/x-javascript",
    "text/ecmascript",
    "text/js",
    "text/jscript",
    "text/x-js",
    "application/ecmascript",
    "application/x-json",
    "application/xml",
    "application/json",
    "image/svg+xml",
    "text/xml",
    "application/xhtml+xml",
    "application/grpc-web",
    "application/grpc-web+proto",
};

void compressor_types_compile(struct compressor_types *t, char *const *configured, size_t num,
                              struct arena *a)
{
    size_t n = num ? num : ARRAY_LEN(default_types);
    t->v = arena_zalloc(a, n * sizeof(*t->v));
    t->n = n;
    for (size_t i = 0; i < n; i++)
        t->v[i] = num ? arena_str(a, str_of(configured[i])) : str_of(default_types[i]);
}

bool compressor_type_allowed(const struct compressor_types *t, struct str content_type)
{
    struct str type = header_cut(content_type, ';', NULL);
    for (size_t i = 0; i < t->n; i++) {
        if (str_ieq(t->v[i], type))
            return true;
    }
    return false;
}

struct preference {
    struct str coding;
    float q;
};

/* One word of accept-encoding. False: its weight is no number, and it is passed over. */
static bool parse(struct str word, struct preference *p)
{
    struct str params, value;
    double q = 1;
    p->coding = header_cut(word, ';', &params);
    if (params.p) {
        struct str name = header_cut(params, '=', &value);
        if (value.p && str_ieq(name, STR("q")) && !str_to_double(str_trim(value), &q))
            return false;
    }
    p->q = (float)q;
    return true;
}

static const struct compressor_offer *find(const struct compressor_offer *offers, size_t num,
                                           const bool *refused, struct str coding)
{
    for (size_t i = 0; i < num; i++) {
        if (str_eq(offers[i].encoding, coding))
            return refused[i] ? NULL : &offers[i];
    }
    return NULL;
}

/* What is refused with q=0 cannot be chosen by "*" either. */
static bool refuse(struct str accept, const struct compressor_offer *offers, size_t num,
                   bool *refused)
{
    struct str word;
    size_t left = 0;
    while (str_next(&accept, ',', &word)) {
        struct preference p;
        if (!word.len || !parse(word, &p) || p.q != 0)
            continue;
        for (size_t i = 0; i < num; i++)
            refused[i] |= str_eq(offers[i].encoding, p.coding);
    }
    for (size_t i = 0; i < num; i++)
        left += !refused[i];
    return left > 0;
}

struct compressor_decision compressor_choose(struct str accept,
                                             const struct compressor_offer *offers, size_t num)
{
    struct compressor_decision none = {COMPRESSOR_NOT_VALID, STR("identity")};
    bool refused[COMPRESSOR_OFFERS] = {false};
    struct preference best = {STR("identity"), 0}, p;
    struct str word, rest = accept;
    if (!refuse(accept, offers, num, refused))
        return none;
    while (str_next(&rest, ',', &word)) {
        if (!word.len || !parse(word, &p))
            continue;
        const struct compressor_offer *o = find(offers, num, refused, p.coding);
        if (!o && !str_eq(p.coding, STR("identity")) && !str_eq(p.coding, STR("*")))
            continue;
        if (p.q > best.q || (p.q == best.q && o && o->choose_first))
            best = p;
    }
    if (best.q == 0)
        return none;
    if (str_eq(best.coding, STR("identity")))
        return (struct compressor_decision){COMPRESSOR_IDENTITY, STR("identity")};
    if (!str_eq(best.coding, STR("*")))
        return (struct compressor_decision){COMPRESSOR_CHOSEN, best.coding};
    for (size_t i = 0; i < num; i++) {
        if (!refused[i])
            return (struct compressor_decision){COMPRESSOR_WILDCARD, offers[i].encoding};
    }
    return none;
}
