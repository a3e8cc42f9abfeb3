// covers: cluster/cluster_config.c
// covers: cluster/cluster_limits.c
// covers: cluster/dns_config.c
/* A Cluster as a control plane sends it: walked, unpacked, compiled. Refused with errors or
 * compiled without, the same both times. */
#include "api-protos/message.h"
#include "base/utf8.h"
#include "cluster/cluster_bind.h"
#include "cluster/cluster_config.h"
#include "cluster/dns_config.h"
#include "cluster/outlier.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static bool ready(struct transport_factory *f)
{
    return true;
}

static void free_factory(struct transport_factory *f)
{
    mem_free(f);
}

static const struct transport_factory_ops factory_ops = {.ready = ready, .free = free_factory};

static struct transport_factory *compile_transport(void *arg, struct cluster_config *out,
                                                   const struct pb_any *config,
                                                   const struct cluster_compile_env *env,
                                                   struct errors *e)
{
    struct transport_factory *f;
    if (config->bytes.len % 2) {
        errors_add(e, NULL, "is odd");
        return NULL;
    }
    f = NEW(struct transport_factory);
    f->ops = &factory_ops;
    refcount_init(&f->refs);
    return f;
}

static const struct cluster_transport_ops transport = {.compile = compile_transport};

static void check(const struct cluster_config *c)
{
    CHECK(c->name.len && utf8_ok(c->name) && c->stat_name.len && c->connect_timeout_ms);
    CHECK(c->cleanup_interval_ms && c->num_transports && c->choice_count >= 2);
    CHECK((c->type == CLUSTER_EDS) == (c->eds != NULL));
    CHECK((c->type == CLUSTER_ORIGINAL_DST) == (c->lb_policy == LB_CLUSTER_PROVIDED));
    CHECK((c->type == CLUSTER_STRICT_DNS || c->type == CLUSTER_LOGICAL_DNS) == (c->dns != NULL));
    CHECK(!c->dns || (c->dns->refresh_ms && c->dns->failure_max_ms >= c->dns->failure_base_ms));
    for (uint32_t i = 0; c->bind && i < c->bind->num_sources; i++)
        CHECK(addr_is_ip(&c->bind->sources[i].addr));
    CHECK(!c->outlier || c->outlier->max_ejection_ms >= c->outlier->base_ejection_ms);
    CHECK(c->healthy_panic_per_cent <= 100 && c->upstream_port_override <= UINT16_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct str bytes = str_n((const char *)data, len), name;
    struct cluster_config *made[2];

    for (unsigned i = 0; i < ARRAY_LEN(made); i++) {
        struct cluster_compile_env env = {
            .has_ads = len % 3, .is_static = len % 2, .transport = len % 5 ? &transport : NULL};
        struct errors e;
        errors_init(&e);
        made[i] = cluster_config_compile(&env, bytes, &e);
        CHECK((made[i] != NULL) == errors_ok(&e));
        for (struct error_item *it = e.first; it; it = it->next)
            CHECK(utf8_ok(it->path) && it->text.len);
        errors_cleanup(&e);
        if (!made[i])
            return 0;
        check(made[i]);
    }
    CHECK(cluster_name_of(bytes, &name) && str_eq(name, made[0]->name));
    CHECK(made[0]->connection_hash == made[1]->connection_hash);
    cluster_config_unref(made[0]);
    cluster_config_unref(made[1]);
    return 0;
}
