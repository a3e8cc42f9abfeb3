#include "proxy/router/vhost_index.h"

void vhost_index_init(struct vhost_index *ix)
{
    map_init(&ix->exact, false);
    ix->suffixes.reverse = true;
}

void vhost_index_cleanup(struct vhost_index *ix)
{
    map_cleanup(&ix->exact, NULL);
}

/* The name itself where it has no capitals. */
static struct str lower(struct arena *a, struct str s)
{
    size_t i = 0;
    while (i < s.len && !(s.p[i] >= 'A' && s.p[i] <= 'Z'))
        i++;
    if (i == s.len)
        return s;
    char *p = arena_bytes(a, s.len);
    for (size_t k = 0; k < s.len; k++)
        p[k] = s.p[k] >= 'A' && s.p[k] <= 'Z' ? (char)(s.p[k] | 0x20) : s.p[k];
    return str_n(p, s.len);
}

static void *put(struct trie *t, struct arena *a, struct str key, struct vhost *v)
{
    void **place = trie_put(t, a, key);
    void *had = *place;
    *place = v;
    return had;
}

void vhost_index_add(struct vhost_index *ix, struct arena *a, struct vhost *v, struct str domain,
                     struct errors *e)
{
    struct str d = arena_str(a, lower(a, domain));
    bool starts = d.len && d.p[0] == '*', ends = d.len && d.p[d.len - 1] == '*';
    size_t stars = 0;
    for (size_t i = 0; i < d.len; i++)
        stars += d.p[i] == '*';
    void *had;
    if (!d.len) {
        errors_add(e, NULL, "must not be empty");
        return;
    }
    if (d.len == 1 && starts) {
        had = ix->any;
        ix->any = v;
    } else if (stars > 1 || (stars == 1 && !starts && !ends)) {
        errors_add(e, NULL, "'%.*s': a wildcard must be the first or the last character",
                   STR_ARG(domain));
        return;
    } else if (starts) {
        had = put(&ix->suffixes, a, str_n(d.p + 1, d.len - 1), v);
        ix->has_suffix = true;
    } else if (ends) {
        had = put(&ix->prefixes, a, str_n(d.p, d.len - 1), v);
        ix->has_prefix = true;
    } else {
        had = map_put(&ix->exact, d, v);
    }
    if (had)
        errors_add(e, NULL,
                   "only unique values for domains are permitted; duplicate entry of domain '%.*s'",
                   STR_ARG(domain));
}

static struct str without_port(struct str host)
{
    for (size_t i = host.len; i > 0 && host.p[i - 1] != ']'; i--) {
        if (host.p[i - 1] == ':')
            return str_n(host.p, i - 1);
    }
    return host;
}

/* A wildcard stands for at least one character. */
static struct vhost *longest(const struct trie *t, struct str host)
{
    struct trie_walk w;
    struct vhost *best = NULL, *v;
    trie_walk_start(&w, t, host);
    while ((v = trie_walk_next(&w)) && w.at < host.len)
        best = v;
    return best;
}

struct vhost *vhost_index_only(const struct vhost_index *ix)
{
    bool others = map_count(&ix->exact) || ix->has_suffix || ix->has_prefix;
    return others ? NULL : ix->any;
}

struct vhost *vhost_index_find(const struct vhost_index *ix, struct str name, bool ignore_port,
                               struct arena *a)
{
    if (!map_count(&ix->exact) && !ix->has_suffix && !ix->has_prefix)
        return ix->any;
    struct str host = lower(a, ignore_port ? without_port(name) : name);
    struct vhost *v = map_get(&ix->exact, host);
    if (!v && ix->has_suffix)
        v = longest(&ix->suffixes, host);
    if (!v && ix->has_prefix)
        v = longest(&ix->prefixes, host);
    return v ? v : ix->any;
}
