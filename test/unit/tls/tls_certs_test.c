/* The body of /certs. */
#include "tls/tls_certs.h"

#include "test/support/tls_pair.h"
#include <check.h>
#include <stdlib.h>
#include <time.h>

START_TEST(lists_what_is_in_use)
{
    struct json_writer w;
    struct arena a;
    struct json_error err;
    struct test_cert *root = test_cert_new(
        &(struct test_cert_options){.cn = "root", .ca = true, .from_days = -9, .to_days = -2});
    struct test_cert *leaf = test_cert_new(
        &(struct test_cert_options){.cn = "leaf",
                                    .issuer = root,
                                    .san = "URI:spiffe://td/a,DNS:a.example,IP:10.0.0.1",
                                    .from_days = -1,
                                    .to_days = 10});
    struct tls_config *c = tls_side_config(
        &(struct tls_side){.chain = leaf->chain_pem, .key = leaf->key_pem, .ca = root->pem}, true);
    arena_init(&a, 0);
    /* What only older connections hold, after a rotation, is not shown. */
    json_writer_init(&w, false);
    tls_certs_write(&w, time(NULL));
    ck_assert(str_eq(json_writer_text(&w), STR("{\"certificates\":[]}")));
    json_writer_cleanup(&w);
    c->context->num_current++; /* as the factory does that new connections come from */
    json_writer_init(&w, true);
    tls_certs_write(&w, time(NULL));
    const struct json *tree = json_parse(json_writer_text(&w), 0, &a, &err);
    const struct json *list = json_get(tree, "certificates");
    ck_assert_uint_eq(list->count, 1);
    const struct json *ca = json_get(list->first, "ca_cert")->first;
    const struct json *own = json_get(list->first, "cert_chain")->first;
    ck_assert(str_eq(json_str(json_get(ca, "days_until_expiration")), STR("0")));
    ck_assert(str_eq(json_str(json_get(own, "days_until_expiration")), STR("9")) ||
              str_eq(json_str(json_get(own, "days_until_expiration")), STR("10")));
    ck_assert(str_eq(json_str(json_get(own, "path")), STR("<inline>")));
    ck_assert(
        str_eq(json_str(json_get(own, "serial_number")), c->context->certs[0]->chain[0].serial));
    ck_assert_uint_eq(json_str(json_get(own, "valid_from")).len, 20);
    ck_assert_uint_eq(json_str(json_get(own, "expiration_time")).len, 20);
    const struct json *sans = json_get(own, "subject_alt_names");
    ck_assert_uint_eq(sans->count, 3);
    ck_assert(str_eq(json_str(json_get(sans->first, "uri")), STR("spiffe://td/a")));
    ck_assert(str_eq(json_str(json_get(sans->first->next, "dns")), STR("a.example")));
    ck_assert(str_eq(json_str(json_get(sans->first->next->next, "ip_address")), STR("10.0.0.1")));
    ck_assert(str_find(json_writer_text(&w), STR("PRIVATE")) < 0);
    c->context->num_current--;
    tls_config_unref(c);
    json_writer_cleanup(&w);
    /* What nobody holds any more is not shown. */
    json_writer_init(&w, false);
    tls_certs_write(&w, time(NULL));
    ck_assert(str_eq(json_writer_text(&w), STR("{\"certificates\":[]}")));
    json_writer_cleanup(&w);
    arena_cleanup(&a);
    test_cert_free(&leaf);
    test_cert_free(&root);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tls_certs");
    TCase *t = tcase_create("all");
    tcase_add_test(t, lists_what_is_in_use);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
