/* Small numbers for threads that write logs: each has one while it lives, and a later thread may
 * have it again. So a table indexed by it has one writer at a time. Any thread. */
#pragma once

#include <stdbool.h>

enum { LOG_THREADS_MAX = 1024 };

/* log_thread_index gives the calling thread's number, below LOG_THREADS_MAX; false when so many
 * threads have one. */
bool log_thread_index(unsigned *out);

/* log_thread_count is one more than the largest number given so far. */
unsigned log_thread_count(void);
