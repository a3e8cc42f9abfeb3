/* The memory of one nghttp2 session, and what an idle connection gives back of it. A session is
 * made with a frame buffer and a table of streams that take pages of their own and hold nothing
 * between two frames and two streams: about 8 of its 14 KiB. Private to h2_codec.c; worker's
 * thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { H2_PAGES = 4 };

struct h2_memory {
    bool making; /* the session is being made: what it asks for stays for its life */
    struct h2_pages {
        char *p; /* NULL: none, or freed since */
        size_t len;
        bool scratch; /* the frame buffer; else it is left alone unless all of it is zero */
    } pages[H2_PAGES];
};

/* h2_memory_init prepares m, which must stay in its place while the session lives. The session is
 * made next, with the four functions below and m as their argument, then h2_memory_made is called.
 */
void h2_memory_init(struct h2_memory *m);
void h2_memory_made(struct h2_memory *m);

/* h2_memory_trim gives back what holds nothing. Only while the session has nothing to send. */
void h2_memory_trim(struct h2_memory *m);

/* What the session takes its memory with; out of memory ends the process. */
void *h2_memory_malloc(size_t len, void *m);
void h2_memory_free(void *p, void *m);
void *h2_memory_calloc(size_t num, size_t size, void *m);
void *h2_memory_realloc(void *p, size_t len, void *m);
