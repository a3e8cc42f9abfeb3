/* Timer wheel: four levels of 256 slots, the lowest of 1 ms. Filing and taking out are O(1); an
 * armed timer whose deadline moves later stays where it is and is filed again when its slot comes
 * up. Part of the loop; used by base/loop.c only. */
#pragma once

#include "base/loop.h"

enum { WHEEL_LEVELS = 4, WHEEL_SLOTS = 256 };

struct wheel {
    uint64_t now_ms; /* slots before and at this have been run */
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
    uint64_t used[WHEEL_LEVELS][WHEEL_SLOTS / 64]; /* bit set: slot may hold timers */
    size_t num;
};

/* wheel_init starts an empty wheel at `now_ms`. */
void wheel_init(struct wheel *w, uint64_t now_ms);

/* wheel_file files t under t->due_ms, which is later than now; wheel_take takes it out. */
void wheel_file(struct wheel *w, struct timer *t);
void wheel_take(struct wheel *w, struct timer *t);

/* wheel_next returns when the wheel next needs to be advanced, UINT64_MAX when it is empty. Not
 * later than the first deadline. */
uint64_t wheel_next(const struct wheel *w);

/* wheel_advance moves to `now_ms` and collects the timers that are due, unlinked from the wheel, on
 * `due` in slot order. */
void wheel_advance(struct wheel *w, uint64_t now_ms, struct list *due);
