#include "proxy/http/h2_memory.h"

#include "base/alloc.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    PAGE = 4096, /* no more than that: with larger pages nothing is given back */
    FRAME = 16384,
    FRAME_EXTRA = 64, /* the frame buffer has room for a frame, its header and padding */
};

static struct h2_pages *pages_of(struct h2_memory *m, const void *p)
{
    for (unsigned i = 0; i < H2_PAGES; i++)
        if (m->pages[i].p == p)
            return &m->pages[i];
    return NULL;
}

static void *pages_new(struct h2_pages *g, size_t len)
{
    size_t whole = (len + PAGE - 1) / PAGE * PAGE;
    g->p = aligned_alloc(PAGE, whole);
    CHECK(g->p); /* out of memory */
    g->len = whole;
    g->scratch = len > FRAME && len <= FRAME + FRAME_EXTRA;
    return g->p;
}

void *h2_memory_malloc(size_t len, void *arg)
{
    struct h2_memory *m = arg;
    struct h2_pages *g = m->making && len >= PAGE ? pages_of(m, NULL) : NULL;
    return g ? pages_new(g, len) : mem_alloc(len);
}

void h2_memory_free(void *p, void *arg)
{
    struct h2_pages *g = p ? pages_of(arg, p) : NULL;
    if (g)
        g->p = NULL;
    mem_free(p);
}

void *h2_memory_calloc(size_t num, size_t size, void *arg)
{
    CHECK(size == 0 || num <= SIZE_MAX / size);
    return memset(h2_memory_malloc(num * size, arg), 0, num * size);
}

void *h2_memory_realloc(void *p, size_t len, void *arg)
{
    if (!p)
        return h2_memory_malloc(len, arg);
    struct h2_pages *g = pages_of(arg, p);
    if (g)
        g->p = NULL;
    return mem_realloc(p, len);
}

void h2_memory_init(struct h2_memory *m)
{
    *m = (struct h2_memory){.making = true};
}

void h2_memory_made(struct h2_memory *m)
{
    m->making = false;
}

static bool is_zero(const char *p, size_t len)
{
    return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

void h2_memory_trim(struct h2_memory *m)
{
    for (unsigned i = 0; i < H2_PAGES; i++) {
        struct h2_pages *g = &m->pages[i];
        if (g->p && (g->scratch || is_zero(g->p, g->len)))
            (void)madvise(g->p, g->len, MADV_DONTNEED); /* refused: it stays */
    }
}
