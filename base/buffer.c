#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>

struct buffer_block {
    struct buffer_block *next;
    uint32_t off, end, cap;
    char data[];
};

/* Drained blocks of ordinary size, kept for the thread's next buffer. 64 blocks are 1 MiB. */
enum { FREE_MAX = 64, SMALL_COPY = 1024 };
static _Thread_local struct buffer_block *free_blocks;
static _Thread_local unsigned num_free;

static struct buffer_block *block_new(size_t min)
{
    struct buffer_block *k;
    if (min <= BUFFER_BLOCK && free_blocks) {
        k = free_blocks;
        free_blocks = k->next;
        num_free--;
    } else {
        size_t cap = min <= BUFFER_BLOCK ? BUFFER_BLOCK : min;
        CHECK(cap < UINT32_MAX);
        k = mem_alloc(sizeof(*k) + cap);
        k->cap = (uint32_t)cap;
    }
    k->next = NULL;
    k->off = k->end = 0;
    return k;
}

static void block_free(struct buffer_block *k)
{
    if (k->cap == BUFFER_BLOCK && num_free < FREE_MAX) {
        k->next = free_blocks;
        free_blocks = k;
        num_free++;
        return;
    }
    mem_free(k);
}

void buffer_free_list_trim(void)
{
    while (free_blocks) {
        struct buffer_block *k = free_blocks;
        free_blocks = k->next;
        mem_free(k);
    }
    num_free = 0;
}

void buffer_init(struct buffer *b)
{
    *b = (struct buffer){0};
}

void buffer_set_watermarks(struct buffer *b, size_t high, void (*on_above)(void *),
                           void (*on_below)(void *), void *arg)
{
    b->high = high;
    b->low = high / 2;
    b->on_above = on_above;
    b->on_below = on_below;
    b->arg = arg;
}

void buffer_cleanup(struct buffer *b)
{
    while (b->first) {
        struct buffer_block *k = b->first;
        b->first = k->next;
        block_free(k);
    }
    b->last = NULL;
    b->len = 0;
    b->above = false;
}

static void grown(struct buffer *b)
{
    if (b->high && !b->above && b->len > b->high) {
        b->above = true;
        if (b->on_above)
            b->on_above(b->arg);
    }
}

static void shrunk(struct buffer *b)
{
    if (b->above && b->len <= b->low) {
        b->above = false;
        if (b->on_below)
            b->on_below(b->arg);
    }
}

static void append_block(struct buffer *b, struct buffer_block *k)
{
    k->next = NULL;
    if (b->last)
        b->last->next = k;
    else
        b->first = k;
    b->last = k;
}

char *buffer_reserve(struct buffer *b, size_t min, size_t *len)
{
    struct buffer_block *k = b->last;
    if (!k || (size_t)(k->cap - k->end) < min || k->cap == k->end) {
        k = block_new(min);
        append_block(b, k);
    }
    *len = k->cap - k->end;
    return k->data + k->end;
}

void buffer_commit(struct buffer *b, size_t len)
{
    struct buffer_block *k = b->last;
    CHECK(k && len <= (size_t)(k->cap - k->end));
    k->end += (uint32_t)len;
    b->len += len;
    if (b->len == 0)
        buffer_drain(b, 0);
    grown(b);
}

void buffer_add(struct buffer *b, const void *p, size_t len)
{
    const char *from = p;
    while (len) {
        size_t room;
        char *to = buffer_reserve(b, 1, &room);
        size_t n = len < room ? len : room;
        memcpy(to, from, n);
        b->last->end += (uint32_t)n;
        b->len += n;
        from += n;
        len -= n;
    }
    grown(b);
}

void buffer_add_str(struct buffer *b, struct str s)
{
    buffer_add(b, s.p, s.len);
}

void buffer_printf(struct buffer *b, const char *fmt, ...)
{
    char small[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    va_end(ap);
    CHECK(n >= 0);
    if ((size_t)n < sizeof(small)) {
        buffer_add(b, small, (size_t)n);
        return;
    }
    char *big = mem_alloc((size_t)n + 1);
    va_start(ap, fmt);
    vsnprintf(big, (size_t)n + 1, fmt, ap);
    va_end(ap);
    buffer_add(b, big, (size_t)n);
    mem_free(big);
}

void buffer_prepend(struct buffer *b, const void *p, size_t len)
{
    if (!len)
        return;
    struct buffer_block *k = b->first;
    if (!k || k->off < len) {
        k = block_new(len);
        k->off = k->end = k->cap;
        k->next = b->first;
        b->first = k;
        if (!b->last)
            b->last = k;
    }
    k->off -= (uint32_t)len;
    memcpy(k->data + k->off, p, len);
    b->len += len;
    grown(b);
}

void buffer_fit(struct buffer *b)
{
    enum { SMALLEST = 256 };
    struct buffer_block *k = b->last, *fit, **at = &b->first;
    if (!k || k->cap < 2 * SMALLEST)
        return;
    size_t n = k->end - k->off, cap = n + n / 2;
    if (cap < b->len / 4) /* blocks that grow with the bytes: few of them */
        cap = b->len / 4;
    if (cap < SMALLEST)
        cap = SMALLEST;
    if (cap >= k->cap / 2)
        return;
    fit = mem_alloc(sizeof(*fit) + cap);
    *fit = (struct buffer_block){.end = (uint32_t)n, .cap = (uint32_t)cap};
    memcpy(fit->data, k->data + k->off, n);
    while (*at != k)
        at = &(*at)->next;
    *at = b->last = fit;
    block_free(k);
}

size_t buffer_move(struct buffer *to, struct buffer *from, size_t max)
{
    size_t moved = 0;
    while (moved < max && from->first) {
        struct buffer_block *k = from->first;
        size_t n = k->end - k->off;
        size_t left = max - moved;
        size_t room = to->last ? to->last->cap - to->last->end : 0;
        if (n > left || (n <= SMALL_COPY && n <= room)) {
            size_t take = n < left ? n : left;
            const char *src = k->data + k->off;
            struct buffer_block *held = NULL;
            if (take == n) { /* goes to the free list only after it was copied */
                from->first = k->next;
                if (!from->first)
                    from->last = NULL;
                held = k;
            } else {
                k->off += (uint32_t)take;
            }
            from->len -= take;
            buffer_add(to, src, take);
            if (held)
                block_free(held);
            moved += take;
            continue;
        }
        from->first = k->next;
        if (!from->first)
            from->last = NULL;
        from->len -= n;
        append_block(to, k);
        to->len += n;
        moved += n;
    }
    grown(to);
    shrunk(from);
    return moved;
}

size_t buffer_copy_out(const struct buffer *b, size_t off, void *p, size_t len)
{
    size_t done = 0;
    char *to = p;
    for (struct buffer_block *k = b->first; k && done < len; k = k->next) {
        size_t n = k->end - k->off;
        if (off >= n) {
            off -= n;
            continue;
        }
        size_t take = n - off < len - done ? n - off : len - done;
        memcpy(to + done, k->data + k->off + off, take);
        done += take;
        off = 0;
    }
    return done;
}

void buffer_drain(struct buffer *b, size_t len)
{
    if (len > b->len)
        len = b->len;
    b->len -= len;
    while (b->first) {
        struct buffer_block *k = b->first;
        size_t n = k->end - k->off;
        if (len < n) {
            k->off += (uint32_t)len;
            break;
        }
        len -= n;
        b->first = k->next;
        if (!b->first)
            b->last = NULL;
        block_free(k);
    }
    shrunk(b);
}

struct str buffer_peek(const struct buffer *b)
{
    for (struct buffer_block *k = b->first; k; k = k->next)
        if (k->end > k->off)
            return str_n(k->data + k->off, k->end - k->off);
    return STR_NULL;
}

struct str buffer_pullup(struct buffer *b, size_t len)
{
    if (len > b->len)
        len = b->len;
    struct buffer_block *k = b->first;
    if (!k)
        return STR_NULL;
    if ((size_t)(k->end - k->off) >= len)
        return buffer_peek(b);
    struct buffer_block *one = block_new(len);
    one->end = (uint32_t)buffer_copy_out(b, 0, one->data, len);
    size_t left = len;
    while (left) {
        k = b->first;
        size_t n = k->end - k->off;
        if (left < n) {
            k->off += (uint32_t)left;
            break;
        }
        left -= n;
        b->first = k->next;
        block_free(k);
    }
    one->next = b->first;
    b->first = one;
    if (!one->next)
        b->last = one;
    return str_n(one->data, one->end);
}

int buffer_iov(const struct buffer *b, struct iovec *iov, int n)
{
    int i = 0;
    for (struct buffer_block *k = b->first; k && i < n; k = k->next) {
        if (k->end == k->off)
            continue;
        iov[i].iov_base = k->data + k->off;
        iov[i].iov_len = k->end - k->off;
        i++;
    }
    return i;
}
