/* Secrets that name files: read again when something is moved into their directory (rename is
 * atomic, a write is not; Kubernetes moves a link), as in Envoy for secrets from SDS. One set of
 * watches for the process; main thread. */
#pragma once

#include "base/list.h"
#include "tls/tls_secret.h"

/* Someone's interest in one secret; embedded. */
struct secret_watch {
    struct list link;
    struct watched_secret *secret;
    /* Borrowed; from the loop. Must not begin or end a watch. */
    void (*changed)(void *arg, struct tls_secret *now);
    void *arg;
};

/* secret_files_watch begins to watch: w->changed comes with each new good version. A secret without
 * files is never watched. */
void secret_files_watch(struct tls_secrets *s, struct tls_secret *secret, struct secret_watch *w);

/* secret_files_unwatch ends it; fine if w was never watching. */
void secret_files_unwatch(struct tls_secrets *s, struct secret_watch *w);

/* secret_files_free frees the watches, of which none may be in use; *f becomes NULL. */
void secret_files_free(struct secret_files **f);
