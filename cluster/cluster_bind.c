#include "cluster/cluster_bind.h"

#include "api-protos/message.h"
#include "cluster/address.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/upstream/local_address_selector/v3/default_local_address_selector.pb-c.h"

typedef Envoy__Config__Core__V3__BindConfig BindConfig;

static bool compile_source(struct cluster_bind *b, const Envoy__Config__Core__V3__SocketAddress *m,
                           const struct socket_options *options, struct errors *e)
{
    struct cluster_source *s = &b->sources[b->num_sources];
    if (!address_compile_socket(m, &s->addr, e))
        return false;
    if (b->num_sources == 1 && s->addr.sa.sa_family == b->sources[0].addr.sa.sa_family) {
        errors_add(e, NULL, "must be of the other family than source_address");
        return false;
    }
    s->options = *options;
    b->num_sources++;
    return true;
}

static void compile_extra(struct cluster_bind *b, const BindConfig *m, struct arena *a,
                          struct errors *e)
{
    const Envoy__Config__Core__V3__ExtraSourceAddress *x = m->extra_source_addresses[0];
    struct socket_options own = b->options;
    size_t mark = errors_push_index(e, "extra_source_addresses", 0);
    if (x->socket_options)
        own = socket_options_compile(a, x->socket_options->socket_options,
                                     x->socket_options->n_socket_options,
                                     "socket_options.socket_options", e);
    size_t inner = errors_push(e, "address");
    if (!x->address)
        errors_add(e, NULL, "is required");
    else
        (void)compile_source(b, x->address, &own, e);
    errors_pop(e, inner);
    errors_pop(e, mark);
}

static void compile_more(struct cluster_bind *b, const BindConfig *m, struct arena *a,
                         struct errors *e)
{
    size_t n = m->n_extra_source_addresses + m->n_additional_source_addresses;
    const char *field = m->n_extra_source_addresses ? "extra_source_addresses"
                                                    : "additional_source_addresses";
    if (n == 0)
        return;
    if (m->n_extra_source_addresses && m->n_additional_source_addresses) {
        errors_add(e, "additional_source_addresses", "extra_source_addresses is given too");
    } else if (n > 1) {
        errors_add(e, field, "%zu addresses, only one is possible", n);
    } else if (!m->source_address) {
        errors_add(e, field, "needs source_address");
    } else if (m->n_extra_source_addresses) {
        compile_extra(b, m, a, e);
    } else {
        size_t mark = errors_push_index(e, field, 0);
        (void)compile_source(b, m->additional_source_addresses[0], &b->options, e);
        errors_pop(e, mark);
    }
}

static void check_selector(const BindConfig *m, struct errors *e, const struct pb_opts *pb)
{
    struct pb_any any;
    struct arena scratch;
    if (!m->local_address_selector)
        return;
    size_t mark = errors_push(e, "local_address_selector.typed_config");
    arena_init(&scratch, 0);
    enum pb_any_status s = pb_any_unpack(m->local_address_selector->typed_config, &scratch, e, pb,
                                         &any);
    if (s == PB_ANY_EMPTY)
        errors_add(e, NULL, "is required");
    else if (
        s != PB_ANY_INVALID &&
        any.type !=
            &envoy__config__upstream__local_address_selector__v3__default_local_address_selector__descriptor)
        errors_add(e, NULL, "%.*s is not supported; the default selector is",
                   STR_ARG(any.type_name));
    arena_cleanup(&scratch);
    errors_pop(e, mark);
}

const struct cluster_bind *cluster_bind_compile(const BindConfig *m, struct arena *a,
                                                struct errors *e, const struct pb_opts *pb)
{
    if (!m)
        return NULL;
    struct cluster_bind *b = ARENA_NEW(a, struct cluster_bind);
    b->options = socket_options_compile(a, m->socket_options, m->n_socket_options, "socket_options",
                                        e);
    for (size_t i = 0; i < b->options.num; i++) {
        if (b->options.v[i].state == SOCKET_LISTENING)
            errors_warn(e, "socket_options", "STATE_LISTENING is no state of a connection");
    }
    b->has_freebind = m->freebind != NULL;
    b->freebind = m->freebind && m->freebind->value;
    check_selector(m, e, pb);
    if (m->source_address) {
        size_t mark = errors_push(e, "source_address");
        bool ok = compile_source(b, m->source_address, &b->options, e);
        errors_pop(e, mark);
        if (!ok)
            return b;
    }
    compile_more(b, m, a, e);
    return b;
}

const struct cluster_source *cluster_bind_source(const struct cluster_bind *b,
                                                 const struct addr *peer)
{
    for (uint32_t i = 0; b && i < b->num_sources; i++) {
        if (b->sources[i].addr.sa.sa_family == peer->sa.sa_family)
            return &b->sources[i];
    }
    return NULL;
}

void cluster_bind_fill(const struct cluster_bind *b, struct conn_connect *how)
{
    const struct cluster_source *s = cluster_bind_source(b, how->peer);
    if (!b)
        return;
    how->bind = s ? &s->addr : NULL;
    how->options = s ? &s->options : &b->options;
    how->has_freebind = b->has_freebind;
    how->freebind = b->freebind;
}
