/* Secrets from SDS: not ready, ready, rotated, bad ones; with the file source of the xDS client. */
#include "tls/tls_factory.h"

#include "test/support/tls_json.h"
#include "test/support/tls_pair.h"
#include "tls/tls_stats.h"
#include "tls/tls_transport.h"
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct arena arena;
static struct loop *loop;
static struct xds *xds;
static struct tls_secrets *secrets;
static struct stats_scope *server_stats, *client_stats;
static struct test_cert *root, *other_root, *server, *renewed, *client;
static char dir[64];
static int settled;

static const char *path_of(const char *name)
{
    return arena_printf(&arena, "%s/%s", dir, name).p;
}

/* Writes a DiscoveryResponse and moves it into its place. */
static void put(const char *name, const char *resources)
{
    const char *tmp = path_of("new");
    FILE *f = fopen(tmp, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f, "{\"version_info\": \"1\", \"resources\": [%s]}", resources);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(rename(tmp, path_of(name)), 0);
}

#define SECRET                                                                                     \
    "{\"@type\": \"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret\", "       \
    "\"name\": \"%s\", "

static const char *cert_secret(const char *name, const char *chain, const char *key)
{
    return arena_printf(&arena,
                        SECRET "\"tls_certificate\": {\"certificate_chain\": {\"inline_string\": "
                               "%s}, \"private_key\": {\"inline_string\": %s}}}",
                        name, json_quote(chain, &arena), json_quote(key, &arena))
        .p;
}

static const char *ca_secret(const char *name, const char *pem)
{
    return arena_printf(&arena,
                        SECRET "\"validation_context\": {\"trusted_ca\": {\"inline_string\": %s}}}",
                        name, json_quote(pem, &arena))
        .p;
}

static void setup(void)
{
    static const struct stats_part listener[] = {{STR("listener.x"), NULL}};
    static const struct stats_part cluster[] = {{STR("cluster.x"), NULL}};
    arena_init(&arena, 0);
    stats_init(2);
    loop = loop_new(false);
    xds = xds_new(loop, &(struct xds_options){.max_message = 0});
    secrets = tls_secrets_new(loop, xds);
    server_stats = tls_stats_new(listener, 1, true);
    client_stats = tls_stats_new(cluster, 1, false);
    snprintf(dir, sizeof(dir), "/tmp/attache-tls-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    settled = 0;
    root = test_cert_new(&(struct test_cert_options){.cn = "root", .ca = true});
    other_root = test_cert_new(&(struct test_cert_options){.cn = "other", .ca = true});
    server = test_cert_new(&(struct test_cert_options){
        .cn = "server", .issuer = root, .san = "URI:spiffe://td/server"});
    renewed = test_cert_new(&(struct test_cert_options){
        .cn = "renewed", .issuer = root, .san = "URI:spiffe://td/server"});
    client = test_cert_new(&(struct test_cert_options){
        .cn = "client", .issuer = root, .san = "URI:spiffe://td/client"});
}

static void teardown(void)
{
    static const char *const files[] = {"cert.json", "ca.json", "client.json", "chain.pem",
                                        "key.pem"};
    test_cert_free(&client);
    test_cert_free(&renewed);
    test_cert_free(&server);
    test_cert_free(&other_root);
    test_cert_free(&root);
    xds_free(&xds);
    tls_secrets_free(&secrets);
    stats_scope_free(&client_stats);
    stats_scope_free(&server_stats);
    loop_free(&loop);
    stats_cleanup();
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        unlink(path_of(files[i]));
    rmdir(dir);
    arena_cleanup(&arena);
}

static void on_settled(void *arg)
{
    settled += *(int *)arg;
}

static struct transport_factory *open_factory(bool is_server, const char *json)
{
    static int one = 1;
    struct errors e;
    errors_init(&e);
    struct transport_factory *f = tls_json_factory(secrets, is_server, json, &e);
    ck_assert_msg(f, "%.*s", STR_ARG(errors_text(&e, &arena)));
    errors_cleanup(&e);
    tls_factory_start(f, &(struct tls_factory_start){
                             .stats = is_server ? server_stats : client_stats,
                             .settled = on_settled,
                             .arg = &one,
                         });
    return f;
}

static struct transport_factory *server_factory(void)
{
    return open_factory(
        true, arena_printf(&arena,
                           "{\"require_client_certificate\": true, \"common_tls_context\": {"
                           "\"tls_certificate_sds_secret_configs\": [{\"name\": \"default\", "
                           "\"sds_config\": {\"path_config_source\": {\"path\": \"%s\"}}}], "
                           "\"combined_validation_context\": {\"default_validation_context\": "
                           "{\"match_subject_alt_names\": [{\"prefix\": \"spiffe://td/\"}]}, "
                           "\"validation_context_sds_secret_config\": {\"name\": \"ROOTCA\", "
                           "\"sds_config\": {\"path_config_source\": {\"path\": \"%s\"}}}}}}",
                           path_of("cert.json"), path_of("ca.json"))
                  .p);
}

static struct transport_factory *client_factory(void)
{
    return open_factory(
        false,
        arena_printf(&arena,
                     "{\"common_tls_context\": {\"tls_certificate_sds_secret_configs\": [{"
                     "\"name\": \"client\", \"sds_config\": {\"path_config_source\": {\"path\": "
                     "\"%s\"}}}], \"combined_validation_context\": {"
                     "\"default_validation_context\": {\"match_typed_subject_alt_names\": [{"
                     "\"san_type\": \"URI\", \"matcher\": {\"exact\": \"spiffe://td/server\"}}]}, "
                     "\"validation_context_sds_secret_config\": {\"name\": \"ROOTCA\", "
                     "\"sds_config\": {\"path_config_source\": {\"path\": \"%s\"}}}}}}",
                     path_of("client.json"), path_of("ca.json"))
            .p);
}

/* Runs the loop until `done(arg)`, for at most 10 s. */
static bool run_until(bool (*done)(void *arg), void *arg)
{
    for (int i = 0; i < 10000; i++) {
        while (loop_run_once(loop, false))
            if (done(arg))
                return true;
        if (done(arg))
            return true;
        usleep(1000);
    }
    return false;
}

static bool is_ready(void *arg)
{
    struct transport_factory *f = arg;
    return f->ops->ready(f);
}

static bool two_settled(void *arg)
{
    (void)arg;
    return settled == 2;
}

static void open_pair(struct tls_pair *p, struct transport_factory *cf,
                      struct transport_factory *sf)
{
    struct tls_config *cc = tls_factory_current(cf), *sc = tls_factory_current(sf);
    tls_pair_open(p, cc, sc, NULL);
    tls_config_unref(cc);
    tls_config_unref(sc);
}

static struct str subject(struct tls_pair *p)
{
    return p->client->ops->peer(p->client)->subject;
}

static bool shows_renewed(void *arg)
{
    struct tls_config *c = tls_factory_current(arg);
    bool yes = str_starts(c->context->certs[0]->chain[0].subject, STR("CN=renewed"));
    tls_config_unref(c);
    return yes;
}

static void put_all(void)
{
    put("cert.json", cert_secret("default", server->chain_pem, server->key_pem));
    put("client.json", cert_secret("client", client->chain_pem, client->key_pem));
    put("ca.json", ca_secret("ROOTCA", root->pem));
}

START_TEST(not_ready_until_all_are_there)
{
    put_all();
    put("ca.json", ca_secret("ANOTHER", root->pem));
    struct transport_factory *sf = server_factory();
    ck_assert(!sf->ops->ready(sf));
    ck_assert_int_eq(settled, 0);
    for (int i = 0; i < 50; i++) {
        loop_run_once(loop, false);
        usleep(1000);
    }
    ck_assert(!sf->ops->ready(sf)); /* the certificate alone is not enough */
    ck_assert_ptr_null(sf->ops->open(sf, -1, NULL));
    ck_assert_uint_eq(stats_sum(server_stats, TLS_DOWNSTREAM_NOT_READY), 1);
    put("ca.json", ca_secret("ROOTCA", root->pem));
    ck_assert(run_until(is_ready, sf));
    loop_run_once(loop, false);
    ck_assert_int_eq(settled, 1);
    ck_assert_uint_eq(stats_sum(server_stats, TLS_CONTEXT_UPDATE_BY_SDS), 1);
    transport_factory_unref(sf);
}
END_TEST

START_TEST(rotation_drops_nothing)
{
    struct tls_pair old, new;
    put_all();
    struct transport_factory *sf = server_factory(), *cf = client_factory();
    ck_assert(run_until(two_settled, NULL));
    ck_assert(is_ready(sf) && is_ready(cf));
    open_pair(&old, cf, sf);
    ck_assert(tls_pair_handshake(&old));
    put("cert.json", cert_secret("default", renewed->chain_pem, renewed->key_pem));
    ck_assert(run_until(shows_renewed, sf));
    open_pair(&new, cf, sf);
    ck_assert(tls_pair_handshake(&new));
    ck_assert(str_starts(subject(&old), STR("CN=server")));
    ck_assert(str_starts(subject(&new), STR("CN=renewed")));
    ck_assert(tls_pair_send(old.client, old.server, 200000));
    ck_assert(tls_pair_send(old.server, old.client, 200000));
    ck_assert(tls_pair_send(new.client, new.server, 200000));
    ck_assert_uint_eq(stats_sum(server_stats, TLS_HANDSHAKE), 2);
    ck_assert_uint_eq(stats_sum(client_stats, TLS_HANDSHAKE), 2);
    ck_assert_uint_eq(stats_sum(server_stats, TLS_CONTEXT_UPDATE_BY_SDS), 2);
    /* The connections outlive the factories. */
    transport_factory_unref(sf);
    transport_factory_unref(cf);
    ck_assert(tls_pair_send(old.client, old.server, 1000));
    tls_pair_close(&old);
    tls_pair_close(&new);
}
END_TEST

/* Two clusters that expect different names hold the same SSL_CTX, before and after a rotation. */
START_TEST(equal_factories_share)
{
    put_all();
    struct transport_factory *a = client_factory(), *b = client_factory();
    ck_assert(run_until(two_settled, NULL));
    struct tls_config *ca = tls_factory_current(a), *cb = tls_factory_current(b);
    ck_assert_ptr_ne(ca, cb);
    ck_assert_ptr_eq(ca->context, cb->context);
    tls_config_unref(ca);
    tls_config_unref(cb);
    transport_factory_unref(a);
    transport_factory_unref(b);
}
END_TEST

START_TEST(bad_secret_leaves_the_good_one)
{
    struct tls_pair p;
    put_all();
    struct transport_factory *sf = server_factory(), *cf = client_factory();
    ck_assert(run_until(two_settled, NULL));
    /* A key that is not the certificate's; then a secret of another kind; then none at all. */
    put("cert.json", cert_secret("default", renewed->chain_pem, client->key_pem));
    for (int i = 0; i < 50; i++) {
        loop_run_once(loop, false);
        usleep(1000);
    }
    put("cert.json", ca_secret("default", root->pem));
    for (int i = 0; i < 50; i++) {
        loop_run_once(loop, false);
        usleep(1000);
    }
    put("cert.json", "");
    for (int i = 0; i < 50; i++) {
        loop_run_once(loop, false);
        usleep(1000);
    }
    open_pair(&p, cf, sf);
    ck_assert(tls_pair_handshake(&p));
    ck_assert(str_starts(subject(&p), STR("CN=server")));
    tls_pair_close(&p);
    put("cert.json", cert_secret("default", renewed->chain_pem, renewed->key_pem));
    ck_assert(run_until(shows_renewed, sf));
    transport_factory_unref(sf);
    transport_factory_unref(cf);
}
END_TEST

static void put_file(const char *name, const char *text)
{
    const char *tmp = path_of("new");
    FILE *f = fopen(tmp, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(rename(tmp, path_of(name)), 0);
}

/* A secret that names files follows them; a moment in which chain and key do not fit changes
 * nothing. */
START_TEST(files_of_a_secret)
{
    put_all();
    put_file("chain.pem", server->chain_pem);
    put_file("key.pem", server->key_pem);
    put("cert.json", arena_printf(&arena,
                                  SECRET "\"tls_certificate\": {\"certificate_chain\": "
                                         "{\"filename\": \"%s\"}, \"private_key\": "
                                         "{\"filename\": \"%s\"}}}",
                                  "default", path_of("chain.pem"), path_of("key.pem"))
                         .p);
    struct transport_factory *a = server_factory(), *b = server_factory();
    ck_assert(run_until(two_settled, NULL));
    ck_assert(is_ready(a) && is_ready(b) && !shows_renewed(a));
    put_file("chain.pem", renewed->chain_pem);
    for (int i = 0; i < 50; i++) {
        loop_run_once(loop, false);
        usleep(1000);
    }
    ck_assert(!shows_renewed(a));
    put_file("key.pem", renewed->key_pem);
    ck_assert(run_until(shows_renewed, a));
    ck_assert(run_until(shows_renewed, b));
    transport_factory_unref(a);
    put_file("chain.pem", "");
    put_file("key.pem", server->key_pem);
    put_file("chain.pem", server->chain_pem);
    for (int i = 0; i < 5000 && shows_renewed(b); i++) {
        loop_run_once(loop, false);
        usleep(1000);
    }
    ck_assert(!shows_renewed(b));
    transport_factory_unref(b);
}
END_TEST

static bool other_root_used(void *arg)
{
    struct tls_config *c = tls_factory_current(arg);
    bool yes = str_starts(c->context->trust->certs[0].subject, STR("CN=other"));
    tls_config_unref(c);
    return yes;
}

START_TEST(roots_rotate)
{
    struct tls_pair p;
    put_all();
    struct transport_factory *sf = server_factory(), *cf = client_factory();
    ck_assert(run_until(two_settled, NULL));
    put("ca.json", ca_secret("ROOTCA", other_root->pem));
    ck_assert(run_until(other_root_used, sf));
    ck_assert(run_until(other_root_used, cf));
    open_pair(&p, cf, sf);
    ck_assert(!tls_pair_handshake(&p));
    ck_assert_uint_eq(stats_sum(client_stats, TLS_FAIL_VERIFY_ERROR), 1);
    ck_assert_uint_eq(stats_sum(client_stats, TLS_CONNECTION_ERROR), 0);
    tls_pair_close(&p);
    transport_factory_unref(sf);
    transport_factory_unref(cf);
}
END_TEST

START_TEST(counters)
{
    struct tls_pair p;
    put_all();
    struct transport_factory *sf = server_factory(), *cf = client_factory();
    ck_assert(run_until(two_settled, NULL));
    for (int i = 0; i < 2; i++) {
        open_pair(&p, cf, sf);
        ck_assert(tls_pair_handshake(&p));
        ck_assert(tls_pair_send(p.server, p.client, 10));
        tls_pair_close(&p);
    }
    ck_assert_uint_eq(stats_sum(server_stats, TLS_HANDSHAKE), 2);
    ck_assert_uint_eq(stats_sum(server_stats, TLS_SESSION_REUSED), 1);
    ck_assert_uint_eq(stats_sum(client_stats, TLS_SESSION_REUSED), 1);
    ck_assert_uint_eq(stats_sum(server_stats, TLS_NO_CERTIFICATE), 0);
    /* A client without a certificate. */
    struct tls_side bare = {.ca = root->pem};
    struct tls_config *cc = tls_side_config(&bare, false), *sc = tls_factory_current(sf);
    tls_pair_open(&p, cc, sc, NULL);
    ck_assert(!tls_pair_handshake(&p));
    tls_pair_close(&p);
    tls_config_unref(cc);
    tls_config_unref(sc);
    ck_assert_uint_eq(stats_sum(server_stats, TLS_FAIL_VERIFY_NO_CERT), 1);
    ck_assert_uint_eq(stats_sum(server_stats, TLS_CONNECTION_ERROR), 0);
    transport_factory_unref(sf);
    transport_factory_unref(cf);
}
END_TEST

/* Opens while the version is replaced all the time: each open pins a whole version. */
struct racer {
    struct transport_factory *f;
    _Atomic(bool) stop;
    size_t opened;
};

static void *race(void *arg)
{
    struct racer *r = arg;
    while (!atomic_load(&r->stop)) {
        struct tls_config *c = tls_factory_current(r->f);
        CHECK(c->context->certs[0]->num_chain == 1);
        r->opened++;
        tls_config_unref(c);
    }
    return NULL;
}

START_TEST(replaced_while_opening)
{
    pthread_t threads[2];
    put_all();
    struct mailbox box;
    mailbox_init(&box, loop);
    tls_set_main(&box);
    struct transport_factory *sf = server_factory();
    ck_assert(run_until(is_ready, sf));
    struct racer racers[2] = {{.f = sf}, {.f = sf}};
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    for (int i = 0; i < 30; i++) {
        const struct test_cert *c = i % 2 ? server : renewed;
        put("cert.json", cert_secret("default", c->chain_pem, c->key_pem));
        for (int j = 0; j < 10; j++) {
            loop_run_once(loop, false);
            usleep(300);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        atomic_store(&racers[i].stop, true);
        pthread_join(threads[i], NULL);
        ck_assert_uint_gt(racers[i].opened, 0);
    }
    ck_assert_uint_gt(stats_sum(server_stats, TLS_CONTEXT_UPDATE_BY_SDS), 5);
    transport_factory_unref(sf);
    mailbox_cleanup(&box);
    tls_set_main(NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tls_factory");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, not_ready_until_all_are_there);
    tcase_add_test(t, rotation_drops_nothing);
    tcase_add_test(t, equal_factories_share);
    tcase_add_test(t, bad_secret_leaves_the_good_one);
    tcase_add_test(t, files_of_a_secret);
    tcase_add_test(t, roots_rotate);
    tcase_add_test(t, counters);
    tcase_add_test(t, replaced_while_opening);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
