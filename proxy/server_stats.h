/* The statistics of the process, "server.". Main thread. */
#pragma once

struct server;

/* server_stats_init makes the scope s->stats; server_stats_free frees it. */
void server_stats_init(struct server *s);
void server_stats_free(struct server *s);
