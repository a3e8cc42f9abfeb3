/* The steps of starting, and what undoes them. Main thread; used by server.c. */
#pragma once

#include <stdbool.h>

struct server;

/* server_prepare reads the bootstrap and makes everything that does not need a running loop:
 * sockets are bound, static resources compiled, the admin port is open. False: what is wrong was
 * printed and everything is undone. */
bool server_prepare(struct server *s);

/* server_start_clusters begins with the clusters; `ready(s)` runs when the first are warm. False:
 * printed. */
bool server_start_clusters(struct server *s, void (*ready)(void *s));

/* server_start_lds subscribes to listeners; false if the bootstrap names no source of them. */
bool server_start_lds(struct server *s, void (*settled)(void *s));

/* server_free frees what server_prepare made, after the workers have ended and the listeners are
 * freed. */
void server_free(struct server *s);
