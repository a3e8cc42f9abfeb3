/* Pages about the process as a whole. */
#include "base/log.h"
#include "base/stats.h"
#include "proxy/admin/admin_handler.h"
#include "proxy/observe/access_log.h"
#include "proxy/server.h"
#include "tls/tls_certs.h"
#include <malloc.h>

static const char *state_name(enum server_state s)
{
    static const char *const names[] = {
        [SERVER_LIVE] = "LIVE",
        [SERVER_DRAINING] = "DRAINING",
        [SERVER_PRE_INITIALIZING] = "PRE_INITIALIZING",
        [SERVER_INITIALIZING] = "INITIALIZING",
    };
    return names[s];
}

/* Envoy: health checks told to fail make a live server draining. */
void admin_ready(const struct admin_request *rq, struct admin_response *rs)
{
    enum server_state state = rq->server->state;
    if (state == SERVER_LIVE && rq->server->health_failed)
        state = SERVER_DRAINING;
    rs->status = state == SERVER_LIVE ? 200 : 503;
    buffer_printf(&rs->body, "%s\n", state_name(state));
}

static void end_process(struct server *s)
{
    server_shutdown(s, true);
}

void admin_quit(const struct admin_request *rq, struct admin_response *rs)
{
    admin_ok(rs);
    rs->after = end_process;
}

void admin_drain_listeners(const struct admin_request *rq, struct admin_response *rs)
{
    server_drain_listeners(rq->server, admin_flag(rq, "inboundonly"), admin_flag(rq, "graceful"),
                           admin_flag(rq, "skip_exit"));
    admin_ok(rs);
}

void admin_healthcheck_fail(const struct admin_request *rq, struct admin_response *rs)
{
    rq->server->health_failed = true;
    admin_ok(rs);
}

void admin_healthcheck_ok(const struct admin_request *rq, struct admin_response *rs)
{
    rq->server->health_failed = false;
    admin_ok(rs);
}

void admin_reset_counters(const struct admin_request *rq, struct admin_response *rs)
{
    stats_reset_counters();
    admin_ok(rs);
}

void admin_reopen_logs(const struct admin_request *rq, struct admin_response *rs)
{
    if (rq->server->files)
        log_files_reopen(rq->server->files);
    if (!log_reopen()) {
        admin_error(rs, 500, "the application log could not be opened again");
        return;
    }
    admin_ok(rs);
}

static void put_count(struct json_writer *w, const char *key, uint64_t n)
{
    char text[24];
    json_key(w, str_of(key));
    int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    json_put_str(w, str_n(text, (size_t)len));
}

/* envoy.admin.v3.Memory, of glibc's heap: what it has no number for is 0. */
void admin_memory(const struct admin_request *rq, struct admin_response *rs)
{
    struct mallinfo2 m = mallinfo2();
    struct json_writer w;
    json_writer_init(&w, true);
    json_open(&w, '{');
    put_count(&w, "allocated", m.uordblks + m.hblkhd);
    put_count(&w, "heap_size", m.arena + m.hblkhd);
    put_count(&w, "pageheap_unmapped", 0);
    put_count(&w, "pageheap_free", m.fordblks);
    put_count(&w, "total_thread_cache", 0);
    put_count(&w, "total_physical_bytes", m.arena + m.hblkhd);
    json_close(&w, '}');
    admin_put_json(rs, &w);
}

void admin_certs(const struct admin_request *rq, struct admin_response *rs)
{
    struct json_writer w;
    json_writer_init(&w, true);
    tls_certs_write(&w, (int64_t)(loop_wall_us(rq->server->loop) / 1000000));
    admin_put_json(rs, &w);
}

/* There is no runtime layer yet: nothing can be overridden, and that is what is shown. */
void admin_runtime(const struct admin_request *rq, struct admin_response *rs)
{
    struct json_writer w;
    json_writer_init(&w, true);
    json_open(&w, '{');
    json_key(&w, STR("layers"));
    json_open(&w, '[');
    json_close(&w, ']');
    json_key(&w, STR("entries"));
    json_open(&w, '{');
    json_close(&w, '}');
    json_close(&w, '}');
    admin_put_json(rs, &w);
}

void admin_runtime_modify(const struct admin_request *rq, struct admin_response *rs)
{
    if (rq->query.num == 0)
        admin_error(rs, 400, "usage: /runtime_modify?key1=value1&key2=value2");
    else
        admin_error(rs, 503, "No admin layer specified");
}

void admin_hot_restart_version(const struct admin_request *rq, struct admin_response *rs)
{
    buffer_add_str(&rs->body, STR("disabled"));
}

void admin_contention(const struct admin_request *rq, struct admin_response *rs)
{
    buffer_add_str(&rs->body, STR("Mutex contention is not traced: no request takes a mutex.\n"));
}

void admin_no_profiler(const struct admin_request *rq, struct admin_response *rs)
{
    admin_error(rs, 501, "%.*s is not supported: use perf or heaptrack on the process",
                STR_ARG(rq->path));
}

void admin_recent_lookups(const struct admin_request *rq, struct admin_response *rs)
{
    buffer_add_str(&rs->body,
                   STR("Lookup tracking is not supported: names are put together only when "
                       "printed.\n\ntotal: 0\n"));
}
