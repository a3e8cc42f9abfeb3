/* envoy.filters.listener.original_src: connections to hosts come from the client's own address. */
#include "envoy/extensions/filters/listener/original_src/v3/original_src.pb-c.h"
#include "proxy/listener/downstream.h"
#include "proxy/listener/listener_filter.h"

struct config {
    uint32_t mark;
};

static void *compile(const struct compile_env *env, struct arena *a, const void *msg,
                     struct errors *e)
{
    const Envoy__Extensions__Filters__Listener__OriginalSrc__V3__OriginalSrc *m = msg;
    struct config *c = ARENA_NEW(a, struct config);
    if (m && m->bind_port)
        errors_warn(e, "bind_port", "the port is not kept: its connection is still there");
    c->mark = m ? m->mark : 0;
    return c;
}

/* The port is the kernel's choice: the client's own is in use by the connection that came in. */
static enum listener_filter_result look(void *config, struct downstream *d,
                                        struct listener_filter_look *l)
{
    const struct config *c = config;
    if (!addr_is_ip(&d->info.remote))
        return LISTENER_FILTER_NEXT;
    d->info.upstream_source = d->info.remote;
    addr_set_port(&d->info.upstream_source, 0);
    d->info.upstream_mark = c->mark;
    return LISTENER_FILTER_NEXT;
}

const struct listener_filter_ops original_src_filter = {
    .name = "envoy.filters.listener.original_src",
    .type_name = "envoy.extensions.filters.listener.original_src.v3.OriginalSrc",
    .compile = compile,
    .look = look,
};
