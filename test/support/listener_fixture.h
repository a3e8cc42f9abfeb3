/* Workers with listeners made by hand, for tests of what happens between accept and the filter
 * chain: no xds, no threads. All loops run on the calling thread, in turns; time is real. */
#pragma once

#include "proxy/listener/accept.h"
#include "proxy/listener/listeners.h"
#include "proxy/listener/worker_listeners.h"
#include "proxy/server.h"

enum { LISTENER_FIXTURE_WORKERS = 2 };

struct listener_fixture {
    struct server server;
    struct worker workers[LISTENER_FIXTURE_WORKERS];
    struct compile_env env;
    struct arena arena;
    struct errors errors;
    const char *chain_match; /* of the chain of listeners compiled from now on; NULL: fits all */
};

/* listener_fixture_start makes the workers; _stop ends them and everything that is left. */
void listener_fixture_start(struct listener_fixture *f);
void listener_fixture_stop(struct listener_fixture *f);

/* listener_fixture_compile compiles a Listener written as YAML: `fields` beside a name and an
 * address of 127.0.0.1 (`port`), and a chain whose tcp_proxy has no cluster: a connection that gets
 * there stays until its client ends. One reference, the caller's; aborts on errors. */
struct listener *listener_fixture_compile(struct listener_fixture *f, unsigned port,
                                          const char *fields);

/* listener_fixture_open binds it and lets the workers accept; returns the port. */
unsigned listener_fixture_open(struct listener_fixture *f, struct listener *l);

/* listener_fixture_connect connects a blocking client to a port of 127.0.0.1. */
int listener_fixture_connect(unsigned port);

/* listener_fixture_turn runs every loop `n` times without waiting. */
void listener_fixture_turn(struct listener_fixture *f, int n);

/* listener_fixture_until runs the loops until a statistic of l has reached `value`; false after
 * about 10 s. */
bool listener_fixture_until(struct listener_fixture *f, const struct listener *l, uint32_t stat,
                            uint64_t value);

/* listener_fixture_newest is the connection of worker `i` (from 0) that came last, NULL: none. */
struct downstream *listener_fixture_newest(struct listener_fixture *f, unsigned i);
