/* envoy.filters.listener.original_dst: where a redirected connection was going. */
#include "proxy/listener/downstream.h"
#include "proxy/listener/listener.h"
#include "proxy/listener/listener_filter.h"

static void *compile(const struct compile_env *env, struct arena *a, const void *msg,
                     struct errors *e)
{
    static char nothing;
    return &nothing;
}

/* By TPROXY the socket's own end is where it was going, and netfilter knows nothing of it. */
static enum listener_filter_result look(void *config, struct downstream *d,
                                        struct listener_filter_look *l)
{
    struct addr dst;
    if (addr_original_dst(d->accepted_fd, &dst)) {
        d->restored |= !addr_eq(&dst, &d->info.direct_local);
        d->info.local = dst;
    } else if (d->listener->transparent) {
        d->restored = true;
    }
    return LISTENER_FILTER_NEXT;
}

const struct listener_filter_ops original_dst_filter = {
    .name = "envoy.filters.listener.original_dst",
    .type_name = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    .compile = compile,
    .look = look,
};
