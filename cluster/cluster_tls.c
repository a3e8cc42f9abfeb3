#include "cluster/cluster_tls.h"

#include "api-protos/message.h"
#include "cluster/cluster_proxy.h"
#include "cluster/table.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"
#include "tls/proxy_transport.h"
#include "tls/tls_factory.h"
#include "tls/tls_stats.h"
#include "xds/source.h"

typedef Envoy__Extensions__TransportSockets__Tls__V3__UpstreamTlsContext upstream_context;
typedef Envoy__Extensions__TransportSockets__Tls__V3__CommonTlsContext common_context;
typedef Envoy__Extensions__TransportSockets__Tls__V3__SdsSecretConfig sds_config;

/* need_secret notes where a secret comes from. The factory has checked the source already. */
static void need_secret(struct cluster_config *out, const sds_config *from,
                        const struct cluster_compile_env *env)
{
    struct xds_source src;
    struct errors ignored;

    if (!from || !from->sds_config)
        return;
    errors_init(&ignored);
    if (xds_source_decode(from->sds_config, env->parent, env->has_ads, &out->arena, &ignored, &src))
        cluster_config_need(out, &src);
    errors_cleanup(&ignored);
}

static void need_secrets(struct cluster_config *out, const common_context *msg,
                         const struct cluster_compile_env *env)
{
    if (!msg)
        return;
    for (size_t i = 0; i < msg->n_tls_certificate_sds_secret_configs; i++)
        need_secret(out, msg->tls_certificate_sds_secret_configs[i], env);
    switch (msg->validation_context_type_case) {
    case ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT_SDS_SECRET_CONFIG:
        need_secret(out, msg->validation_context_sds_secret_config, env);
        return;
    case ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT:
        need_secret(out, msg->combined_validation_context->validation_context_sds_secret_config,
                    env);
        return;
    default:
        return;
    }
}

static struct transport_factory *compile(void *arg, struct cluster_config *out,
                                         const struct pb_any *config,
                                         const struct cluster_compile_env *env, struct errors *e)
{
    const upstream_context *msg = (const void *)config->message;
    struct transport_factory *f;

    if (cluster_proxy_is(config))
        return cluster_proxy_compile(compile, arg, out, config, env, e);
    if (config->type !=
        &envoy__extensions__transport_sockets__tls__v3__upstream_tls_context__descriptor) {
        errors_add(e, NULL, "%.*s is not a transport socket of a cluster",
                   STR_ARG(config->type_name));
        return NULL;
    }
    f = tls_factory_upstream(msg, arg, env->parent, e);
    if (f)
        need_secrets(out, msg->common_tls_context, env);
    return f;
}

static void start(void *arg, struct transport_factory *f, struct cluster_state *state,
                  void (*settled)(void *), void *settled_arg)
{
    const struct stats_part parts[] = {{STR("cluster"), NULL},
                                       {state->stat_name, "envoy_cluster_name"}};
    f = proxy_transport_inner(f);
    if (!f) {
        settled(settled_arg);
        return;
    }
    if (!state->tls_stats)
        state->tls_stats = tls_stats_new(parts, ARRAY_LEN(parts), false);
    tls_factory_start(f, &(struct tls_factory_start){state->tls_stats, settled, settled_arg});
}

static void stop(struct transport_factory *f)
{
    f = proxy_transport_inner(f);
    if (f)
        tls_factory_stop(f);
}

const struct cluster_transport_ops cluster_tls_transport = {
    .compile = compile,
    .start = start,
    .stop = stop,
};
