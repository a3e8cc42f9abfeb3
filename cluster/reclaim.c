#include "cluster/reclaim.h"

void reclaim_init(struct reclaim *r, const struct reclaim_home *home, void (*free_obj)(void *obj),
                  void *obj)
{
    refcount_init(&r->ref);
    r->home = home;
    r->free = free_obj;
    r->obj = obj;
}

static void on_home(void *arg)
{
    struct reclaim *r = arg;
    r->free(r->obj);
}

void reclaim_unref(struct reclaim *r)
{
    if (!refcount_dec(&r->ref))
        return;
    if (!r->home || pthread_equal(r->home->thread, pthread_self())) {
        r->free(r->obj);
        return;
    }
    r->message = (struct message){.deliver = on_home, .arg = r};
    mailbox_send(r->home->mailbox, &r->message);
}
