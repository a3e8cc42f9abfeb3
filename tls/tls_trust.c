#include "tls/tls_trust.h"

#include "tls/tls_cert.h"
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

static struct dedup trusts;

static size_t count_certs(STACK_OF(X509_INFO) * infos)
{
    size_t n = 0;
    for (size_t i = 0; i < sk_X509_INFO_num(infos); i++)
        n += sk_X509_INFO_value(infos, i)->x509 != NULL;
    return n;
}

static void add_ca_name(struct tls_trust *t, const X509 *cert)
{
    uint8_t *der = NULL;
    int len = i2d_X509_NAME(X509_get_subject_name(cert), &der);
    CHECK(len > 0);
    CRYPTO_BUFFER *name = CRYPTO_BUFFER_new(der, (size_t)len, tls_buffer_pool());
    OPENSSL_free(der);
    CHECK(name && sk_CRYPTO_BUFFER_push(t->ca_names, name));
}

/* PEM blocks of any kind into the store; what is neither certificate nor CRL is ignored. */
static STACK_OF(X509_INFO) * read_pem(struct str pem)
{
    ERR_clear_error();
    BIO *bio = BIO_new_mem_buf(pem.p, (ossl_ssize_t)pem.len);
    CHECK(bio);
    STACK_OF(X509_INFO) *infos = PEM_X509_INFO_read_bio(bio, NULL, NULL, NULL);
    BIO_free(bio);
    return infos;
}

static bool load_ca(struct tls_trust *t, const struct tls_trust_source *src, struct errors *e)
{
    STACK_OF(X509_INFO) *infos = read_pem(src->ca);
    if (!infos) {
        errors_add(e, "trusted_ca", "no valid PEM certificates: %s", tls_pem_error("malformed"));
        return false;
    }
    size_t num = count_certs(infos);
    t->certs = arena_zalloc(&t->arena, (num + 1) * sizeof(*t->certs));
    for (size_t i = 0; i < sk_X509_INFO_num(infos); i++) {
        const X509_INFO *info = sk_X509_INFO_value(infos, i);
        if (info->x509) {
            /* A repeated certificate is fine. */
            X509_STORE_add_cert(t->store, info->x509);
            add_ca_name(t, info->x509);
            cert_info_read(&t->certs[t->num_certs++], info->x509, src->ca_path, &t->arena);
        }
        if (info->crl) {
            X509_STORE_add_crl(t->store, info->crl);
            t->has_crl = true;
        }
    }
    sk_X509_INFO_pop_free(infos, X509_INFO_free);
    ERR_clear_error();
    if (num == 0)
        errors_add(e, "trusted_ca", "no certificate found");
    return num != 0;
}

static bool load_crl(struct tls_trust *t, struct str pem, struct errors *e)
{
    if (pem.len == 0)
        return true;
    STACK_OF(X509_INFO) *infos = read_pem(pem);
    size_t num = 0;
    for (size_t i = 0; infos && i < sk_X509_INFO_num(infos); i++) {
        X509_CRL *crl = sk_X509_INFO_value(infos, i)->crl;
        if (!crl)
            continue;
        X509_STORE_add_crl(t->store, crl);
        num++;
    }
    if (num == 0)
        errors_add(e, "crl", "no valid PEM CRL: %s", tls_pem_error("none found"));
    sk_X509_INFO_pop_free(infos, X509_INFO_free);
    ERR_clear_error();
    t->has_crl |= num != 0;
    return num != 0;
}

static void trust_free(struct tls_trust *t)
{
    X509_STORE_free(t->store);
    sk_CRYPTO_BUFFER_pop_free(t->ca_names, CRYPTO_BUFFER_free);
    arena_cleanup(&t->arena);
    mem_free(t);
}

struct tls_trust *tls_trust_new(const struct tls_trust_source *src, struct errors *e)
{
    struct dedup_key key;
    struct dedup_hash h;
    dedup_hash_init(&h);
    dedup_hash_str(&h, src->ca);
    dedup_hash_str(&h, src->ca_path);
    dedup_hash_str(&h, src->crl);
    dedup_hash_final(&h, &key);
    struct dedup_entry *known = dedup_find(&trusts, &key);
    if (known)
        return tls_trust_ref(CONTAINER_OF(known, struct tls_trust, entry));

    struct tls_trust *t = NEW(struct tls_trust);
    refcount_init(&t->refs);
    arena_init(&t->arena, 512);
    t->store = X509_STORE_new();
    t->ca_names = sk_CRYPTO_BUFFER_new_null();
    CHECK(t->store && t->ca_names);
    bool ca_ok = load_ca(t, src, e);
    if (!load_crl(t, src->crl, e) || !ca_ok) {
        trust_free(t);
        return NULL;
    }
    dedup_add(&trusts, &t->entry, &key);
    return t;
}

struct tls_trust *tls_trust_ref(struct tls_trust *t)
{
    if (t)
        refcount_inc(&t->refs);
    return t;
}

void tls_trust_unref(struct tls_trust *t)
{
    if (!t || !refcount_dec(&t->refs))
        return;
    dedup_remove(&trusts, &t->entry);
    trust_free(t);
}

static int accept_expired(int ok, X509_STORE_CTX *ctx)
{
    int err = X509_STORE_CTX_get_error(ctx);
    if (!ok && (err == X509_V_ERR_CERT_HAS_EXPIRED || err == X509_V_ERR_CERT_NOT_YET_VALID))
        return 1;
    return ok;
}

bool tls_trust_verify(const struct tls_trust *t, X509 *const *chain, size_t num,
                      const struct tls_chain_rules *rules, int *out_error, int *out_depth)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *rest = sk_X509_new_null();
    CHECK(ctx && rest && num > 0);
    for (size_t i = 1; i < num; i++)
        CHECK(sk_X509_push(rest, chain[i]));
    CHECK(X509_STORE_CTX_init(ctx, t->store, chain[0], rest));
    /* The names are those of the peer: a server checks that its peer may be a client. */
    CHECK(X509_STORE_CTX_set_default(ctx, rules->server ? "ssl_client" : "ssl_server"));
    unsigned long flags = X509_V_FLAG_PARTIAL_CHAIN;
    if (t->has_crl)
        flags |= X509_V_FLAG_CRL_CHECK | (rules->leaf_crl_only ? 0 : X509_V_FLAG_CRL_CHECK_ALL);
    X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(ctx), flags);
    if (rules->max_depth)
        X509_STORE_CTX_set_depth(ctx, (int)rules->max_depth);
    if (rules->allow_expired)
        X509_STORE_CTX_set_verify_cb(ctx, accept_expired);
    bool ok = X509_verify_cert(ctx) == 1;
    *out_error = X509_STORE_CTX_get_error(ctx);
    *out_depth = X509_STORE_CTX_get_error_depth(ctx);
    X509_STORE_CTX_free(ctx);
    sk_X509_free(rest);
    return ok;
}
