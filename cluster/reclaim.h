/* Reclaim: reference-counted objects that any thread may let go of and that are freed on the main
 * thread: the last unref elsewhere sends the object home by mailbox. Embedded in its object. */
#pragma once

#include "base/mailbox.h"
#include "base/refcount.h"
#include <pthread.h>

/* Where objects go to be freed. Lives longer than any of its objects is referenced. */
struct reclaim_home {
    pthread_t thread;
    struct mailbox *mailbox;
};

struct reclaim {
    struct refcount ref;
    const struct reclaim_home *home; /* NULL: freed by whoever lets go last */
    void (*free)(void *obj);
    void *obj;
    struct message message;
};

/* reclaim_init sets the count to one, the creator's. `free_obj(obj)` runs on home's thread. */
void reclaim_init(struct reclaim *r, const struct reclaim_home *home, void (*free_obj)(void *obj),
                  void *obj);

/* reclaim_ref adds a reference; the caller holds one already. Any thread. */
static inline void reclaim_ref(struct reclaim *r)
{
    refcount_inc(&r->ref);
}

/* reclaim_unref drops one. The last one frees, inside the call if this is home's thread. Any
 * thread. */
void reclaim_unref(struct reclaim *r);
