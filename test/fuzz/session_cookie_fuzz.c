// covers: proxy/filters/session_cookie.c
// covers: base/base64.c
/* The value of a session cookie, as a client sends it: as base64, and as what it decodes to. */
#include "base/alloc.h"
#include "base/base64.h"
#include "proxy/filters/session_cookie.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct str s = str_n((const char *)data, len), bytes, again;
    struct arena a;
    arena_init(&a, 0);
    struct str address = session_cookie_read(&a, s, 1000);
    CHECK(address.len <= len);
    if (base64_decode(&a, s, &bytes))
        CHECK(str_eq(base64_encode(&a, bytes), s)); /* one text for each value */
    struct str coded = base64_encode(&a, s);
    CHECK(base64_decode(&a, coded, &again) && str_eq(again, s));
    address = session_cookie_read(&a, coded, 1000);
    struct str own = session_cookie_write(&a, address, 1000);
    CHECK(str_eq(session_cookie_read(&a, own, 1000), address));
    arena_cleanup(&a);
    return 0;
}
