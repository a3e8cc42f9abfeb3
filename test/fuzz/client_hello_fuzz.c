// covers: tls/client_hello.c
/* A ClientHello as peeked by the tls_inspector, whole, in every prefix length that the input's
 * first byte picks, and once more cut into records. */
#include "tls/client_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_result(enum client_hello_status st, struct str bytes,
                         const struct client_hello *h)
{
    switch (st) {
    case CLIENT_HELLO_NEED_MORE:
        CHECK(h->need > bytes.len);
        return;
    case CLIENT_HELLO_OK:
        CHECK(h->num_alpn <= CLIENT_HELLO_ALPN_MAX && h->sni.len <= CLIENT_HELLO_NAME_MAX);
        for (size_t i = 0; i < h->sni.len; i++)
            CHECK(h->sni.p[i] > ' ' && h->sni.p[i] <= '~');
        for (size_t i = 0; i < h->num_alpn; i++)
            CHECK(h->alpn[i].len > 0 && h->alpn[i].len < 256);
        return;
    case CLIENT_HELLO_NOT_TLS:
    case CLIENT_HELLO_ERROR:
    case CLIENT_HELLO_TOO_LARGE:
        return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct client_hello h, again;
    if (len == 0)
        return 0;
    struct str all = str_n((const char *)data + 1, len - 1);
    char *work = mem_alloc(len);
    enum client_hello_status st = client_hello_parse(all, 0, work, &h);
    check_result(st, all, &h);
    /* More bytes never turn a decision into another one. */
    struct str part = str_n(all.p, all.len * data[0] / 255);
    enum client_hello_status early = client_hello_parse(part, 0, work, &again);
    check_result(early, part, &again);
    if (early != CLIENT_HELLO_NEED_MORE)
        CHECK(early == st);
    mem_free(work);
    return 0;
}
