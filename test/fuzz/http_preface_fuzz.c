// covers: proxy/listener/http_preface.c
/* The first bytes of a connection as the http_inspector peeks at them: whole, and in every
 * beginning. */
#include "proxy/listener/http_preface.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct str all = str_n((const char *)data, len < 300 ? len : 300);
    enum http_preface last = HTTP_PREFACE_MORE;
    for (size_t n = 0; n <= all.len; n++) {
        char *copy = mem_alloc(n + 1); /* of exactly that size: a read over the end is seen */
        memcpy(copy, data, n);
        enum http_preface now = http_preface_look(str_n(copy, n));
        mem_free(copy);
        /* A decision stays, whatever follows. */
        CHECK(last == HTTP_PREFACE_MORE || now == last);
        last = now;
    }
    (void)http_preface_look(str_n((const char *)data, len));
    return 0;
}
