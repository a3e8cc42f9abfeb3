#include "api-protos/wkt.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "proxy/network/hcm_config.h"

typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpConnectionManager Hcm;
typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpConnectionManager__UpgradeConfig
    UpgradeConfig;

static void compile_upgrade(struct hcm_upgrade *u, const struct http_filter_env *env,
                            const UpgradeConfig *m, struct errors *e)
{
    u->type = arena_str(env->arena, str_of(m->upgrade_type));
    u->enabled = wkt_bool(m->enabled, true);
    u->own_filters = m->n_filters != 0;
    if (!u->type.len)
        errors_add(e, "upgrade_type", "must not be empty");
    if (!u->own_filters)
        return;
    http_filter_list_compile(env, (void *const *)m->filters, m->n_filters, "filters", &u->filters,
                             e);
    if (!u->filters.terminated && errors_ok(e))
        errors_add(e, "filters", "the last filter must be envoy.filters.http.router");
}

void hcm_upgrades_compile(struct hcm_config *c, const struct http_filter_env *env, const void *msg,
                          struct errors *e)
{
    const Hcm *m = msg;
    c->upgrades = arena_zalloc(env->arena, (m->n_upgrade_configs + 1) * sizeof(*c->upgrades));
    for (size_t i = 0; i < m->n_upgrade_configs; i++) {
        size_t mark = errors_push_index(e, "upgrade_configs", i);
        struct hcm_upgrade *u = &c->upgrades[c->num_upgrades++];
        compile_upgrade(u, env, m->upgrade_configs[i], e);
        for (size_t k = 0; k < i; k++) {
            if (str_ieq(c->upgrades[k].type, u->type))
                errors_add(e, "upgrade_type", "'%.*s' occurs twice", STR_ARG(u->type));
        }
        errors_pop(e, mark);
    }
}
