/* What an admin page is: a function from a request to a response, without a socket. All pages stand
 * in one table (admin_pages.c). Main thread; no page waits for anything. */
#pragma once

#include "base/buffer.h"
#include "base/json.h"
#include "proxy/admin/admin_query.h"

struct regex;
struct server;

struct admin_request {
    struct server *server;
    struct arena *arena; /* of the exchange: lives until the response is sent */
    struct str method;
    struct str path; /* without the query */
    struct admin_query query;
};

struct admin_response {
    unsigned status;          /* 200 */
    const char *content_type; /* ADMIN_TEXT */
    struct buffer body;
    /* A long body comes in slices: more(arg, out) appends the next one, and false was the last.
     * Called from the loop, each time in another iteration, while what was sent is being taken.
     * done(arg), may be NULL, is called once, at the end or when the client has gone. Only a page
     * that sets more sets done. */
    bool (*more)(void *arg, struct buffer *out);
    void (*done)(void *arg);
    void *arg;
    /* Set: runs from the loop soon after the response was sent (the end of the process must not cut
     * its own answer off). */
    void (*after)(struct server *s);
};

#define ADMIN_TEXT "text/plain; charset=UTF-8"
#define ADMIN_JSON "application/json"
#define ADMIN_HTML "text/html; charset=UTF-8"

typedef void (*admin_run_cb)(const struct admin_request *rq, struct admin_response *rs);

/* A parameter that /help and the home page name. */
struct admin_param_help {
    const char *name, *help;
};

struct admin_page {
    const char *path;
    bool mutates; /* wants POST */
    admin_run_cb run;
    const char *help;
    const struct admin_param_help *params; /* ends with a NULL name; NULL: none */
};

/* admin_pages are all of them, sorted by path. */
extern const struct admin_page admin_pages[];
extern const size_t admin_num_pages;

/* admin_respond runs the page of the request: 404 with the list for a path there is none for, 405
 * for a page that changes something and is not asked with POST. *rs must be zeroed; its body and
 * what it holds are the caller's. */
void admin_respond(const struct admin_request *rq, struct admin_response *rs);

/* admin_response_cleanup frees the body and what a body in slices still holds. */
void admin_response_cleanup(struct admin_response *rs);

/* admin_error makes the response a text with another status; a newline is added. */
void admin_error(struct admin_response *rs, unsigned status, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/* admin_ok makes it "OK". */
void admin_ok(struct admin_response *rs);

/* admin_put_json makes it the JSON written, which is taken and cleaned up. */
void admin_put_json(struct admin_response *rs, struct json_writer *w);

/* admin_put_time writes a member that is a Timestamp, of microseconds since the epoch; nothing for
 * 0. */
void admin_put_time(struct json_writer *w, const char *key, uint64_t wall_us);

/* admin_put_html appends text to a page, with what HTML gives a meaning to escaped. */
void admin_put_html(struct buffer *b, struct str text);

/* admin_flag says whether a parameter is there, whatever its value. */
bool admin_flag(const struct admin_request *rq, const char *name);

/* admin_regex compiles the parameter `name`. False: it is no regular expression; *err says why, in
 * the request's arena. *out is NULL when it is absent or empty, else the caller's. */
bool admin_regex(const struct admin_request *rq, const char *name, struct regex **out,
                 struct str *err) WARN_UNUSED;

/* The pages. */
void admin_home(const struct admin_request *rq, struct admin_response *rs);
void admin_help(const struct admin_request *rq, struct admin_response *rs);
void admin_stats(const struct admin_request *rq, struct admin_response *rs);
void admin_stats_prometheus(const struct admin_request *rq, struct admin_response *rs);
void admin_config_dump(const struct admin_request *rq, struct admin_response *rs);
void admin_clusters(const struct admin_request *rq, struct admin_response *rs);
void admin_listeners(const struct admin_request *rq, struct admin_response *rs);
void admin_certs(const struct admin_request *rq, struct admin_response *rs);
void admin_server_info(const struct admin_request *rq, struct admin_response *rs);
void admin_logging(const struct admin_request *rq, struct admin_response *rs);
void admin_ready(const struct admin_request *rq, struct admin_response *rs);
void admin_drain_listeners(const struct admin_request *rq, struct admin_response *rs);
void admin_quit(const struct admin_request *rq, struct admin_response *rs);
void admin_healthcheck_fail(const struct admin_request *rq, struct admin_response *rs);
void admin_healthcheck_ok(const struct admin_request *rq, struct admin_response *rs);
void admin_reset_counters(const struct admin_request *rq, struct admin_response *rs);
void admin_reopen_logs(const struct admin_request *rq, struct admin_response *rs);
void admin_memory(const struct admin_request *rq, struct admin_response *rs);
void admin_runtime(const struct admin_request *rq, struct admin_response *rs);
void admin_runtime_modify(const struct admin_request *rq, struct admin_response *rs);
void admin_init_dump(const struct admin_request *rq, struct admin_response *rs);
void admin_hot_restart_version(const struct admin_request *rq, struct admin_response *rs);
void admin_contention(const struct admin_request *rq, struct admin_response *rs);
void admin_no_profiler(const struct admin_request *rq, struct admin_response *rs);
void admin_recent_lookups(const struct admin_request *rq, struct admin_response *rs);
