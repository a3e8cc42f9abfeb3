#include "proxy/filters/admission_window.h"

#include "base/alloc.h"
#include <math.h>

void admission_window_init(struct admission_window *w, uint32_t seconds)
{
    *w = (struct admission_window){.seconds = seconds ? seconds : 1};
}

void admission_window_cleanup(struct admission_window *w)
{
    mem_free(w->ring);
    w->ring = NULL;
}

static struct admission_bucket *bucket(struct admission_window *w, uint64_t second)
{
    return &w->ring[second % w->seconds];
}

static void drop(struct admission_window *w, uint64_t second)
{
    struct admission_bucket *b = bucket(w, second);
    w->requests -= b->requests;
    w->successes -= b->successes;
    *b = (struct admission_bucket){0, 0};
}

static void forget(struct admission_window *w, uint64_t now)
{
    if (!w->last_s)
        return;
    while (w->first_s <= w->last_s && now - w->first_s >= w->seconds)
        drop(w, w->first_s++);
    if (w->first_s > w->last_s)
        w->first_s = w->last_s = 0;
}

void admission_window_record(struct admission_window *w, uint64_t now, bool success)
{
    forget(w, now);
    if (!w->ring)
        w->ring = mem_zalloc(w->seconds * sizeof(*w->ring));
    if (!w->last_s)
        w->first_s = now;
    w->last_s = now;
    bucket(w, now)->requests++;
    bucket(w, now)->successes += success;
    w->requests++;
    w->successes += success;
}

uint64_t admission_window_rps(struct admission_window *w, uint64_t now)
{
    forget(w, now);
    uint64_t age = w->last_s ? now - w->first_s : 0;
    return w->requests / (age ? age : 1);
}

double admission_probability(uint64_t requests, uint64_t successes, double threshold,
                             double aggression)
{
    double p = ((double)requests - (double)successes / threshold) / ((double)requests + 1);
    if (p <= 0)
        return 0;
    return aggression > 1 ? pow(p, 1 / aggression) : p;
}
