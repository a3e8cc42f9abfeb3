// covers: proxy/listener/proxy_header.c
/* A PROXY header as the filter peeks at it: whole, and in every beginning of its first 300 bytes.
 */
#include "proxy/listener/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(enum proxy_header_status st, size_t len, const struct proxy_header *h)
{
    struct str rest = h->tlvs, value;
    uint8_t type;
    switch (st) {
    case PROXY_HEADER_MORE:
        CHECK(h->need > len && h->need <= PROXY_HEADER_MAX);
        return;
    case PROXY_HEADER_NONE:
        CHECK(h->version == 0);
        return;
    case PROXY_HEADER_ERROR:
        CHECK(h->version);
        return;
    case PROXY_HEADER_OK:
        break;
    }
    CHECK(h->len <= len && (h->version == 2 || h->len <= PROXY_HEADER_V1_MAX));
    CHECK(h->local ? !h->tlvs.len : addr_family(&h->source) == addr_family(&h->destination));
    while (rest.len)
        CHECK(proxy_tlv_next(&rest, &type, &value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct proxy_header h;
    enum proxy_header_status last = PROXY_HEADER_MORE, now;
    for (size_t n = 0; n <= len && n <= 300; n++) {
        char *copy = mem_alloc(n + 1);
        memcpy(copy, data, n);
        now = proxy_header_parse(str_n(copy, n), &h);
        check(now, n, &h);
        mem_free(copy);
        CHECK(last == PROXY_HEADER_MORE || now == last);
        last = now;
    }
    now = proxy_header_parse(str_n((const char *)data, len), &h);
    check(now, len, &h);
    return 0;
}
