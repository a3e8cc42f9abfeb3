#include "proxy/http/stream_filters.h"

#include "proxy/http/stream.h"

/* A route's word counts more than the list's; the most specific level that says something wins. */
static bool wanted(void *user, const struct http_filter_config *config)
{
    const struct stream *s = user;
    const struct http_filter_overrides *levels[HTTP_FILTER_LEVELS];
    if (!s->route)
        return !config->disabled;
    for (size_t n = route_filter_overrides(s->table, s->route, s->weighted, levels); n-- > 0;) {
        const struct http_filter_override *o = http_filter_overrides_find(levels[n], config->name);
        if (o && o->has_disabled)
            return !o->disabled;
        if (o)
            return true;
    }
    return !config->disabled;
}

static struct str upgrade_type(const struct headers *h)
{
    const struct header *f = headers_known(h, HDR_UPGRADE);
    return f ? f->value : STR("CONNECT");
}

bool stream_filters_for_upgrade(const struct stream *s, const struct http_filter_list **filters)
{
    const struct hcm_config *cfg = s->hc->config;
    struct str type = upgrade_type(s->request);
    for (size_t i = 0; i < cfg->num_upgrades; i++) {
        const struct hcm_upgrade *u = &cfg->upgrades[i];
        if (!str_ieq(u->type, type))
            continue;
        if (u->own_filters)
            *filters = &u->filters;
        return u->enabled;
    }
    return !s->route && !headers_known(s->request, HDR_UPGRADE); /* CONNECT without a route: 404 */
}

void stream_filters_init(struct stream *s, const struct http_filter_list *filters,
                         const struct http_chain_ends *ends)
{
    http_chain_init(&s->chain, filters->v, filters->n, wanted, ends, s, s, s->arena,
                    downstream_buffer_limit(s->hc->down));
}

size_t http_filter_route_configs(const struct http_filter *f, const void *out[HTTP_FILTER_LEVELS])
{
    const struct stream *s = f->stream;
    const struct http_filter_overrides *levels[HTTP_FILTER_LEVELS];
    size_t found = 0;
    if (!s || !s->route)
        return 0;
    size_t n = route_filter_overrides(s->table, s->route, s->weighted, levels);
    for (size_t i = 0; i < n; i++) {
        const struct http_filter_override *o = http_filter_overrides_find(levels[i], f->name);
        if (o && o->config)
            out[found++] = o->config;
    }
    return found;
}

const void *http_filter_route_config(const struct http_filter *f)
{
    const void *configs[HTTP_FILTER_LEVELS];
    size_t n = http_filter_route_configs(f, configs);
    return n ? configs[n - 1] : NULL;
}
