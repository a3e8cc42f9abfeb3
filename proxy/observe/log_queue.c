#include "proxy/observe/log_queue.h"

static struct log_chunk *chunk_new(uint32_t cap)
{
    struct log_chunk *c = mem_alloc(sizeof(*c) + cap);
    atomic_init(&c->next, NULL);
    atomic_init(&c->filled, 0);
    c->cap = cap;
    return c;
}

struct log_queue *log_queue_new(void)
{
    struct log_queue *q = NEW(struct log_queue);
    q->head = q->tail = chunk_new(LOG_CHUNK);
    return q;
}

void log_queue_free(struct log_queue **q)
{
    if (!*q)
        return;
    for (struct log_chunk *c = (*q)->head, *next; c; c = next) {
        next = atomic_load_explicit(&c->next, memory_order_acquire);
        mem_free(c);
    }
    mem_free(atomic_load_explicit(&(*q)->spare, memory_order_acquire));
    mem_free(*q);
    *q = NULL;
}

/* Only the owner writes it: no read-modify-write needed. */
static void add(_Atomic(uint64_t) *n, uint64_t more)
{
    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

/* A chunk for `len` more bytes, linked behind the last; false when the budget is used up. */
static bool next_chunk(struct log_queue *q, size_t len, _Atomic(size_t) *budget, size_t max)
{
    uint32_t cap = len > LOG_CHUNK ? (uint32_t)len : LOG_CHUNK;
    size_t before = atomic_fetch_add_explicit(budget, cap, memory_order_relaxed);
    if (before + cap > max) {
        atomic_fetch_sub_explicit(budget, cap, memory_order_relaxed);
        return false;
    }
    struct log_chunk *c = NULL;
    if (cap == LOG_CHUNK)
        c = atomic_exchange_explicit(&q->spare, NULL, memory_order_acquire);
    if (!c)
        c = chunk_new(cap);
    atomic_store_explicit(&q->tail->next, c, memory_order_release);
    q->tail = c;
    return true;
}

bool log_queue_add(struct log_queue *q, struct str line, _Atomic(size_t) *budget, size_t max)
{
    uint32_t filled = atomic_load_explicit(&q->tail->filled, memory_order_relaxed);
    if (line.len > q->tail->cap - filled) {
        if (line.len > max || !next_chunk(q, line.len, budget, max)) {
            add(&q->dropped, 1);
            return false;
        }
        filled = 0;
    }
    if (line.len)
        memcpy(q->tail->data + filled, line.p, line.len);
    atomic_store_explicit(&q->tail->filled, filled + (uint32_t)line.len, memory_order_release);
    add(&q->bytes, line.len);
    add(&q->lines, 1);
    return true;
}

uint64_t log_queue_backlog(const struct log_queue *q)
{
    uint64_t taken = atomic_load_explicit(&q->taken, memory_order_relaxed);
    uint64_t bytes = atomic_load_explicit(&q->bytes, memory_order_relaxed);
    return bytes > taken ? bytes - taken : 0; /* taken may be the newer of the two */
}

/* The budget counts every chunk but one: whichever is the last has not been paid for. */
static void retire(struct log_queue *q, struct log_chunk *c, struct log_chunk *next,
                   _Atomic(size_t) *budget)
{
    atomic_fetch_sub_explicit(budget, next->cap, memory_order_relaxed);
    if (c->cap != LOG_CHUNK) {
        mem_free(c);
        return;
    }
    atomic_store_explicit(&c->next, NULL, memory_order_relaxed);
    atomic_store_explicit(&c->filled, 0, memory_order_relaxed);
    mem_free(atomic_exchange_explicit(&q->spare, c, memory_order_acq_rel));
}

struct str log_queue_peek(struct log_queue *q, _Atomic(size_t) *budget)
{
    for (;;) {
        struct log_chunk *c = q->head;
        /* next before filled: once there is a next, filled is final */
        struct log_chunk *next = atomic_load_explicit(&c->next, memory_order_acquire);
        uint32_t filled = atomic_load_explicit(&c->filled, memory_order_acquire);
        if (q->read < filled)
            return str_n(c->data + q->read, filled - q->read);
        if (!next)
            return STR_NULL;
        q->head = next;
        q->read = 0;
        retire(q, c, next, budget);
    }
}

void log_queue_take(struct log_queue *q, size_t len)
{
    q->read += (uint32_t)len;
    add(&q->taken, len);
}

void log_queue_rewind(struct log_queue *q)
{
    uint32_t filled = atomic_load_explicit(&q->head->filled, memory_order_acquire);
    const char *data = q->head->data;
    uint32_t from = q->read;
    /* no line break ahead: this format has none, and where a line began is not known */
    if (!memchr(data + from, '\n', filled - from))
        return;
    while (q->read > 0 && data[q->read - 1] != '\n')
        q->read--;
    uint64_t taken = atomic_load_explicit(&q->taken, memory_order_relaxed);
    atomic_store_explicit(&q->taken, taken - (from - q->read), memory_order_relaxed);
}
