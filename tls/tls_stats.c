#include "tls/tls_stats.h"

#include "base/loop.h"

#define SDS_DEFS(factory)                                                                          \
    [TLS_CONTEXT_UPDATE_BY_SDS] = {factory ".ssl_context_update_by_sds", STATS_COUNTER},           \
    [TLS_UPSTREAM_NOT_READY] = {factory ".upstream_context_secrets_not_ready", STATS_COUNTER},     \
    [TLS_DOWNSTREAM_NOT_READY] = {factory ".downstream_context_secrets_not_ready", STATS_COUNTER},

static const struct stats_def client_defs[] = {TLS_STATS(STATS_DEF)
                                                   SDS_DEFS("client_ssl_socket_factory")};
static const struct stats_def server_defs[] = {TLS_STATS(STATS_DEF)
                                                   SDS_DEFS("server_ssl_socket_factory")};
static struct stats_table client_table = STATS_TABLE(client_defs);
static struct stats_table server_table = STATS_TABLE(server_defs);

struct stats_scope *tls_stats_new(const struct stats_part *parts, size_t num_parts, bool server)
{
    struct stats_scope *s = stats_scope_new(server ? &server_table : &client_table, parts,
                                            num_parts);
    stats_scope_set_lazy(s);
    return s;
}

void tls_stats_inc(struct stats_scope *s, enum tls_stat stat)
{
    if (s)
        stats_inc(s, loop_this_thread(), stat);
}

void tls_stats_name(struct stats_scope *s, const char *family, const char *name)
{
    if (s && name)
        stats_count_name(s, loop_this_thread(), family, str_of(name));
}
