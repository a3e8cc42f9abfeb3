/* The outcomes of the last seconds, for admission_control: a ring of one bucket a second. One
 * thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct admission_bucket {
    uint32_t requests, successes;
};

struct admission_window {
    struct admission_bucket *ring; /* made at the first record; of `seconds` buckets */
    uint32_t seconds;
    uint64_t first_s, last_s;     /* the oldest one that counts, and the newest; both 0: none yet */
    uint64_t requests, successes; /* their sums */
};

/* admission_window_init makes an empty one; 0 seconds count as 1. */
void admission_window_init(struct admission_window *w, uint32_t seconds);

/* admission_window_cleanup frees the ring. */
void admission_window_cleanup(struct admission_window *w);

/* admission_window_record adds one outcome at the second `now`, which never goes back. */
void admission_window_record(struct admission_window *w, uint64_t now, bool success);

/* admission_window_rps drops what is too old and returns the requests a second since the oldest. */
uint64_t admission_window_rps(struct admission_window *w, uint64_t now);

/* admission_probability is how likely a request is turned away: (n - s / threshold) / (n + 1), and
 * of that the aggression's root; 0 to 1. */
double admission_probability(uint64_t requests, uint64_t successes, double threshold,
                             double aggression);
