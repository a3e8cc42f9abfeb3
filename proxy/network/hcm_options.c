#include "proxy/network/hcm_options.h"

#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "envoy/extensions/request_id/uuid/v3/uuid.pb-c.h"
#include "proxy/http/early_mutation.h"
#include "proxy/http/ip_detection.h"
#include "proxy/network/hcm.h"
#include "proxy/network/network_filter.h"

typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpConnectionManager Hcm;
#define SCHEME(x) ENVOY__CONFIG__CORE__V3__SCHEME_HEADER_TRANSFORMATION__TRANSFORMATION_##x

static void compile_ip_detection(struct hcm_config *c, const struct compile_env *env, const Hcm *m,
                                 struct errors *e)
{
    if (!m->n_original_ip_detection_extensions)
        return;
    if (c->use_remote_address)
        errors_add(e, "original_ip_detection_extensions",
                   "and use_remote_address cannot both be set");
    if (c->xff_hops)
        errors_add(e, "original_ip_detection_extensions",
                   "and xff_num_trusted_hops cannot both be set");
    c->ip_detection = ip_detection_compile(c->arena,
                                           (void *const *)m->original_ip_detection_extensions,
                                           m->n_original_ip_detection_extensions, env->pb, e);
}

static void compile_early_mutation(struct hcm_config *c, const struct compile_env *env,
                                   const Hcm *m, struct errors *e)
{
    if (m->n_early_header_mutation_extensions)
        c->early_mutation = early_mutation_compile(
            c->arena, (void *const *)m->early_header_mutation_extensions,
            m->n_early_header_mutation_extensions, env->pb, e);
}

static void compile_scheme(struct hcm_config *c, const Hcm *m)
{
    const Envoy__Config__Core__V3__SchemeHeaderTransformation *t = m->scheme_header_transformation;
    if (!t)
        return;
    if (t->transformation_case == SCHEME(SCHEME_TO_OVERWRITE))
        c->scheme = arena_str(c->arena, str_of(t->scheme_to_overwrite));
    c->scheme_match_upstream = t->match_upstream && !c->scheme.len;
}

static void compile_user_agent(struct hcm_config *c, const struct compile_env *env, const Hcm *m)
{
    if (!wkt_bool(m->add_user_agent, false))
        return;
    c->service_cluster = arena_str(c->arena, env->node_cluster);
    c->service_node = arena_str(c->arena, env->node_id);
}

/* Request ids are UUIDs, and there is no other kind to ask for. What else its message says is about
 * tracing. */
static void compile_request_id(struct hcm_config *c, const struct compile_env *env, const Hcm *m,
                               struct errors *e)
{
    struct pb_any any;
    if (!m->request_id_extension)
        return;
    size_t outer = errors_push(e, "request_id_extension");
    size_t mark = errors_push(e, "typed_config");
    enum pb_any_status status = pb_any_unpack(m->request_id_extension->typed_config, c->arena, e,
                                              env->pb, &any);
    bool known = any.type ==
                 &envoy__extensions__request_id__uuid__v3__uuid_request_id_config__descriptor;
    if (status != PB_ANY_INVALID && status != PB_ANY_EMPTY && !known)
        errors_add(e, NULL, "the request id extension %.*s is not supported",
                   STR_ARG(any.type_name));
    errors_pop(e, mark);
    errors_pop(e, outer);
}

static void compile_log_options(struct hcm_config *c, const Hcm *m, struct errors *e)
{
    if (!m->access_log_options)
        return;
    size_t mark = errors_push(e, "access_log_options");
    c->log_interval_ms = wkt_duration_ms(m->access_log_options->access_log_flush_interval, 0, e,
                                         "access_log_flush_interval");
    c->log_new_request = m->access_log_options->flush_access_log_on_new_request;
    c->log_tunnel = m->access_log_options->flush_log_on_tunnel_successfully_established;
    errors_pop(e, mark);
}

void hcm_options_compile(struct hcm_config *c, const struct compile_env *env, const void *msg,
                         struct errors *e)
{
    const Hcm *m = msg;
    compile_ip_detection(c, env, m, e);
    compile_early_mutation(c, env, m, e);
    compile_scheme(c, m);
    compile_user_agent(c, env, m);
    compile_request_id(c, env, m, e);
    compile_log_options(c, m, e);
}
