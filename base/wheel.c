#include "base/wheel.h"

enum { SLOT_BITS = 8, SLOT_MASK = WHEEL_SLOTS - 1 };

void wheel_init(struct wheel *w, uint64_t now_ms)
{
    w->now_ms = now_ms;
    w->num = 0;
    for (int l = 0; l < WHEEL_LEVELS; l++) {
        for (int s = 0; s < WHEEL_SLOTS; s++)
            list_init(&w->slots[l][s]);
        for (size_t i = 0; i < ARRAY_LEN(w->used[l]); i++)
            w->used[l][i] = 0;
    }
}

void wheel_file(struct wheel *w, struct timer *t)
{
    uint64_t due = t->due_ms > w->now_ms ? t->due_ms : w->now_ms + 1;
    /* The level is that of the highest digit in which due differs from now: no slot of a level is
     * used for two different rounds at once. Too far away: filed at the far end, filed again then.
     */
    uint64_t far_end = w->now_ms | ((1ULL << (SLOT_BITS * WHEEL_LEVELS)) - 1);
    if (due > far_end) {
        due = far_end;
        if (due <= w->now_ms)
            due = w->now_ms + 1;
    }
    uint64_t diff = due ^ w->now_ms;
    int level = 0;
    while (level < WHEEL_LEVELS - 1 && (diff >> (SLOT_BITS * (level + 1))) != 0)
        level++;
    unsigned slot = (unsigned)(due >> (SLOT_BITS * level)) & SLOT_MASK;
    t->slot_ms = due >> (SLOT_BITS * level) << (SLOT_BITS * level);
    list_push_tail(&w->slots[level][slot], &t->link);
    w->used[level][slot / 64] |= 1ULL << (slot % 64);
    w->num++;
}

void wheel_take(struct wheel *w, struct timer *t)
{
    if (!list_linked(&t->link))
        return;
    list_remove(&t->link);
    w->num--;
}

/* The first slot at or after `from` that may hold timers, or WHEEL_SLOTS. */
static unsigned next_used(const uint64_t *used, unsigned from)
{
    for (unsigned i = from / 64; i < WHEEL_SLOTS / 64; i++) {
        uint64_t bits = used[i];
        if (i == from / 64)
            bits &= ~0ULL << (from % 64);
        if (bits)
            return i * 64 + (unsigned)__builtin_ctzll(bits);
    }
    return WHEEL_SLOTS;
}

uint64_t wheel_next(const struct wheel *w)
{
    if (w->num == 0)
        return UINT64_MAX;
    for (int l = 0; l < WHEEL_LEVELS; l++) {
        unsigned cur = (unsigned)(w->now_ms >> (SLOT_BITS * l)) & SLOT_MASK;
        unsigned slot = cur + 1 < WHEEL_SLOTS ? next_used(w->used[l], cur + 1) : WHEEL_SLOTS;
        if (slot < WHEEL_SLOTS) {
            uint64_t round = w->now_ms >> (SLOT_BITS * (l + 1)) << (SLOT_BITS * (l + 1));
            return round + ((uint64_t)slot << (SLOT_BITS * l));
        }
    }
    /* Only the wrap of the whole wheel is left: the start of its next round. */
    return (w->now_ms | ((1ULL << (SLOT_BITS * WHEEL_LEVELS)) - 1)) + 1;
}

/* Files everything of a slot again, by its own deadline, or hands it over when that has come. */
static void spill(struct wheel *w, int level, unsigned slot, struct list *due)
{
    struct list moved = LIST_INIT(moved);
    list_move_all(&moved, &w->slots[level][slot]);
    w->used[level][slot / 64] &= ~(1ULL << (slot % 64));
    struct list *e;
    while ((e = list_pop_head(&moved))) {
        struct timer *t = CONTAINER_OF(e, struct timer, link);
        w->num--;
        if (t->due_ms <= w->now_ms)
            list_push_tail(due, e);
        else
            wheel_file(w, t);
    }
}

void wheel_advance(struct wheel *w, uint64_t now_ms, struct list *due)
{
    while (w->now_ms < now_ms) {
        uint64_t next = wheel_next(w);
        if (next > now_ms) {
            w->now_ms = now_ms;
            return;
        }
        w->now_ms = next;
        for (int l = WHEEL_LEVELS - 1; l >= 0; l--) {
            if (l && (next & ((1ULL << (SLOT_BITS * l)) - 1)) != 0)
                continue;
            spill(w, l, (unsigned)(next >> (SLOT_BITS * l)) & SLOT_MASK, due);
        }
    }
}
