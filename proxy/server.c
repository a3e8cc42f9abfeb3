#include "proxy/server.h"

#include "api-protos/message.h"
#include "base/log.h"
#include "cluster/cluster_tls.h"
#include "cluster/clusters.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "proxy/admin/admin.h"
#include "proxy/bootstrap.h"
#include "proxy/listener/downstream.h"
#include "proxy/listener/listeners.h"
#include "proxy/observe/access_log.h"
#include "proxy/router/route_slots.h"
#include "proxy/server_start.h"
#include "proxy/server_stats.h"
#include "proxy/xds_stream.h"
#include "tls/tls_config.h"
#include "tls/tls_secret.h"
#include "xds/xds.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { POLL_MS = 100, QUIET_POLLS = 10 };

/* --- every worker --- */

struct visit {
    struct message msg;
    struct server *server;
    struct worker *worker;
    void (*cb)(struct worker *w, void *arg);
    void (*done)(void *arg);
    void *arg;
    unsigned *left;
};

static void deliver_back(void *arg)
{
    struct visit *v = arg;
    if (--*v->left == 0) {
        if (v->done)
            v->done(v->arg);
        mem_free(v->left);
    }
    mem_free(v);
}

static void deliver_visit(void *arg)
{
    struct visit *v = arg;
    v->cb(v->worker, v->arg);
    v->msg.deliver = deliver_back;
    mailbox_send(&v->server->box, &v->msg);
}

void server_each_worker(struct server *s, void (*cb)(struct worker *w, void *arg),
                        void (*done)(void *arg), void *arg)
{
    unsigned *left = NEW(unsigned);
    *left = s->num_workers;
    for (unsigned i = 0; i < s->num_workers; i++) {
        struct visit *v = NEW(struct visit);
        *v = (struct visit){
            {.deliver = deliver_visit, .arg = v}, s, &s->workers[i], cb, done, arg, left};
        mailbox_send(&s->workers[i].box, &v->msg);
    }
}

/* --- ready --- */

void server_check_ready(struct server *s)
{
    if (s->state != SERVER_INITIALIZING || !s->clusters_ready || !s->lds_settled ||
        !listeners_all_warm(s->listeners))
        return;
    s->state = SERVER_LIVE;
    LOG_INFO(main, "all dependencies initialized, serving with %u workers after %llu ms",
             s->num_workers, (unsigned long long)(loop_now_ms(s->loop) - s->start_ms));
    if (s->options->mode == MODE_INIT_ONLY)
        server_shutdown(s, true);
}

/* --- drain --- */

static void begin_drain(struct worker *w, void *arg)
{
    struct server *s = arg;
    w->draining = true;
    w->drain_gradual = !s->options->drain_immediate;
    w->drain_ms = s->options->drain_time_s * 1000;
    w->drain_start_ms = loop_now_ms(w->loop);
}

static void on_drain_end(void *arg)
{
    server_shutdown(arg, true);
}

void server_drain_listeners(struct server *s, bool inbound_only, bool graceful, bool skip_exit)
{
    uint64_t ms = s->options->drain_time_s * 1000;
    LOG_INFO(main, "draining %s listeners", inbound_only ? "inbound" : "all");
    if (!inbound_only)
        server_each_worker(s, begin_drain, NULL, s);
    listeners_drain(s->listeners, inbound_only, graceful || skip_exit, skip_exit ? UINT32_MAX : ms);
}

static uint64_t load(const _Atomic uint64_t *p)
{
    return atomic_load_explicit(p, memory_order_relaxed);
}

/* Idle connections do not hold the end back, but a client may be sending a request on one right
 * now: only when nothing has come for a while is it time. */
static void on_poll(void *arg)
{
    struct server *s = arg;
    uint64_t connections = 0, active = 0, started = 0;
    for (unsigned i = 0; i < s->num_workers; i++) {
        connections += load(&s->workers[i].num_downstreams);
        active += load(&s->workers[i].num_active);
        started += load(&s->workers[i].num_started);
    }
    s->quiet_polls = active || started != s->quiet_started ? 0 : s->quiet_polls + 1;
    s->quiet_started = started;
    if (connections == 0 || s->quiet_polls > QUIET_POLLS)
        loop_stop(s->loop);
    else
        timer_arm(&s->poll_timer, POLL_MS);
}

void server_shutdown(struct server *s, bool at_once)
{
    if (at_once || s->shutting_down) {
        loop_stop(s->loop);
        return;
    }
    LOG_INFO(main, "shutting down: connections may end within %llu s",
             (unsigned long long)s->options->drain_time_s);
    s->shutting_down = true;
    s->state = SERVER_DRAINING;
    server_each_worker(s, begin_drain, NULL, s);
    listeners_drain(s->listeners, false, true, UINT32_MAX);
    timer_arm(&s->drain_timer, s->options->drain_time_s * 1000);
    timer_arm(&s->poll_timer, POLL_MS);
}

/* --- signals --- */

static void on_signal(void *arg, int signo)
{
    struct server *s = arg;
    if (signo == SIGUSR1) {
        log_files_reopen(s->files);
        log_reopen();
        return;
    }
    LOG_INFO(main, "%s", strsignal(signo));
    server_shutdown(s, signo == SIGINT);
}

static void set_signals(struct server *s)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    loop_on_signal(s->loop, SIGTERM, on_signal, s);
    loop_on_signal(s->loop, SIGINT, on_signal, s);
    loop_on_signal(s->loop, SIGUSR1, on_signal, s);
}

/* --- start --- */

static void on_lds_settled(void *arg)
{
    struct server *s = arg;
    s->lds_settled = true;
    listeners_recheck(s->listeners);
}

static void on_clusters_ready(void *arg)
{
    struct server *s = arg;
    s->clusters_ready = true;
    s->state = SERVER_INITIALIZING;
    listeners_start(s->listeners);
    if (!server_start_lds(s, on_lds_settled))
        s->lds_settled = true;
    server_check_ready(s);
}

static void on_flush(void *arg)
{
    struct server *s = arg;
    stats_flush();
    timer_arm(&s->flush_timer, s->flush_ms);
}

static bool start_workers(struct server *s)
{
    for (unsigned i = 0; i < s->num_workers; i++) {
        clusters_attach(s->clusters, s->workers[i].clusters);
        if (!worker_start(&s->workers[i])) {
            fprintf(stderr, "attache: cannot start worker %u: %s\n", i, strerror(errno));
            s->num_started = i;
            return false;
        }
        s->num_started = i + 1;
    }
    s->workers_started = true;
    return true;
}

static void raise_fd_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

static void stop(struct server *s)
{
    timer_disarm(&s->flush_timer);
    timer_disarm(&s->drain_timer);
    timer_disarm(&s->poll_timer);
    admin_free(&s->admin);
    for (unsigned i = 0; i < s->num_workers; i++) {
        clusters_detach(s->clusters, s->workers[i].clusters);
        if (i < s->num_started)
            worker_stop(&s->workers[i]);
        else
            worker_cleanup(&s->workers[i]);
    }
    listeners_free(&s->listeners);
    server_free(s);
}

int server_run(const struct options *o)
{
    struct server *s = NEW(struct server);
    int code = 1;
    raise_fd_limit();
    s->options = o;
    s->state = SERVER_PRE_INITIALIZING;
    if (!server_prepare(s)) {
        mem_free(s);
        return 1;
    }
    set_signals(s);
    timer_init(&s->drain_timer, s->loop, on_drain_end, s);
    timer_init(&s->poll_timer, s->loop, on_poll, s);
    timer_init(&s->flush_timer, s->loop, on_flush, s);
    timer_arm(&s->flush_timer, s->flush_ms);
    if (start_workers(s) && server_start_clusters(s, on_clusters_ready)) {
        LOG_INFO(main, "starting main dispatch loop");
        loop_run(s->loop);
        code = s->exit_code;
    }
    LOG_INFO(main, "exiting");
    stop(s);
    mem_free(s);
    return code;
}
