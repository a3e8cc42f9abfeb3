/* The tls_inspector's parser: real hellos of a real client, every prefix and every cut of them, and
 * what is not TLS. */
#include "tls/client_hello.h"

#include <check.h>
#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <stdlib.h>

enum { HELLO_CAP = 70000 };

struct sample {
    char bytes[HELLO_CAP];
    size_t len;
};

/* The hello that BoringSSL sends for these settings. */
static void make_sample(struct sample *s, const char *sni, const char *alpn, uint16_t max_version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_with_buffers_method());
    const uint8_t *p;
    size_t len;
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(ctx, max_version);
    SSL_CTX_set_grease_enabled(ctx, 1);
    SSL *ssl = SSL_new(ctx);
    BIO *out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
    SSL_set_connect_state(ssl);
    if (sni)
        SSL_set_tlsext_host_name(ssl, sni);
    if (alpn)
        SSL_set_alpn_protos(ssl, (const uint8_t *)alpn, strlen(alpn));
    ck_assert_int_eq(SSL_do_handshake(ssl), -1);
    ck_assert(BIO_mem_contents(out, &p, &len) && len < sizeof(s->bytes));
    memcpy(s->bytes, p, len);
    s->len = len;
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

/* Parses a copy of exactly `len` bytes, so that ASan sees a read beyond. */
static enum client_hello_status parse(const char *p, size_t len, struct client_hello *out)
{
    static char work[HELLO_CAP];
    char *copy = malloc(len ? len : 1);
    memcpy(copy, p, len);
    enum client_hello_status st = client_hello_parse(str_n(copy, len), 0, work, out);
    if (st == CLIENT_HELLO_OK) {
        /* The names point into the copy or the workspace; make them outlive the copy. */
        for (size_t i = 0; i < out->num_alpn; i++) {
            if (out->alpn[i].p >= copy && out->alpn[i].p < copy + len)
                out->alpn[i].p = p + (out->alpn[i].p - copy);
        }
    }
    free(copy);
    return st;
}

static void expect_str(struct str s, const char *want)
{
    ck_assert_msg(str_eq(s, str_of(want)), "got \"%.*s\", want \"%s\"", STR_ARG(s), want);
}

START_TEST(reads_what_a_client_sends)
{
    struct sample s;
    struct client_hello h;
    make_sample(&s, "Outbound_.80_._.Httpbin.Demo", "\x13istio-peer-exchange\x05istio\x02h2",
                TLS1_3_VERSION);
    ck_assert_int_eq(parse(s.bytes, s.len, &h), CLIENT_HELLO_OK);
    expect_str(h.sni, "outbound_.80_._.httpbin.demo");
    ck_assert_uint_eq(h.num_alpn, 3);
    expect_str(h.alpn[0], "istio-peer-exchange");
    expect_str(h.alpn[1], "istio");
    expect_str(h.alpn[2], "h2");
    ck_assert_uint_eq(h.max_version, 0x0304);
    make_sample(&s, NULL, NULL, TLS1_2_VERSION);
    ck_assert_int_eq(parse(s.bytes, s.len, &h), CLIENT_HELLO_OK);
    ck_assert_uint_eq(h.sni.len, 0);
    ck_assert_uint_eq(h.num_alpn, 0);
    ck_assert_uint_eq(h.max_version, 0x0303);
}
END_TEST

START_TEST(every_prefix_needs_more)
{
    struct sample s;
    struct client_hello h;
    make_sample(&s, "a.example", "\x02h2", TLS1_3_VERSION);
    for (size_t n = 0; n < s.len; n++) {
        ck_assert_int_eq(parse(s.bytes, n, &h), CLIENT_HELLO_NEED_MORE);
        ck_assert_uint_gt(h.need, n);
        ck_assert_uint_le(h.need, s.len);
    }
    /* What follows the hello is not looked at. */
    memset(s.bytes + s.len, 0xff, 100);
    ck_assert_int_eq(parse(s.bytes, s.len + 100, &h), CLIENT_HELLO_OK);
}
END_TEST

/* The same message in records of `size` bytes each. */
static void split_records(const struct sample *s, size_t size, struct sample *out)
{
    size_t at = 5;
    out->len = 0;
    while (at < s->len) {
        size_t n = s->len - at < size ? s->len - at : size;
        char header[5] = {22, 3, 1, (char)(n >> 8), (char)n};
        memcpy(out->bytes + out->len, header, 5);
        memcpy(out->bytes + out->len + 5, s->bytes + at, n);
        out->len += 5 + n;
        at += n;
    }
}

START_TEST(spread_over_records)
{
    struct sample s, cut;
    struct client_hello h;
    make_sample(&s, "a.example", "\x02h2\x08http/1.1", TLS1_3_VERSION);
    for (size_t size = 1; size < s.len; size += size < 10 ? 1 : 37) {
        split_records(&s, size, &cut);
        ck_assert_int_eq(parse(cut.bytes, cut.len, &h), CLIENT_HELLO_OK);
        expect_str(h.sni, "a.example");
        ck_assert_uint_eq(h.num_alpn, 2);
        expect_str(h.alpn[1], "http/1.1");
        for (size_t n = 0; n < cut.len; n += 11)
            ck_assert_int_eq(parse(cut.bytes, n, &h), CLIENT_HELLO_NEED_MORE);
    }
    split_records(&s, 50, &cut);
    cut.bytes[55] = 23; /* another content type between the fragments */
    ck_assert_int_eq(parse(cut.bytes, cut.len, &h), CLIENT_HELLO_ERROR);
}
END_TEST

START_TEST(not_tls_at_the_first_byte_that_does_not_fit)
{
    struct client_hello h;
    struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"G", 1},                /* HTTP */
        {"\x15", 1},             /* an alert */
        {"\x80", 1},             /* SSL 2 */
        {"\x16\x02", 2},         /* another major version */
        {"\x16\x03\x05", 3},     /* beyond TLS 1.3 */
        {"\x16\x03\x01\x41", 4}, /* longer than a record may be */
        {"\x16\x03\x01\x40\x01", 5},
        {"\x16\x03\x01\x00\x00", 5},
        {"\x16\x03\x01\x00\x20\x02", 6}, /* a ServerHello */
        {"\x00", 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert_int_eq(parse(bad[i].bytes, bad[i].len, &h), CLIENT_HELLO_NOT_TLS);
        ck_assert_int_eq(parse(bad[i].bytes, bad[i].len - 1, &h), CLIENT_HELLO_NEED_MORE);
    }
}
END_TEST

START_TEST(too_large)
{
    struct sample s;
    struct client_hello h;
    static char work[HELLO_CAP];
    /* Known from the header: nobody sends 64 KiB to be refused. */
    ck_assert_int_eq(parse("\x16\x03\x01\x40\x00\x01\x00\x3f\xfd", 9, &h), CLIENT_HELLO_TOO_LARGE);
    ck_assert_int_eq(parse("\x16\x03\x01\x40\x00\x01\x00\x3f\xfc", 9, &h), CLIENT_HELLO_NEED_MORE);
    make_sample(&s, "a", NULL, TLS1_2_VERSION);
    struct str bytes = str_n(s.bytes, s.len);
    ck_assert_int_eq(client_hello_parse(bytes, s.len - 5, work, &h), CLIENT_HELLO_OK);
    ck_assert_int_eq(client_hello_parse(bytes, s.len - 6, work, &h), CLIENT_HELLO_TOO_LARGE);
}
END_TEST

/* A hello with one extension block, for bodies that no client sends. */
static void with_extensions(struct sample *s, const char *ext, size_t len)
{
    static const char fixed[] = "\x03\x03"
                                "0123456789abcdef0123456789abcdef"
                                "\x00"
                                "\x00\x02\xc0\x2b"
                                "\x01\x00";
    size_t body = sizeof(fixed) - 1 + 2 + len;
    char *p = s->bytes;
    memcpy(p, "\x16\x03\x01", 3);
    p[3] = (char)((body + 4) >> 8);
    p[4] = (char)(body + 4);
    p[5] = 1;
    p[6] = 0;
    p[7] = (char)(body >> 8);
    p[8] = (char)body;
    memcpy(p + 9, fixed, sizeof(fixed) - 1);
    p += 9 + sizeof(fixed) - 1;
    p[0] = (char)(len >> 8);
    p[1] = (char)len;
    memcpy(p + 2, ext, len);
    s->len = 9 + body;
}

START_TEST(malformed_extensions)
{
    struct sample s;
    struct client_hello h;
#define EXT(text)                                                                                  \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }
    struct {
        const char *ext;
        size_t len;
    } good[] =
        {
            EXT(""),
            EXT("\x00\x00\x00\x06\x00\x04\x00\x00\x01x"),
            EXT("\x00\x10\x00\x05\x00\x03\x02h2"),
            EXT("\x00\x2b\x00\x05\x04\x0a\x0a\x03\x04"), /* a reserved version is passed over */
            EXT("\x12\x34\x00\x02zz"),
        },
      bad[] = {
          EXT("\x00"),                                               /* cut short */
          EXT("\x00\x00\x00\x07\x00\x04\x00\x00\x01x"),              /* longer than there is */
          EXT("\x00\x00\x00\x00"),                                   /* no list */
          EXT("\x00\x00\x00\x02\x00\x00"),                           /* an empty list */
          EXT("\x00\x00\x00\x05\x00\x03\x00\x00\x00"),               /* an empty name */
          EXT("\x00\x00\x00\x06\x00\x04\x01\x00\x01x"),              /* a name of another type */
          EXT("\x00\x00\x00\x07\x00\x05\x00\x00\x02x\x00"),          /* a NUL in it */
          EXT("\x00\x00\x00\x07\x00\x05\x00\x00\x02x\n"),            /* a line end in it */
          EXT("\x00\x00\x00\x07\x00\x05\x00\x00\x02\xc3\xa9"),       /* not ASCII */
          EXT("\x00\x00\x00\x0a\x00\x08\x00\x00\x01x\x00\x00\x01y"), /* two names */
          EXT("\x00\x00\x00\x06\x00\x04\x00\x00\x01x\x00\x00\x00\x06\x00\x04\x00\x00\x01x"),
          EXT("\x00\x10\x00\x02\x00\x00"),        /* no protocol */
          EXT("\x00\x10\x00\x03\x00\x01\x00"),    /* an empty one */
          EXT("\x00\x10\x00\x05\x00\x03\x03h2"),  /* longer than there is */
          EXT("\x00\x10\x00\x06\x00\x03\x02h2x"), /* more behind the list */
          EXT("\x00\x2b\x00\x02\x01\x03"),        /* half a version */
          EXT("\x00\x2b\x00\x01\x00"),
      };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        with_extensions(&s, good[i].ext, good[i].len);
        ck_assert_msg(parse(s.bytes, s.len, &h) == CLIENT_HELLO_OK, "good %zu", i);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        with_extensions(&s, bad[i].ext, bad[i].len);
        ck_assert_msg(parse(s.bytes, s.len, &h) == CLIENT_HELLO_ERROR, "bad %zu", i);
    }
}
END_TEST

START_TEST(limits_of_lists)
{
    struct sample s;
    struct client_hello h;
    char ext[400] = "\x00\x10\x00\x00\x00\x00";
    for (unsigned num = CLIENT_HELLO_ALPN_MAX; num <= CLIENT_HELLO_ALPN_MAX + 1; num++) {
        ext[3] = (char)(2 * num + 2);
        ext[5] = (char)(2 * num);
        for (unsigned i = 0; i < num; i++) {
            ext[6 + 2 * i] = 1;
            ext[7 + 2 * i] = 'x';
        }
        with_extensions(&s, ext, 6 + 2 * num);
        ck_assert_int_eq(parse(s.bytes, s.len, &h),
                         num <= CLIENT_HELLO_ALPN_MAX ? CLIENT_HELLO_OK : CLIENT_HELLO_ERROR);
    }
    for (unsigned len = CLIENT_HELLO_NAME_MAX; len <= CLIENT_HELLO_NAME_MAX + 1; len++) {
        memset(ext, 'a', sizeof(ext));
        const char head[9] = {0,
                              0,
                              (char)((len + 5) >> 8),
                              (char)(len + 5),
                              (char)((len + 3) >> 8),
                              (char)(len + 3),
                              0,
                              (char)(len >> 8),
                              (char)len};
        memcpy(ext, head, sizeof(head));
        with_extensions(&s, ext, sizeof(head) + len);
        ck_assert_int_eq(parse(s.bytes, s.len, &h),
                         len <= CLIENT_HELLO_NAME_MAX ? CLIENT_HELLO_OK : CLIENT_HELLO_ERROR);
    }
}
END_TEST

/* Each byte of a good hello changed, one at a time: any answer, but no byte read outside. */
START_TEST(changed_bytes)
{
    struct sample s;
    struct client_hello h;
    make_sample(&s, "a.example", "\x02h2", TLS1_3_VERSION);
    for (size_t i = 0; i < s.len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            s.bytes[i] = (char)(s.bytes[i] ^ 1 << bit);
            enum client_hello_status st = parse(s.bytes, s.len, &h);
            ck_assert(st <= CLIENT_HELLO_TOO_LARGE);
            s.bytes[i] = (char)(s.bytes[i] ^ 1 << bit);
        }
    }
    /* The body of the hello itself. */
    for (size_t n = 9 + 34; n < s.len - 1; n++) {
        struct sample cut = s;
        size_t body = n - 9;
        cut.bytes[3] = (char)((body + 4) >> 8);
        cut.bytes[4] = (char)(body + 4);
        cut.bytes[7] = (char)(body >> 8);
        cut.bytes[8] = (char)body;
        enum client_hello_status st = parse(cut.bytes, n, &h);
        ck_assert(st == CLIENT_HELLO_ERROR || st == CLIENT_HELLO_OK);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client_hello");
    TCase *t = tcase_create("all");
    tcase_add_test(t, reads_what_a_client_sends);
    tcase_add_test(t, every_prefix_needs_more);
    tcase_add_test(t, spread_over_records);
    tcase_add_test(t, not_tls_at_the_first_byte_that_does_not_fit);
    tcase_add_test(t, too_large);
    tcase_add_test(t, malformed_extensions);
    tcase_add_test(t, limits_of_lists);
    tcase_add_test(t, changed_bytes);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
