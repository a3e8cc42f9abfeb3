/* Byte buffer with a high and a low watermark: a chain of blocks. Bytes are moved between buffers
 * by relinking whole blocks. Blocks come from a per-thread free list (bounded) and go back to it
 * when drained, so that an idle connection holds none. Not thread-safe: a buffer belongs to one
 * loop. */
#pragma once

#include "base/str.h"
#include "base/alloc.h"
#include <sys/uio.h>

enum { BUFFER_BLOCK = 16384 }; /* payload bytes of an ordinary block */

struct buffer_block;

struct buffer {
    struct buffer_block *first, *last;
    size_t len;
    size_t high, low;         /* watermarks in bytes; high 0: none */
    bool above;               /* went over high and has not yet fallen to low */
    void (*on_above)(void *); /* called once when len goes over high */
    void (*on_below)(void *); /* called once when it falls to low or less */
    void *arg;
};

/* buffer_init makes an empty buffer without watermarks. */
void buffer_init(struct buffer *b);

/* buffer_set_watermarks sets high (low is half of it) and the callbacks, which run inside the call
 * that crosses the mark and must only set flags, count pauses or post tasks. */
void buffer_set_watermarks(struct buffer *b, size_t high, void (*on_above)(void *),
                           void (*on_below)(void *), void *arg);

/* buffer_cleanup frees the bytes; no callback runs. */
void buffer_cleanup(struct buffer *b);

/* buffer_add copies bytes to the end. */
void buffer_add(struct buffer *b, const void *p, size_t len);

/* buffer_add_str and buffer_printf append text. */
void buffer_add_str(struct buffer *b, struct str s);
void buffer_printf(struct buffer *b, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* buffer_prepend copies bytes before the first. */
void buffer_prepend(struct buffer *b, const void *p, size_t len);

/* buffer_reserve returns contiguous free space of at least `min` bytes at the end and its size in
 * *len; buffer_commit then says how many of them were filled. */
char *buffer_reserve(struct buffer *b, size_t min, size_t *len);
void buffer_commit(struct buffer *b, size_t len);

/* buffer_move takes up to `max` bytes from the front of `from` to the end of `to`; returns how
 * many. */
size_t buffer_move(struct buffer *to, struct buffer *from, size_t max);

/* buffer_copy_out copies up to `len` bytes from offset `off` to p without removing them; returns
 * how many. */
size_t buffer_copy_out(const struct buffer *b, size_t off, void *p, size_t len);

/* buffer_drain removes `len` bytes (at most all) from the front. */
void buffer_drain(struct buffer *b, size_t len);

/* buffer_fit gives most of the last block's free space back, for bytes that are going to wait: few
 * bytes in each of many buffers would hold a whole block each. */
void buffer_fit(struct buffer *b);

/* buffer_peek views the contiguous bytes at the front; empty when the buffer is. */
struct str buffer_peek(const struct buffer *b);

/* buffer_pullup makes the first `len` bytes contiguous (at most all there are) and views them with
 * what follows in the same block. For parsers with their own limit on len. */
struct str buffer_pullup(struct buffer *b, size_t len);

/* buffer_iov fills up to n vectors with the bytes at the front; returns how many it filled. */
int buffer_iov(const struct buffer *b, struct iovec *iov, int n);

/* buffer_free_list_trim gives this thread's cached blocks back to the heap (thread exit, tests). */
void buffer_free_list_trim(void);
