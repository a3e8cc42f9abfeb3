/* The lines of one thread for one file, on their way to the writer thread: a list of chunks that
 * the producer fills and the writer empties, without a lock. A line never spans two chunks and is
 * published only when it is whole. One producer at a time and one consumer. */
#pragma once

#include "base/alloc.h"
#include "base/str.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { LOG_CHUNK = 16384 }; /* payload of an ordinary chunk; a longer line has one of its own */

struct log_chunk {
    _Atomic(struct log_chunk *) next; /* set once, when the producer went on to it */
    _Atomic(uint32_t) filled;         /* bytes published */
    uint32_t cap;
    char data[];
};

struct log_queue {
    /* The producer's. Counters are written by it alone, and read by anyone. */
    struct log_chunk *tail;
    _Atomic(uint64_t) lines, bytes, dropped;
    uint64_t kicked_at; /* `bytes` when the writer was last woken */
    /* The writer's. */
    struct log_chunk *head;
    uint32_t read;                     /* offset in head */
    _Atomic(uint64_t) taken;           /* bytes written to the file or given up */
    _Atomic(struct log_chunk *) spare; /* an empty chunk on its way back */
};

/* log_queue_new and log_queue_free. Nobody else may use the queue when it is freed. */
struct log_queue *log_queue_new(void);
void log_queue_free(struct log_queue **q);

/* log_queue_add appends a line. False when the chunk it would need does not fit *budget, which
 * counts the bytes of all chunks but the first of each queue, against `max`; the line is then
 * counted as dropped. Producer. */
bool log_queue_add(struct log_queue *q, struct str line, _Atomic(size_t) *budget, size_t max);

/* log_queue_backlog is the number of bytes queued and not yet taken. Any thread. */
uint64_t log_queue_backlog(const struct log_queue *q);

/* log_queue_peek views what can be written at once: whole lines. Empty: nothing. Writer. */
struct str log_queue_peek(struct log_queue *q, _Atomic(size_t) *budget);

/* log_queue_take removes `len` bytes of what peek showed. Writer. */
void log_queue_take(struct log_queue *q, size_t len);

/* log_queue_rewind goes back to the start of the line that a write has cut in two. Writer. */
void log_queue_rewind(struct log_queue *q);
