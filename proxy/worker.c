#include "proxy/worker.h"

#include "base/arena.h"
#include "base/buffer.h"
#include "base/random.h"
#include "cluster/clusters.h"
#include "proxy/listener/listeners.h"
#include "proxy/router/shadow.h"
#include <signal.h>
#include <stdio.h>
#include <time.h>

struct str worker_date(struct worker *w)
{
    uint64_t s = loop_wall_us(w->loop) / 1000000;
    if (s != w->date_s) {
        static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                             "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        time_t t = (time_t)s;
        struct tm tm;
        gmtime_r(&t, &tm);
        snprintf(w->date, sizeof(w->date), "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday],
                 tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
                 tm.tm_sec);
        w->date_s = s;
    }
    return str_of(w->date);
}

bool worker_drain_close(struct worker *w)
{
    if (!w->draining)
        return false;
    if (!w->drain_gradual || !w->drain_ms)
        return true;
    uint64_t gone = loop_now_ms(w->loop) - w->drain_start_ms;
    return gone >= w->drain_ms || random_below(w->drain_ms) < gone;
}

struct arena *worker_arena_get(struct worker *w)
{
    if (w->num_arenas)
        return w->arenas[--w->num_arenas];
    return arena_new(4096);
}

void worker_arena_put(struct worker *w, struct arena *a)
{
    if (w->num_arenas == WORKER_ARENAS || a->used > WORKER_ARENA_KEEP) {
        arena_free(&a);
        return;
    }
    arena_reset(a);
    w->arenas[w->num_arenas++] = a;
}

void worker_cleanup(struct worker *w)
{
    worker_listeners_free(&w->listeners);
    shadows_end(w);
    worker_clusters_free(&w->clusters);
    /* What the two have put off, and what they have sent to this thread. */
    mailbox_cleanup(&w->box);
    loop_free(&w->loop);
    while (w->num_arenas)
        arena_free(&w->arenas[--w->num_arenas]);
    buffer_free_list_trim();
}

static void *run(void *arg)
{
    struct worker *w = arg;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    loop_set_thread_index(w->loop, w->index); /* also says whose thread this is */
    loop_run(w->loop);
    worker_cleanup(w);
    return NULL;
}

void worker_init(struct worker *w, struct server *s, unsigned index)
{
    w->server = s;
    w->index = index;
    w->loop = loop_new(false);
    loop_set_thread_index(w->loop, index);
    mailbox_init(&w->box, w->loop);
    list_init(&w->downstreams);
    list_init(&w->shadows);
    w->clusters = worker_clusters_new(w->loop, &w->box);
    w->listeners = worker_listeners_new(w);
}

bool worker_start(struct worker *w)
{
    return pthread_create(&w->thread, NULL, run, w) == 0;
}

static void deliver_stop(void *arg)
{
    struct worker *w = arg;
    loop_stop(w->loop);
}

static void deliver_quiet(void *arg)
{
    struct worker *w = arg;
    worker_listeners_stop(w->listeners);
    sem_post(&w->quiet);
}

void worker_quiet(struct worker *w)
{
    sem_init(&w->quiet, 0, 0);
    w->quiet_msg = (struct message){.deliver = deliver_quiet, .arg = w};
    mailbox_send(&w->box, &w->quiet_msg);
    while (sem_wait(&w->quiet) != 0) /* a signal */
        continue;
    sem_destroy(&w->quiet);
}

void worker_stop(struct worker *w)
{
    w->stop_msg = (struct message){.deliver = deliver_stop, .arg = w};
    mailbox_send(&w->box, &w->stop_msg);
    pthread_join(w->thread, NULL);
}
