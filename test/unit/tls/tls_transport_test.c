/* Two transports over a socketpair: who may speak to whom, what comes across, how it ends. */
#include "tls/tls_transport.h"

#include "test/support/tls_pair.h"
#include <check.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct test_cert *root, *other_root, *inter, *server, *client, *expired, *future;

#define SERVER_URI "spiffe://td/ns/a/sa/server"
#define CLIENT_URI "spiffe://td/ns/a/sa/client"

static void setup(void)
{
    root = test_cert_new(&(struct test_cert_options){.cn = "root", .ca = true});
    other_root = test_cert_new(&(struct test_cert_options){.cn = "other", .ca = true});
    inter = test_cert_new(&(struct test_cert_options){.cn = "inter", .ca = true, .issuer = root});
    server = test_cert_new(&(struct test_cert_options){
        .cn = "server",
        .issuer = inter,
        .san = "URI:" SERVER_URI ",DNS:a.example.com,DNS:*.wild.example.com,IP:127.0.0.1"});
    client = test_cert_new(
        &(struct test_cert_options){.cn = "client", .issuer = inter, .san = "URI:" CLIENT_URI});
    expired = test_cert_new(&(struct test_cert_options){.cn = "expired",
                                                        .issuer = inter,
                                                        .san = "URI:" SERVER_URI,
                                                        .from_days = -9,
                                                        .to_days = -2});
    future = test_cert_new(&(struct test_cert_options){
        .cn = "future", .issuer = inter, .san = "URI:" SERVER_URI, .from_days = 2, .to_days = 9});
}

static void teardown(void)
{
    test_cert_free(&future);
    test_cert_free(&expired);
    test_cert_free(&client);
    test_cert_free(&server);
    test_cert_free(&inter);
    test_cert_free(&other_root);
    test_cert_free(&root);
}

static struct tls_side server_side(void)
{
    return (struct tls_side){.chain = server->chain_pem,
                             .key = server->key_pem,
                             .ca = root->pem,
                             .ask_client = true,
                             .require_client = true};
}

static struct tls_side client_side(void)
{
    return (struct tls_side){.chain = client->chain_pem,
                             .key = client->key_pem,
                             .ca = root->pem,
                             .uri_exact = SERVER_URI};
}

static bool both(struct tls_pair *p, const struct tls_side *c, const struct tls_side *s)
{
    struct tls_config *cc = tls_side_config(c, false), *sc = tls_side_config(s, true);
    tls_pair_open(p, cc, sc, NULL);
    tls_config_unref(cc);
    tls_config_unref(sc);
    return tls_pair_handshake(p);
}

static struct str failure(struct transport *t)
{
    return t->ops->failure(t);
}

static void expect_str(struct str s, const char *want)
{
    ck_assert_msg(str_eq(s, str_of(want)), "got \"%.*s\", want \"%s\"", STR_ARG(s), want);
}

/* --- who is let in --------------------------------------------------------------------------- */

static void check_mutual(uint16_t version, const char *text)
{
    struct tls_pair p;
    struct tls_side c = client_side(), s = server_side();
    c.max_version = s.max_version = c.min_version = version;
    s.uri_prefix = "spiffe://td/";
    c.alpn = "istio-http/1.1,istio,http/1.1";
    s.alpn = "h2,http/1.1";
    c.sni = "outbound_.80_._.a";
    ck_assert(both(&p, &c, &s));
    const struct tls_peer *at_server = p.server->ops->peer(p.server);
    const struct tls_peer *at_client = p.client->ops->peer(p.client);
    ck_assert(at_server->verified && at_client->verified);
    expect_str(at_server->version, text);
    expect_str(at_client->alpn, "http/1.1");
    expect_str(at_server->alpn, "http/1.1");
    expect_str(at_server->sni, "outbound_.80_._.a");
    ck_assert_uint_eq(at_server->num_uri_sans, 1);
    expect_str(at_server->uri_sans[0], CLIENT_URI);
    ck_assert_uint_eq(at_server->num_local_uri_sans, 1);
    expect_str(at_server->local_uri_sans[0], SERVER_URI);
    expect_str(at_client->local_uri_sans[0], CLIENT_URI);
    expect_str(at_server->subject, "CN=client,O=Acme\\, Inc");
    expect_str(at_server->issuer, "CN=inter,O=Acme\\, Inc");
    ck_assert_uint_eq(at_client->num_dns_sans, 2);
    expect_str(at_client->dns_sans[1], "*.wild.example.com");
    ck_assert_uint_eq(at_server->fingerprint_sha256.len, 64);
    ck_assert(str_starts(at_server->cert_pem_urlencoded, STR("-----BEGIN%20CERTIFICATE-----%0A")));
    ck_assert(at_server->serial.len > 0 && at_server->cipher.len > 0);
    ck_assert(tls_pair_send(p.client, p.server, 5));
    ck_assert(tls_pair_send(p.server, p.client, 100000));
    tls_pair_close(&p);
}

START_TEST(mutual_tls13)
{
    check_mutual(TLS1_3_VERSION, "TLSv1.3");
}
END_TEST

START_TEST(mutual_tls12)
{
    check_mutual(TLS1_2_VERSION, "TLSv1.2");
}
END_TEST

#define VERIFY_FAILED                                                                              \
    "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:"                \
    "verify_cert_failed:_"

/* A client that must refuse the server, for `why`; the server gets the alert. */
static void check_refused(struct tls_side *c, struct tls_side *s, const char *why)
{
    struct tls_pair p;
    char want[512];
    ck_assert(!both(&p, c, s));
    ck_assert_int_eq(p.client_status, IO_ERROR);
    snprintf(want, sizeof(want), VERIFY_FAILED "%s:TLS_error_end", why);
    expect_str(failure(p.client), want);
    /* With TLS 1.3 the server may have been done by then; it finds the alert when it reads. */
    if (p.server_status == IO_OK) {
        struct buffer in;
        buffer_init(&in);
        ck_assert_int_eq(p.server->ops->read(p.server, &in, 100), IO_ERROR);
        buffer_cleanup(&in);
    }
    ck_assert(str_find(failure(p.server), STR("ALERT")) > 0);
    tls_pair_close(&p);
}

START_TEST(wrong_san)
{
    struct tls_side c = client_side(), s = server_side();
    c.uri_exact = "spiffe://td/ns/a/sa/serve";
    check_refused(&c, &s,
                  "SAN_matcher,_certificate_SANs_are_[" SERVER_URI
                  ",_a.example.com,_*.wild.example.com,_127.0.0.1]");
    c.uri_exact = NULL;
    c.dns_exact = "b.example.com";
    check_refused(&c, &s,
                  "SAN_matcher,_certificate_SANs_are_[" SERVER_URI
                  ",_a.example.com,_*.wild.example.com,_127.0.0.1]");
}
END_TEST

START_TEST(expired_certificate)
{
    struct tls_side c = client_side(), s = server_side();
    s.chain = expired->chain_pem;
    s.key = expired->key_pem;
    check_refused(&c, &s,
                  "X509_verify_cert:_certificate_verification_error_at_depth_0:_"
                  "certificate_has_expired");
    c.allow_expired = true;
    struct tls_pair p;
    ck_assert(both(&p, &c, &s));
    tls_pair_close(&p);
}
END_TEST

START_TEST(future_certificate)
{
    struct tls_side c = client_side(), s = server_side();
    s.chain = future->chain_pem;
    s.key = future->key_pem;
    check_refused(&c, &s,
                  "X509_verify_cert:_certificate_verification_error_at_depth_0:_"
                  "certificate_is_not_yet_valid");
}
END_TEST

START_TEST(unknown_root)
{
    struct tls_side c = client_side(), s = server_side();
    c.ca = other_root->pem;
    check_refused(&c, &s,
                  "X509_verify_cert:_certificate_verification_error_at_depth_1:_"
                  "unable_to_get_local_issuer_certificate");
}
END_TEST

START_TEST(wrong_hash)
{
    char good[65], spki[45];
    struct tls_pair p;
    struct tls_side c = client_side(), s = server_side();
    test_cert_digest(server, good);
    c.hash = good;
    ck_assert(both(&p, &c, &s));
    tls_pair_close(&p);
    test_cert_digest(client, good);
    c.hash = good;
    check_refused(&c, &s, "cert_hash_and_spki");
    test_cert_spki(server, spki); /* either is enough */
    c.spki = spki;
    ck_assert(both(&p, &c, &s));
    tls_pair_close(&p);
    test_cert_spki(client, spki);
    check_refused(&c, &s, "cert_hash_and_spki");
    /* A hash alone needs no anchor. */
    test_cert_digest(server, good);
    c = (struct tls_side){.chain = client->chain_pem, .key = client->key_pem, .hash = good};
    ck_assert(both(&p, &c, &s));
    ck_assert(p.client->ops->peer(p.client)->verified);
    tls_pair_close(&p);
}
END_TEST

START_TEST(certificate_for_the_other_role)
{
    struct test_cert *wrong = test_cert_new(&(struct test_cert_options){
        .cn = "server", .issuer = inter, .san = "URI:" SERVER_URI, .client_only = true});
    struct tls_side c = client_side(), s = server_side();
    s.chain = wrong->chain_pem;
    s.key = wrong->key_pem;
    check_refused(&c, &s,
                  "X509_verify_cert:_certificate_verification_error_at_depth_0:_"
                  "unsupported_certificate_purpose");
    test_cert_free(&wrong);
}
END_TEST

START_TEST(revoked_certificate)
{
    struct tls_pair p;
    char *crl_inter = test_crl(inter, server), *crl_root = test_crl(root, NULL);
    char *none = test_crl(inter, NULL);
    char all[8192];
    struct tls_side c = client_side(), s = server_side();
    snprintf(all, sizeof(all), "%s%s", crl_inter, crl_root);
    c.crl = all;
    check_refused(&c, &s,
                  "X509_verify_cert:_certificate_verification_error_at_depth_0:_"
                  "certificate_revoked");
    c.crl = none; /* nothing is known of the intermediate */
    check_refused(&c, &s,
                  "X509_verify_cert:_certificate_verification_error_at_depth_1:_"
                  "unable_to_get_certificate_CRL");
    c.leaf_crl_only = true;
    ck_assert(both(&p, &c, &s));
    tls_pair_close(&p);
    mem_free(crl_inter);
    mem_free(crl_root);
    mem_free(none);
}
END_TEST

START_TEST(intermediate_as_anchor)
{
    struct tls_pair p;
    struct tls_side c = client_side(), s = server_side();
    c.ca = s.ca = inter->pem;
    ck_assert(both(&p, &c, &s));
    tls_pair_close(&p);
}
END_TEST

START_TEST(name_matchers)
{
    struct tls_pair p;
    struct tls_side s = server_side();
    const struct tls_side good[] = {
        {.uri_prefix = "spiffe://td/"},      {.dns_exact = "A.example.com"},
        {.dns_exact = "x.wild.example.com"}, {.regex = "spiffe://[^/]+/ns/a/.*"},
        {.ip_exact = "127.0.0.1"},           {.untyped_exact = SERVER_URI},
    };
    const struct tls_side bad[] = {
        {.uri_prefix = "spiffe://te/"},    {.dns_exact = "x.y.wild.example.com"},
        {.dns_exact = "wild.example.com"}, {.dns_exact = SERVER_URI},
        {.regex = "spiffe://td"}, /* a regex matches whole names */
        {.ip_exact = "127.0.0.2"},         {.untyped_exact = "server"},
        {.uri_exact = "a.example.com"},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct tls_side c = good[i];
        c.ca = root->pem;
        c.chain = client->chain_pem;
        c.key = client->key_pem;
        ck_assert_msg(both(&p, &c, &s), "matcher %zu", i);
        tls_pair_close(&p);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct tls_side c = bad[i];
        c.ca = root->pem;
        c.chain = client->chain_pem;
        c.key = client->key_pem;
        ck_assert_msg(!both(&p, &c, &s), "matcher %zu", i);
        ck_assert(str_find(failure(p.client), STR("SAN_matcher")) > 0);
        tls_pair_close(&p);
    }
}
END_TEST

START_TEST(nul_in_name)
{
    static const char name[] = "a.example.com\0.evil.test";
    struct test_cert *evil = test_cert_new(&(struct test_cert_options){
        .cn = "evil", .issuer = inter, .raw_dns = name, .raw_dns_len = sizeof(name) - 1});
    struct tls_pair p;
    struct tls_side c = client_side(), s = server_side();
    s.chain = evil->chain_pem;
    s.key = evil->key_pem;
    c.uri_exact = NULL;
    c.dns_exact = "a.example.com";
    ck_assert(!both(&p, &c, &s));
    tls_pair_close(&p);
    test_cert_free(&evil);
}
END_TEST

START_TEST(name_of_the_sni)
{
    struct tls_pair p;
    struct tls_side c = client_side(), s = server_side();
    c.sni = "x.wild.example.com";
    c.sni_must_match = true;
    ck_assert(both(&p, &c, &s));
    tls_pair_close(&p);
    c.sni = "b.example.com"; /* although the URI matches */
    ck_assert(!both(&p, &c, &s));
    tls_pair_close(&p);
}
END_TEST

static void check_no_client_cert(uint16_t version)
{
    struct tls_pair p;
    struct buffer in;
    struct tls_side c = client_side(), s = server_side();
    c.chain = c.key = NULL;
    c.max_version = version;
    ck_assert(!both(&p, &c, &s));
    ck_assert_int_eq(p.server_status, IO_ERROR);
    expect_str(failure(p.server), "TLS_error:|268435648:SSL_routines:OPENSSL_internal:"
                                  "PEER_DID_NOT_RETURN_A_CERTIFICATE:TLS_error_end");
    buffer_init(&in);
    if (p.client_status == IO_OK)
        ck_assert_int_eq(p.client->ops->read(p.client, &in, 100), IO_ERROR);
    ck_assert(str_find(failure(p.client), STR("ALERT")) > 0);
    ck_assert_ptr_null(p.server->ops->peer(p.server));
    tls_pair_close(&p);
    s.require_client = false;
    ck_assert(both(&p, &c, &s));
    ck_assert(!p.server->ops->peer(p.server)->verified);
    ck_assert_uint_eq(p.server->ops->peer(p.server)->num_uri_sans, 0);
    tls_pair_close(&p);
}

START_TEST(no_client_certificate)
{
    check_no_client_cert(TLS1_2_VERSION);
    check_no_client_cert(TLS1_3_VERSION);
}
END_TEST

START_TEST(wrong_client)
{
    struct tls_pair p;
    struct tls_side c = client_side(), s = server_side();
    s.uri_exact = "spiffe://td/ns/a/sa/else";
    c.max_version = TLS1_2_VERSION;
    ck_assert(!both(&p, &c, &s));
    ck_assert(str_find(failure(p.server), STR("SAN_matcher")) > 0);
    tls_pair_close(&p);
    s.accept_untrusted = true; /* let through, but not as verified */
    ck_assert(both(&p, &c, &s));
    ck_assert(!p.server->ops->peer(p.server)->verified);
    ck_assert_uint_eq(p.server->ops->peer(p.server)->num_uri_sans, 1);
    tls_pair_close(&p);
}
END_TEST

START_TEST(no_common_version)
{
    struct tls_pair p;
    struct tls_side c = client_side(), s = server_side();
    c.max_version = TLS1_2_VERSION;
    s.min_version = TLS1_3_VERSION;
    ck_assert(!both(&p, &c, &s));
    ck_assert(str_find(failure(p.server), STR("UNSUPPORTED_PROTOCOL")) > 0);
    ck_assert(str_find(failure(p.client), STR("ALERT_PROTOCOL_VERSION")) > 0);
    tls_pair_close(&p);
}
END_TEST

START_TEST(no_common_protocol)
{
    struct tls_pair p;
    struct tls_side c = client_side(), s = server_side();
    c.alpn = "istio";
    s.alpn = "h2,http/1.1";
    ck_assert(both(&p, &c, &s));
    ck_assert_uint_eq(p.server->ops->peer(p.server)->alpn.len, 0);
    tls_pair_close(&p);
}
END_TEST

START_TEST(sni_required)
{
    struct tls_pair p;
    struct tls_side c = client_side(), s = server_side();
    s.require_sni = true;
    ck_assert(!both(&p, &c, &s));
    tls_pair_close(&p);
    c.sni = "a.example.com";
    ck_assert(both(&p, &c, &s));
    tls_pair_close(&p);
}
END_TEST

START_TEST(certificate_by_name)
{
    struct test_cert *second = test_cert_new(&(struct test_cert_options){
        .cn = "second", .issuer = inter, .san = "DNS:*.second.example.com", .rsa = true});
    struct tls_pair p;
    struct tls_side c = client_side(), s = server_side();
    c.uri_exact = NULL;
    s.chain2 = second->chain_pem;
    s.key2 = second->key_pem;
    c.sni = "x.second.example.com";
    ck_assert(both(&p, &c, &s));
    expect_str(p.client->ops->peer(p.client)->subject, "CN=second,O=Acme\\, Inc");
    expect_str(p.server->ops->peer(p.server)->local_subject, "CN=second,O=Acme\\, Inc");
    tls_pair_close(&p);
    c.sni = "unknown.example.com";
    ck_assert(both(&p, &c, &s));
    expect_str(p.client->ops->peer(p.client)->subject, "CN=server,O=Acme\\, Inc");
    tls_pair_close(&p);
    test_cert_free(&second);
}
END_TEST

START_TEST(overrides)
{
    struct tls_pair p;
    struct tls_side c = client_side(), s = server_side();
    const struct str alpn[] = {STR("h2"), STR("x")};
    struct transport_options opts = {
        .sni_override = STR("other.example"), .alpn_override = alpn, .num_alpn_override = 2};
    c.sni = "a.example.com";
    c.alpn = "http/1.1";
    s.alpn = "x,h2,http/1.1";
    struct tls_config *cc = tls_side_config(&c, false), *sc = tls_side_config(&s, true);
    tls_pair_open(&p, cc, sc, &opts);
    ck_assert(tls_pair_handshake(&p));
    expect_str(p.server->ops->peer(p.server)->sni, "other.example");
    expect_str(p.server->ops->peer(p.server)->alpn, "x");
    tls_pair_close(&p);
    tls_config_unref(cc);
    tls_config_unref(sc);
}
END_TEST

/* --- bytes -------------------------------------------------------------------------------------
 */

START_TEST(giant_writes)
{
    struct tls_pair p;
    struct tls_side c = client_side(), s = server_side();
    ck_assert(both(&p, &c, &s));
    ck_assert(tls_pair_send(p.client, p.server, 5 * 1024 * 1024 + 17));
    ck_assert(tls_pair_send(p.server, p.client, 16384));
    ck_assert(tls_pair_send(p.server, p.client, 16385));
    tls_pair_close(&p);
}
END_TEST

/* The peer does not read: what waits is bounded, `out` says that something waits, and all arrives
 * in order in the end. */
START_TEST(blocked_writer)
{
    struct tls_pair p;
    struct buffer out, in;
    struct tls_side c = client_side(), s = server_side();
    const size_t total = 3 * 1024 * 1024;
    char *bytes = mem_zalloc(total);
    ck_assert(both(&p, &c, &s));
    buffer_init(&out);
    buffer_init(&in);
    for (size_t i = 0; i < total; i++)
        bytes[i] = (char)(i >> 9);
    buffer_add(&out, bytes, total);
    ck_assert_int_eq(p.client->ops->write(p.client, &out), IO_AGAIN);
    ck_assert(out.len > 0 && out.len < total);
    size_t waiting = out.len;
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(p.client->ops->write(p.client, &out), IO_AGAIN);
    ck_assert_uint_eq(out.len, waiting);
    while (out.len || in.len < total) {
        ck_assert_int_ne(p.server->ops->read(p.server, &in, 65536), IO_ERROR);
        ck_assert_int_ne(p.client->ops->write(p.client, &out), IO_ERROR);
    }
    struct str got = buffer_pullup(&in, total);
    ck_assert(got.len >= total && memcmp(got.p, bytes, total) == 0);
    buffer_cleanup(&out);
    buffer_cleanup(&in);
    tls_pair_close(&p);
    mem_free(bytes);
}
END_TEST

/* Small writes leave as one record: 1000 blocks of one byte are not 1000 records. */
START_TEST(gathers_small_writes)
{
    struct tls_pair p;
    struct buffer out, part;
    struct tls_side c = client_side(), s = server_side();
    ck_assert(both(&p, &c, &s));
    buffer_init(&out);
    buffer_init(&part);
    for (int i = 0; i < 20; i++) {
        buffer_add(&part, "0123456789", 10);
        buffer_move(&out, &part, 10);
    }
    uint64_t before = p.client->bytes_out;
    ck_assert_int_eq(p.client->ops->write(p.client, &out), IO_OK);
    ck_assert_uint_lt(p.client->bytes_out - before, 200 + 50);
    buffer_cleanup(&out);
    tls_pair_close(&p);
}
END_TEST

/* Ciphertext that arrives a byte at a time, both ways, from the first byte of the handshake. */
static void relay(int from, int to)
{
    char byte;
    if (recv(from, &byte, 1, MSG_DONTWAIT) == 1)
        ck_assert_int_eq(send(to, &byte, 1, MSG_NOSIGNAL), 1);
}

START_TEST(one_byte_at_a_time)
{
    int a[2], b[2];
    struct buffer out, in;
    struct tls_side c = client_side(), s = server_side();
    struct tls_config *cc = tls_side_config(&c, false), *sc = tls_side_config(&s, true);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, b), 0);
    struct tls_pair p = {.client = tls_transport_open(cc, a[0], NULL),
                         .server = tls_transport_open(sc, b[0], NULL)};
    enum io_status cs = IO_AGAIN, ss = IO_AGAIN;
    for (int i = 0; i < 20000 && (cs == IO_AGAIN || ss == IO_AGAIN); i++) {
        cs = p.client->ops->handshake(p.client);
        relay(a[1], b[1]);
        ss = p.server->ops->handshake(p.server);
        relay(b[1], a[1]);
    }
    ck_assert_int_eq(cs, IO_OK);
    ck_assert_int_eq(ss, IO_OK);
    buffer_init(&out);
    buffer_init(&in);
    buffer_add(&out, "hello, world", 12);
    ck_assert_int_eq(p.client->ops->write(p.client, &out), IO_OK);
    for (int i = 0; i < 200 && in.len < 12; i++) {
        ck_assert_uint_eq(in.len, 0);
        relay(a[1], b[1]);
        /* A read of 3 bytes leaves the rest of the record for the next one. */
        if (p.server->ops->read(p.server, &in, 3) == IO_OK)
            ck_assert_uint_eq(in.len, 3);
        while (in.len && in.len < 12)
            ck_assert_int_eq(p.server->ops->read(p.server, &in, 3), IO_OK);
    }
    expect_str(buffer_pullup(&in, 12), "hello, world");
    buffer_cleanup(&out);
    buffer_cleanup(&in);
    p.client->ops->free(p.client);
    p.server->ops->free(p.server);
    for (int i = 0; i < 2; i++) {
        close(a[i]);
        close(b[i]);
    }
    tls_config_unref(cc);
    tls_config_unref(sc);
}
END_TEST

/* --- ends --- */

START_TEST(clean_end)
{
    struct tls_pair p;
    struct buffer in, out;
    struct tls_side c = client_side(), s = server_side();
    ck_assert(both(&p, &c, &s));
    buffer_init(&in);
    buffer_init(&out);
    buffer_add(&out, "last", 4);
    ck_assert_int_eq(p.client->ops->write(p.client, &out), IO_OK);
    ck_assert_int_eq(p.client->ops->shut(p.client), IO_OK);
    /* Data and end together. */
    ck_assert_int_eq(p.server->ops->read(p.server, &in, 100), IO_EOF);
    expect_str(buffer_pullup(&in, 4), "last");
    ck_assert_int_eq(p.server->ops->read(p.server, &in, 100), IO_EOF);
    ck_assert_uint_eq(failure(p.server).len, 0);
    /* Half closed: the other direction still carries. */
    ck_assert(tls_pair_send(p.server, p.client, 50000));
    ck_assert_int_eq(p.server->ops->shut(p.server), IO_OK);
    buffer_cleanup(&in);
    ck_assert_int_eq(p.client->ops->read(p.client, &in, 100), IO_EOF);
    tls_pair_close(&p);
}
END_TEST

START_TEST(truncation)
{
    struct tls_pair p;
    struct buffer in, out;
    struct tls_side c = client_side(), s = server_side();
    ck_assert(both(&p, &c, &s));
    buffer_init(&in);
    buffer_init(&out);
    buffer_add(&out, "part", 4);
    ck_assert_int_eq(p.client->ops->write(p.client, &out), IO_OK);
    shutdown(p.fds[0], SHUT_WR); /* no close_notify */
    ck_assert_int_eq(p.server->ops->read(p.server, &in, 100), IO_AGAIN);
    ck_assert_int_eq(p.server->ops->read(p.server, &in, 100), IO_ERROR);
    expect_str(buffer_pullup(&in, 4), "part");
    expect_str(failure(p.server), "TLS_error:_closed_without_close_notify");
    ck_assert_int_eq(p.server->ops->read(p.server, &in, 100), IO_ERROR);
    buffer_cleanup(&in);
    tls_pair_close(&p);
}
END_TEST

START_TEST(gone_while_writing)
{
    struct tls_pair p;
    struct buffer out;
    struct tls_side c = client_side(), s = server_side();
    ck_assert(both(&p, &c, &s));
    close(p.fds[1]);
    p.fds[1] = dup(p.fds[0]);
    buffer_init(&out);
    buffer_add(&out, "x", 1);
    ck_assert_int_eq(p.client->ops->write(p.client, &out), IO_ERROR); /* and no SIGPIPE */
    expect_str(failure(p.client),
               "TLS_error:|33554464:system_library:OPENSSL_internal:Broken_pipe:TLS_error_end");
    buffer_cleanup(&out);
    tls_pair_close(&p);
}
END_TEST

START_TEST(gone_in_handshake)
{
    struct tls_side c = client_side();
    struct tls_config *cc = tls_side_config(&c, false);
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct transport *t = tls_transport_open(cc, fds[0], NULL);
    ck_assert_int_eq(t->ops->handshake(t), IO_AGAIN);
    shutdown(fds[1], SHUT_WR);
    ck_assert_int_eq(t->ops->handshake(t), IO_ERROR);
    expect_str(failure(t), "TLS_error:_closed_during_the_handshake");
    ck_assert_int_eq(t->ops->shut(t), IO_OK);
    t->ops->free(t);
    close(fds[0]);
    close(fds[1]);
    tls_config_unref(cc);
}
END_TEST

static void check_garbage(const char *bytes, bool server_end, const char *want)
{
    struct tls_side c = client_side(), s = server_side();
    struct tls_config *config = tls_side_config(server_end ? &s : &c, server_end);
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct transport *t = tls_transport_open(config, fds[0], NULL);
    ck_assert_int_eq(send(fds[1], bytes, strlen(bytes), 0), (int)strlen(bytes));
    enum io_status st = t->ops->handshake(t);
    ck_assert_int_eq(st, IO_ERROR);
    ck_assert_msg(str_find(failure(t), str_of(want)) > 0, "%.*s", STR_ARG(failure(t)));
    t->ops->free(t);
    close(fds[0]);
    close(fds[1]);
    tls_config_unref(config);
}

START_TEST(plaintext_peer)
{
    check_garbage("HTTP/1.1 400 Bad Request\r\n\r\n", false, "|268435703:");
    check_garbage("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, "HTTP_REQUEST");
    check_garbage("\x16\x03\x01\xff\xff aaaaaaaaaaaaaaaaaaa", true, "ENCRYPTED_LENGTH_TOO_LONG");
}
END_TEST

/* --- sessions and rotation --- */

static bool resumed(struct tls_config *cc, struct tls_config *sc)
{
    struct tls_pair p;
    tls_pair_open(&p, cc, sc, NULL);
    ck_assert(tls_pair_handshake(&p));
    ck_assert(tls_pair_send(p.server, p.client, 10)); /* the ticket of TLS 1.3 comes with it */
    ck_assert(p.server->ops->peer(p.server)->verified);
    ck_assert(p.client->ops->peer(p.client)->verified);
    expect_str(p.server->ops->peer(p.server)->uri_sans[0], CLIENT_URI);
    expect_str(p.client->ops->peer(p.client)->uri_sans[0], SERVER_URI);
    bool yes = SSL_session_reused(((struct tls_transport *)(void *)p.client)->ssl);
    tls_pair_close(&p);
    return yes;
}

START_TEST(resumption)
{
    const uint16_t versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct tls_side c = client_side(), s = server_side();
        c.max_version = versions[i];
        c.max_sessions = 1;
        struct tls_config *cc = tls_side_config(&c, false), *sc = tls_side_config(&s, true);
        ck_assert(!resumed(cc, sc));
        ck_assert(resumed(cc, sc));
        ck_assert(resumed(cc, sc));
        /* The same context, other rules for the peer: the session must not cross over. */
        s.uri_prefix = "spiffe://td/";
        struct tls_config *stricter = tls_side_config(&s, true);
        ck_assert_ptr_eq(stricter->context, sc->context);
        ck_assert(!resumed(cc, stricter));
        tls_config_unref(stricter);
        tls_config_unref(cc);
        c.max_sessions = 0;
        cc = tls_side_config(&c, false);
        ck_assert(!resumed(cc, sc));
        ck_assert(!resumed(cc, sc));
        tls_config_unref(cc);
        tls_config_unref(sc);
    }
}
END_TEST

/* A connection goes on with what it was opened with when its configuration is replaced. */
START_TEST(rotation)
{
    struct test_cert *renewed = test_cert_new(
        &(struct test_cert_options){.cn = "server", .issuer = inter, .san = "URI:" SERVER_URI});
    struct tls_pair old, new;
    struct tls_side c = client_side(), s = server_side();
    struct tls_config *cc = tls_side_config(&c, false), *sc = tls_side_config(&s, true);
    tls_pair_open(&old, cc, sc, NULL);
    ck_assert(tls_pair_handshake(&old));
    tls_config_unref(sc);
    s.chain = renewed->chain_pem;
    s.key = renewed->key_pem;
    sc = tls_side_config(&s, true);
    tls_pair_open(&new, cc, sc, NULL);
    ck_assert(tls_pair_handshake(&new));
    ck_assert(tls_pair_send(old.client, old.server, 100000));
    ck_assert(tls_pair_send(old.server, old.client, 100000));
    ck_assert(tls_pair_send(new.server, new.client, 100000));
    ck_assert(!str_eq(old.client->ops->peer(old.client)->serial,
                      new.client->ops->peer(new.client)->serial));
    tls_pair_close(&old);
    tls_pair_close(&new);
    tls_config_unref(cc);
    tls_config_unref(sc);
    test_cert_free(&renewed);
}
END_TEST

/* What a peer's certificate says is held once, however many connections it has. */
START_TEST(equal_peers_share)
{
    struct tls_pair p[2];
    struct tls_side c = client_side(), s = server_side();
    for (int i = 0; i < 2; i++)
        ck_assert(both(&p[i], &c, &s));
    const struct tls_peer *first = p[0].server->ops->peer(p[0].server);
    const struct tls_peer *second = p[1].server->ops->peer(p[1].server);
    ck_assert_ptr_ne(first, second);
    ck_assert_ptr_eq(first->cert_pem_urlencoded.p, second->cert_pem_urlencoded.p);
    tls_pair_close(&p[0]);
    expect_str(second->uri_sans[0], CLIENT_URI); /* still there */
    tls_pair_close(&p[1]);
}
END_TEST

START_TEST(equal_configurations_share)
{
    struct tls_side a = client_side(), b = client_side();
    b.uri_exact = "spiffe://td/ns/b/sa/b";
    b.sni = "b";
    struct tls_config *ca = tls_side_config(&a, false), *cb = tls_side_config(&b, false);
    ck_assert_ptr_eq(ca->context, cb->context);
    ck_assert_ptr_eq(ca->validation->trust, cb->validation->trust);
    b.alpn = "h2";
    struct tls_config *cd = tls_side_config(&b, false);
    ck_assert_ptr_ne(ca->context, cd->context);
    ck_assert_ptr_eq(ca->context->certs[0], cd->context->certs[0]);
    tls_config_unref(ca);
    tls_config_unref(cb);
    tls_config_unref(cd);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tls_transport");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_unchecked_fixture(t, setup, teardown);
    tcase_add_test(t, mutual_tls13);
    tcase_add_test(t, mutual_tls12);
    tcase_add_test(t, wrong_san);
    tcase_add_test(t, expired_certificate);
    tcase_add_test(t, future_certificate);
    tcase_add_test(t, unknown_root);
    tcase_add_test(t, wrong_hash);
    tcase_add_test(t, certificate_for_the_other_role);
    tcase_add_test(t, revoked_certificate);
    tcase_add_test(t, intermediate_as_anchor);
    tcase_add_test(t, name_matchers);
    tcase_add_test(t, nul_in_name);
    tcase_add_test(t, name_of_the_sni);
    tcase_add_test(t, no_client_certificate);
    tcase_add_test(t, wrong_client);
    tcase_add_test(t, no_common_version);
    tcase_add_test(t, no_common_protocol);
    tcase_add_test(t, sni_required);
    tcase_add_test(t, certificate_by_name);
    tcase_add_test(t, overrides);
    tcase_add_test(t, giant_writes);
    tcase_add_test(t, blocked_writer);
    tcase_add_test(t, gathers_small_writes);
    tcase_add_test(t, one_byte_at_a_time);
    tcase_add_test(t, clean_end);
    tcase_add_test(t, truncation);
    tcase_add_test(t, gone_while_writing);
    tcase_add_test(t, gone_in_handshake);
    tcase_add_test(t, plaintext_peer);
    tcase_add_test(t, resumption);
    tcase_add_test(t, rotation);
    tcase_add_test(t, equal_peers_share);
    tcase_add_test(t, equal_configurations_share);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *r = srunner_create(suite());
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
