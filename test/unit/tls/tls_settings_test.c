/* What of DownstreamTlsContext and UpstreamTlsContext is honoured, and what is refused, with which
 * path. */
#include "tls/tls_settings.h"

#include "test/support/tls_json.h"
#include "test/support/tls_pair.h"
#include "tls/tls_transport.h"
#include <check.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct arena arena;
static struct loop *loop;
static struct tls_secrets *secrets;
static struct test_cert *root, *server, *client;
static const char *server_json, *client_json, *ca_json; /* TlsCertificate and DataSource */

static const char *source(const char *pem)
{
    return arena_printf(&arena, "{\"inline_string\": %s}", json_quote(pem, &arena)).p;
}

static const char *certificate(const char *chain, const char *key)
{
    return arena_printf(&arena, "{\"certificate_chain\": %s, \"private_key\": %s}", source(chain),
                        source(key))
        .p;
}

static void setup(void)
{
    arena_init(&arena, 0);
    loop = loop_new(true);
    secrets = tls_secrets_new(loop, NULL);
    root = test_cert_new(&(struct test_cert_options){.cn = "root", .ca = true});
    server = test_cert_new(&(struct test_cert_options){
        .cn = "server", .issuer = root, .san = "URI:spiffe://td/server,DNS:a.example"});
    client = test_cert_new(&(struct test_cert_options){
        .cn = "client", .issuer = root, .san = "URI:spiffe://td/client"});
    server_json = certificate(server->chain_pem, server->key_pem);
    client_json = certificate(client->chain_pem, client->key_pem);
    ca_json = source(root->pem);
}

static void teardown(void)
{
    test_cert_free(&client);
    test_cert_free(&server);
    test_cert_free(&root);
    tls_secrets_free(&secrets);
    loop_free(&loop);
    arena_cleanup(&arena);
}

/* A compile that must fail with `want` among the errors, which begins with the path. */
static void refuse(bool is_server, const char *json, const char *want)
{
    struct errors e;
    errors_init(&e);
    struct transport_factory *f = tls_json_factory(secrets, is_server, json, &e);
    struct str text = errors_text(&e, &arena);
    ck_assert_msg(!f, "accepted, instead of \"%s\": %.120s", want, json);
    ck_assert_msg(str_find(text, str_of(want)) >= 0, "got \"%.*s\", want \"%s\"", STR_ARG(text),
                  want);
    errors_cleanup(&e);
}

static struct transport_factory *accept_json(bool is_server, const char *json,
                                             const char *want_warning)
{
    struct errors e;
    errors_init(&e);
    struct transport_factory *f = tls_json_factory(secrets, is_server, json, &e);
    ck_assert_msg(f, "%.*s", STR_ARG(errors_text(&e, &arena)));
    if (want_warning)
        ck_assert_msg(e.warn_first && str_find(e.warn_first->text, str_of(want_warning)) >= 0,
                      "no warning \"%s\"", want_warning);
    else
        ck_assert_uint_eq(e.num_warnings, 0);
    errors_cleanup(&e);
    tls_factory_start(f, &(struct tls_factory_start){.stats = NULL});
    ck_assert(f->ops->ready(f));
    return f;
}

#define CONTEXT(...) arena_printf(&arena, __VA_ARGS__).p

START_TEST(certificates_refused)
{
    struct test_cert *weak = test_cert_new(
        &(struct test_cert_options){.cn = "weak", .weak_rsa = true});
    refuse(true, "{}", "common_tls_context.tls_certificates: a server needs a certificate");
    refuse(true,
           CONTEXT("{\"common_tls_context\": {\"tls_certificates\": [%s]}}",
                   certificate(server->pem, client->key_pem)),
           "common_tls_context.tls_certificates[0].private_key: does not match the certificate");
    refuse(true,
           CONTEXT("{\"common_tls_context\": {\"tls_certificates\": [%s]}}",
                   certificate(weak->pem, weak->key_pem)),
           "tls_certificates[0].certificate_chain: an RSA key of 1024 bits is too weak");
    refuse(true,
           CONTEXT("{\"common_tls_context\": {\"tls_certificates\": [%s]}}",
                   certificate("nothing", server->key_pem)),
           "certificate_chain: no valid PEM certificate chain: no certificate found");
    refuse(true,
           CONTEXT("{\"common_tls_context\": {\"tls_certificates\": [%s]}}",
                   certificate(server->pem, "nothing")),
           "private_key: no valid PEM private key");
    refuse(
        true,
        "{\"common_tls_context\": {\"tls_certificates\": [{\"certificate_chain\": {\"filename\":"
        " \"/nonexistent/chain.pem\"}}]}}",
        "tls_certificates[0].certificate_chain: cannot open file /nonexistent/chain.pem: No such "
        "file or directory");
    refuse(true,
           "{\"common_tls_context\": {\"tls_certificates\": [{\"certificate_chain\": {\"filename\":"
           " \"/dev/null\"}}]}}",
           "tls_certificates[0].private_key: a data source is required");
    refuse(true,
           "{\"common_tls_context\": {\"tls_certificates\": [{\"certificate_chain\": "
           "{\"environment_variable\": \"NO_SUCH_VARIABLE\"}}]}}",
           "environment variable NO_SUCH_VARIABLE is not set");
    refuse(false,
           CONTEXT("{\"common_tls_context\": {\"tls_certificates\": [%s, %s]}}", client_json,
                   server_json),
           "common_tls_context.tls_certificates: a client can have one certificate only");
    /* A broken certificate behind a good one. */
    refuse(true,
           CONTEXT("{\"common_tls_context\": {\"tls_certificates\": [%s]}}",
                   certificate(arena_printf(&arena,
                                            "%s-----BEGIN CERTIFICATE-----\nAAAA\n"
                                            "-----END CERTIFICATE-----\n",
                                            server->pem)
                                   .p,
                               server->key_pem)),
           "certificate_chain: no valid PEM certificate chain");
    test_cert_free(&weak);
}
END_TEST

START_TEST(expired_certificate_is_a_warning)
{
    struct test_cert *old = test_cert_new(
        &(struct test_cert_options){.cn = "old", .from_days = -9, .to_days = -1});
    struct transport_factory *f = accept_json(
        true,
        CONTEXT("{\"common_tls_context\": {\"tls_certificates\": [%s]}}",
                certificate(old->pem, old->key_pem)),
        "CN=old,O=Acme\\, Inc: the certificate has expired");
    transport_factory_unref(f);
    test_cert_free(&old);
}
END_TEST

static const char *with_params(const char *params)
{
    return CONTEXT("{\"common_tls_context\": {\"tls_certificates\": [%s], \"tls_params\": {%s}}}",
                   server_json, params);
}

START_TEST(parameters)
{
    refuse(true, with_params("\"cipher_suites\": [\"ECDHE-RSA-AES128-GCM-SHA256\", \"RC4-MD5\"]"),
           "common_tls_context.tls_params.cipher_suites[1]: RC4-MD5 is not supported");
    refuse(true, with_params("\"cipher_suites\": [\"TLS_AES_128_GCM_SHA256\"]"),
           "cipher_suites[0]: TLS_AES_128_GCM_SHA256 is not supported");
    refuse(true, with_params("\"ecdh_curves\": [\"X25519\", \"X25519\"]"),
           "common_tls_context.tls_params.ecdh_curves: X25519:X25519 is not supported");
    refuse(true, with_params("\"ecdh_curves\": [\"P-1\"]"),
           "common_tls_context.tls_params.ecdh_curves[0]: P-1 is not supported");
    refuse(true, with_params("\"signature_algorithms\": [\"rsa\"]"),
           "common_tls_context.tls_params.signature_algorithms[0]: rsa is not supported");
    refuse(true,
           with_params("\"tls_minimum_protocol_version\": \"TLSv1_3\", "
                       "\"tls_maximum_protocol_version\": \"TLSv1_2\""),
           "tls_params.tls_minimum_protocol_version: is higher than tls_maximum_protocol_version");
    /* Istio's list, and names in brackets of equal preference. */
    struct transport_factory *f = accept_json(
        true,
        with_params("\"tls_minimum_protocol_version\": \"TLSv1_2\", "
                    "\"tls_maximum_protocol_version\": \"TLSv1_3\", \"cipher_suites\": ["
                    "\"[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]\","
                    "\"ECDHE-ECDSA-AES256-GCM-SHA384\", \"ECDHE-RSA-AES256-GCM-SHA384\", "
                    "\"ECDHE-RSA-AES128-GCM-SHA256\", \"AES256-GCM-SHA384\", "
                    "\"TLS_AES_128_GCM_SHA256\", "
                    "\"AES128-GCM-SHA256\"], \"ecdh_curves\": [\"X25519\", \"P-256\", "
                    "\"X25519MLKEM768\"], \"signature_algorithms\": [\"ecdsa_secp256r1_sha256\"]"),
        NULL);
    transport_factory_unref(f);
}
END_TEST

static const char *with_validation(const char *validation)
{
    return CONTEXT("{\"common_tls_context\": {\"validation_context\": {%s}}}", validation);
}

START_TEST(validation_refused)
{
    refuse(false, with_validation("\"trusted_ca\": {\"inline_string\": \"junk\"}"),
           "common_tls_context.validation_context.trusted_ca: no certificate found");
    refuse(false, with_validation("\"trusted_ca\": {\"filename\": \"/nonexistent\"}"),
           "validation_context.trusted_ca: cannot open file /nonexistent");
    refuse(false, with_validation("\"trusted_ca\": {\"inline_string\": \"\"}"),
           "validation_context.trusted_ca: is empty");
    refuse(false,
           with_validation("\"match_typed_subject_alt_names\": [{\"san_type\": \"URI\", "
                           "\"matcher\": {\"exact\": \"a\"}}]"),
           "without a trusted_ca proves nothing");
    const char *ca = arena_printf(&arena, "\"trusted_ca\": %s", ca_json).p;
    refuse(false,
           with_validation(arena_printf(&arena,
                                        "%s, \"match_typed_subject_alt_names\": [{\"san_type\": "
                                        "\"URI\", \"matcher\": {\"safe_regex\": {\"regex\": "
                                        "\"a(\"}}}]",
                                        ca)
                               .p),
           "validation_context.match_typed_subject_alt_names[0].matcher.safe_regex.regex: ");
    refuse(false,
           with_validation(arena_printf(&arena,
                                        "%s, \"match_typed_subject_alt_names\": [{\"san_type\": "
                                        "\"OTHER_NAME\", \"matcher\": {\"exact\": \"a\"}}]",
                                        ca)
                               .p),
           "match_typed_subject_alt_names[0].san_type: OTHER_NAME is not supported");
    refuse(false,
           with_validation(
               arena_printf(&arena, "%s, \"match_subject_alt_names\": [{\"prefix\": \"\"}]", ca).p),
           "match_subject_alt_names[0].prefix");
    refuse(false,
           with_validation(
               arena_printf(&arena, "%s, \"verify_certificate_hash\": [\"%s\"]", ca,
                            "00112233445566778899aabbccddeeff00112233445566778899aabbccddeefg")
                   .p),
           "verify_certificate_hash[0]");
    refuse(false,
           with_validation(arena_printf(&arena, "%s, \"verify_certificate_spki\": [\"%s\"]", ca,
                                        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA*")
                               .p),
           "verify_certificate_spki[0]");
    refuse(
        false,
        with_validation(arena_printf(&arena, "%s, \"crl\": {\"inline_string\": \"junk\"}", ca).p),
        "validation_context.crl: no valid PEM CRL");
    refuse(false, "{\"auto_sni_san_validation\": true, \"sni\": \"a\"}",
           "auto_sni_san_validation: needs a trusted_ca");
}
END_TEST

START_TEST(other_fields_refused)
{
    const char *common =
        arena_printf(&arena, "\"common_tls_context\": {\"tls_certificates\": [%s]}", server_json).p;
    refuse(true, CONTEXT("{%s, \"ocsp_staple_policy\": \"MUST_STAPLE\"}", common),
           "ocsp_staple_policy: only LENIENT_STAPLING is supported");
    refuse(true,
           CONTEXT("{%s, \"session_ticket_keys\": {\"keys\": [{\"inline_string\": "
                   "\"short\"}]}}",
                   common),
           "session_ticket_keys.keys[0]: is 5 bytes long, must be 80");
    refuse(true, CONTEXT("{%s, \"session_timeout\": \"-5s\"}", common), "session_timeout");
    refuse(false, "{\"allow_renegotiation\": true}", "allow_renegotiation: is not supported");
    refuse(false, "{\"auto_host_sni\": true}", "auto_host_sni: is not supported");
    refuse(false, "{\"common_tls_context\": {\"alpn_protocols\": [\"h2\", \"\"]}}",
           "common_tls_context.alpn_protocols[1]: must have 1 to 255 bytes");
    refuse(
        false,
        "{\"common_tls_context\": {\"validation_context_sds_secret_config\": {\"name\": "
        "\"missing\"}}}",
        "common_tls_context.validation_context_sds_secret_config.name: there is no static secret "
        "missing, and no sds_config is given");
    /* Official, but not honoured, and security: refused by its path. */
    refuse(false, "{\"common_tls_context\": {\"custom_handshaker\": {\"name\": \"x\"}}}",
           "common_tls_context.custom_handshaker");
}
END_TEST

START_TEST(warnings)
{
    transport_factory_unref(
        accept_json(false, "{}", "is not set: the server's certificate is not verified"));
    transport_factory_unref(
        accept_json(true,
                    CONTEXT("{\"require_client_certificate\": true, \"common_tls_context\": "
                            "{\"tls_certificates\": [%s]}}",
                            server_json),
                    "without a validation context any certificate is accepted"));
}
END_TEST

static bool connects(struct transport_factory *cf, struct transport_factory *sf, struct tls_pair *p)
{
    struct tls_config *cc = tls_factory_current(cf), *sc = tls_factory_current(sf);
    tls_pair_open(p, cc, sc, NULL);
    tls_config_unref(cc);
    tls_config_unref(sc);
    return tls_pair_handshake(p);
}

static bool peer_alpn(struct transport *t, const char *want)
{
    return str_eq(t->ops->peer(t)->alpn, str_of(want));
}

START_TEST(istio_shapes)
{
    struct tls_pair p;
    struct errors e;
    errors_init(&e);
    struct str bytes = tls_json_secret(
        CONTEXT("{\"name\": \"ROOTCA\", \"validation_context\": {\"trusted_ca\": %s}}", ca_json),
        &arena);
    ck_assert(tls_secrets_add_static(secrets, bytes, &e));
    ck_assert(!tls_secrets_add_static(secrets, bytes, &e)); /* twice */
    errors_cleanup(&e);
    struct transport_factory *sf = accept_json(
        true,
        CONTEXT("{\"require_client_certificate\": true, \"common_tls_context\": {"
                "\"tls_certificates\": [%s], \"alpn_protocols\": [\"istio-peer-exchange\", \"h2\", "
                "\"http/1.1\"], \"combined_validation_context\": {\"default_validation_context\": "
                "{\"match_subject_alt_names\": [{\"prefix\": \"spiffe://td/\"}]}, "
                "\"validation_context_sds_secret_config\": {\"name\": \"ROOTCA\"}}}}",
                server_json),
        NULL);
    const char *client_context =
        "{\"sni\": \"outbound_.80_._.a\", \"common_tls_context\": {"
        "\"tls_certificates\": [%s], \"alpn_protocols\": [\"istio-peer-exchange\", \"istio\"], "
        "\"combined_validation_context\": {\"default_validation_context\": "
        "{\"match_typed_subject_alt_names\": [{\"san_type\": \"URI\", \"matcher\": "
        "{\"exact\": \"%s\"}}]}, "
        "\"validation_context_sds_secret_config\": {\"name\": \"ROOTCA\"}}}}";
    char json[16384];
    snprintf(json, sizeof(json), client_context, client_json, "spiffe://td/server");
    struct transport_factory *cf = accept_json(false, json, NULL);
    ck_assert(connects(cf, sf, &p));
    ck_assert(peer_alpn(p.server, "istio-peer-exchange"));
    ck_assert(p.server->ops->peer(p.server)->verified && p.client->ops->peer(p.client)->verified);
    ck_assert(str_eq(p.server->ops->peer(p.server)->version, STR("TLSv1.3")));
    tls_pair_close(&p);
    transport_factory_unref(cf);
    snprintf(json, sizeof(json), client_context, client_json, "spiffe://td/another");
    cf = accept_json(false, json, NULL);
    ck_assert(!connects(cf, sf, &p));
    tls_pair_close(&p);
    transport_factory_unref(cf);
    /* A secret of another kind. */
    refuse(false,
           "{\"common_tls_context\": {\"tls_certificate_sds_secret_configs\": [{\"name\": "
           "\"ROOTCA\"}]}}",
           "tls_certificate_sds_secret_configs[0].name: the static secret ROOTCA is a "
           "validation_context, not a tls_certificate");
    transport_factory_unref(sf);
}
END_TEST

/* Tickets sealed with given keys are good at another process with the same keys. */
START_TEST(ticket_keys)
{
    struct tls_pair p;
    char *keys[2];
    struct transport_factory *sf[2];
    for (int i = 0; i < 2; i++) {
        keys[i] = arena_bytes(&arena, 81);
        memset(keys[i], 'a' + i, 80);
        keys[i][80] = 0;
    }
    const char *context =
        "{\"common_tls_context\": {\"tls_certificates\": [%s]}, \"session_ticket_keys\": "
        "{\"keys\": [{\"inline_string\": \"%s\"}, {\"inline_string\": \"%s\"}]}}";
    char json[16384];
    for (int i = 0; i < 2; i++) {
        snprintf(json, sizeof(json), context, server_json, keys[i], keys[1 - i]);
        sf[i] = accept_json(true, json, NULL);
    }
    struct transport_factory *cf = accept_json(
        false, with_validation(arena_printf(&arena, "\"trusted_ca\": %s", ca_json).p), NULL);
    for (int i = 0; i < 4; i++) {
        ck_assert(connects(cf, sf[i > 1], &p));
        ck_assert(tls_pair_send(p.server, p.client, 10));
        ck_assert(p.client->ops->peer(p.client)->verified);
        struct tls_transport *t = (struct tls_transport *)(void *)p.client;
        ck_assert_int_eq(SSL_session_reused(t->ssl), i > 0);
        tls_pair_close(&p);
    }
    transport_factory_unref(cf);
    transport_factory_unref(sf[0]);
    transport_factory_unref(sf[1]);
}
END_TEST

START_TEST(system_roots)
{
    if (access("/etc/ssl/certs/ca-certificates.crt", R_OK) != 0) {
        printf("skipped: no CA bundle here\n");
        return;
    }
    struct tls_pair p;
    struct transport_factory *cf = accept_json(false, with_validation("\"system_root_certs\": {}"),
                                               NULL);
    struct transport_factory *sf = accept_json(
        true, CONTEXT("{\"common_tls_context\": {\"tls_certificates\": [%s]}}", server_json), NULL);
    ck_assert(!connects(cf, sf, &p));
    tls_pair_close(&p);
    transport_factory_unref(cf);
    transport_factory_unref(sf);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tls_settings");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, certificates_refused);
    tcase_add_test(t, expired_certificate_is_a_warning);
    tcase_add_test(t, parameters);
    tcase_add_test(t, validation_refused);
    tcase_add_test(t, other_fields_refused);
    tcase_add_test(t, warnings);
    tcase_add_test(t, istio_shapes);
    tcase_add_test(t, ticket_keys);
    tcase_add_test(t, system_roots);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
