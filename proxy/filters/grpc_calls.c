#include "proxy/filters/grpc_calls.h"

#include "base/stats.h"
#include "cluster/cluster.h"
#include "proxy/http/stream.h"
#include "proxy/worker.h"

bool grpc_call_init(struct grpc_call *c, const struct http_filter *f, const char *family)
{
    const struct stream *s = f->stream;
    struct cluster *cluster = s->cluster_name.len
                                  ? worker_clusters_find(s->worker->clusters, s->cluster_name)
                                  : NULL;
    *c = (struct grpc_call){
        .stats = cluster ? cluster->stats : NULL,
        .family = family,
        .thread = s->worker->index,
    };
    return cluster != NULL;
}

void grpc_call_add(const struct grpc_call *c, struct str name, uint64_t n)
{
    char text[256];
    if (!c->stats)
        return;
    if (!c->method.len || c->method.len + name.len + 2 > sizeof(text) ||
        stats_block_of(c->stats, c->thread)->num_dynamic > GRPC_CALLS_NAMES) {
        stats_add_name(c->stats, c->thread, c->family, name, n);
        return;
    }
    memcpy(text, c->method.p, c->method.len);
    text[c->method.len] = '.';
    memcpy(text + c->method.len + 1, name.p, name.len);
    stats_add_name(c->stats, c->thread, c->family, str_n(text, c->method.len + 1 + name.len), n);
}

void grpc_call_status(const struct grpc_call *c, const struct headers *h)
{
    const struct header *status = headers_known(h, HDR_GRPC_STATUS);
    if (!status)
        return;
    grpc_call_add(c, status->value, 1);
    grpc_call_add(c, str_eq(status->value, STR("0")) ? STR("success") : STR("failure"), 1);
    grpc_call_add(c, STR("total"), 1);
}

bool grpc_is_response(const struct headers *h, bool end)
{
    if (end)
        return headers_known(h, HDR_GRPC_STATUS) != NULL;
    return h->status == 200 && headers_is_grpc(h);
}
