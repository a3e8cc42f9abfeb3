/* Server: the main thread's objects, start-up in order, drain and end. Everything here: main
 * thread. */
#pragma once

#include "base/addr.h"
#include "base/errors.h"
#include "base/loop.h"
#include "base/mailbox.h"
#include "base/stats.h"
#include "cluster/event_log.h"
#include "proxy/options.h"
#include "proxy/worker.h"

/* server.state as Envoy counts it. */
enum server_state { SERVER_LIVE, SERVER_DRAINING, SERVER_PRE_INITIALIZING, SERVER_INITIALIZING };

struct pb_counts;
struct pb_opts;

struct server {
    const struct options *options;
    struct loop *loop;
    struct mailbox box; /* of main */
    struct worker *workers;
    unsigned num_workers, num_started;
    enum server_state state;
    bool workers_started;
    _Atomic bool health_failed; /* /healthcheck/fail; workers read it */
    uint64_t start_wall_us, start_ms;
    struct addr local_ip; /* the machine's, ADDR_NONE if it has none but loopback */
    struct bootstrap *bootstrap;
    struct xds *xds;
    struct tls_secrets *tls;
    struct clusters *clusters;
    struct listeners *listeners;
    struct route_slots *routes;
    struct log_files *files;
    struct event_sink event_sink;
    struct event_log outlier_log; /* cluster_manager.outlier_detection */
    struct admin *admin;
    struct compile_env *env;
    struct stats_scope *stats; /* "server." */
    struct timer drain_timer;  /* end of a drain */
    struct timer poll_timer;   /* while draining: is anything left */
    struct timer flush_timer;
    uint64_t flush_ms;
    struct pb_counts *dynamic_counts;
    const struct resolver_options *dns; /* of clusters that do not say */
    const struct pb_opts *pb_static, *pb_dynamic;
    uint64_t quiet_started; /* at the poll before: requests ever started */
    unsigned quiet_polls;   /* polls without any request */
    bool clusters_ready, lds_settled, shutting_down;
    int exit_code;
};

/* server_run starts everything from the options, runs until the end and returns the exit code. */
int server_run(const struct options *o);

/* server_validate compiles the configuration without opening anything; prints errors; exit code. */
int server_validate(const struct options *o);

/* server_check_ready looks whether the first configuration is in force: state LIVE from then on. */
void server_check_ready(struct server *s);

/* server_drain_listeners: POST /drain_listeners: connections are asked to end and listeners stop
 * accepting, at once or (graceful) when the drain time is over. `skip_exit`: they never do. The
 * process goes on in any case, as Envoy's. */
void server_drain_listeners(struct server *s, bool inbound_only, bool graceful, bool skip_exit);

/* server_shutdown: SIGTERM drains for the drain time while requests are under way,
 * then ends. */
void server_shutdown(struct server *s, bool at_once);

/* server_each_worker runs cb(worker, arg) on every worker's thread, soon; `done(arg)`, may be NULL,
 * on main after all have run it. */
void server_each_worker(struct server *s, void (*cb)(struct worker *w, void *arg),
                        void (*done)(void *arg), void *arg);
