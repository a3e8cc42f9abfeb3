#include "tls/tls_cert.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <time.h>

enum { CHAIN_MAX = 32, RSA_BITS_MIN = 2048 };

static struct dedup certs;
static CRYPTO_BUFFER_POOL *pool;
static int cert_index;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_once(void)
{
    pool = CRYPTO_BUFFER_POOL_new();
    CHECK(pool);
    cert_index = SSL_CREDENTIAL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    CHECK(cert_index >= 0);
}

CRYPTO_BUFFER_POOL *tls_buffer_pool(void)
{
    pthread_once(&once, init_once);
    return pool;
}

const char *tls_pem_error(const char *def)
{
    uint32_t err = ERR_peek_last_error();
    const char *reason = err ? ERR_reason_error_string(err) : NULL;
    ERR_clear_error();
    return reason ? reason : def;
}

/* What is being put together. */
struct parts {
    X509 *certs[CHAIN_MAX];
    size_t num;
    EVP_PKEY *key;
};

static void parts_cleanup(struct parts *p)
{
    for (size_t i = 0; i < p->num; i++)
        X509_free(p->certs[i]);
    EVP_PKEY_free(p->key);
}

static bool parse_chain(struct parts *p, struct str pem, struct errors *e)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (ossl_ssize_t)pem.len);
    CHECK(bio);
    X509 *x;
    while (p->num < CHAIN_MAX && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        p->certs[p->num++] = x;
    bool full = p->num == CHAIN_MAX;
    BIO_free(bio);
    uint32_t err = ERR_peek_last_error();
    bool at_end = ERR_GET_LIB(err) == ERR_LIB_PEM && ERR_GET_REASON(err) == PEM_R_NO_START_LINE;
    if (full) {
        errors_add(e, "certificate_chain", "more than %d certificates", CHAIN_MAX - 1);
    } else if (p->num == 0 || (err && !at_end)) {
        errors_add(e, "certificate_chain", "no valid PEM certificate chain: %s",
                   p->num == 0 && at_end ? "no certificate found" : tls_pem_error("malformed"));
    } else {
        ERR_clear_error();
        return true;
    }
    ERR_clear_error();
    return false;
}

static int on_password(char *buf, int size, int rwflag, void *arg)
{
    (void)rwflag;
    const struct str *password = arg;
    if (size < 0 || password->len > (size_t)size)
        return -1;
    memcpy(buf, password->p, password->len);
    return (int)password->len;
}

static bool parse_key(struct parts *p, const struct tls_cert_source *src, struct errors *e)
{
    struct str password = src->password;
    BIO *bio = BIO_new_mem_buf(src->key.p, (ossl_ssize_t)src->key.len);
    CHECK(bio);
    p->key = PEM_read_bio_PrivateKey(bio, NULL, on_password, &password);
    BIO_free(bio);
    if (p->key)
        return true;
    errors_add(e, "private_key", "no valid PEM private key: %s", tls_pem_error("malformed"));
    return false;
}

/* As Envoy: RSA of at least 2048 bits, ECDSA on a NIST curve. */
static bool check_kind(const struct parts *p, struct errors *e)
{
    EVP_PKEY *public = X509_get0_pubkey(p->certs[0]);
    switch (public ? EVP_PKEY_id(public) : EVP_PKEY_NONE) {
    case EVP_PKEY_RSA:
        if (EVP_PKEY_bits(public) >= RSA_BITS_MIN)
            return true;
        errors_add(e, "certificate_chain", "an RSA key of %d bits is too weak; at least %d",
                   EVP_PKEY_bits(public), RSA_BITS_MIN);
        return false;
    case EVP_PKEY_EC:
        switch (EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(public)))) {
        case NID_X9_62_prime256v1:
        case NID_secp384r1:
        case NID_secp521r1:
            return true;
        }
        errors_add(e, "certificate_chain", "only P-256, P-384 and P-521 ECDSA keys are supported");
        return false;
    case EVP_PKEY_ED25519:
        return true;
    default:
        errors_add(e, "certificate_chain", "only RSA, ECDSA and Ed25519 keys are supported");
        return false;
    }
}

static bool check_match(const struct parts *p, struct errors *e)
{
    if (X509_check_private_key(p->certs[0], p->key))
        return true;
    errors_add(e, "private_key", "does not match the certificate: %s",
               tls_pem_error("another key"));
    return false;
}

static void warn_dates(const struct cert_info *leaf, struct errors *e)
{
    int64_t now = time(NULL);
    if (leaf->not_after < now)
        errors_warn(e, "certificate_chain", "%.*s: the certificate has expired",
                    STR_ARG(leaf->subject));
    else if (leaf->not_before > now)
        errors_warn(e, "certificate_chain", "%.*s: the certificate is not yet valid",
                    STR_ARG(leaf->subject));
}

static struct str common_name(const X509 *cert, struct arena *a)
{
    const X509_NAME *name = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    if (at < 0)
        return STR_NULL;
    const ASN1_STRING *s = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
    return arena_str(a,
                     str_n((const char *)ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s)));
}

static void collect_names(struct tls_cert *c, const X509 *leaf)
{
    const struct cert_info *info = &c->chain[0];
    c->uri_sans = arena_alloc(&c->arena, (info->num_sans + 1) * sizeof(*c->uri_sans));
    c->dns_names = arena_alloc(&c->arena, (info->num_sans + 1) * sizeof(*c->dns_names));
    for (size_t i = 0; i < info->num_sans; i++) {
        if (info->sans[i].type == SAN_URI)
            c->uri_sans[c->num_uri_sans++] = info->sans[i].text;
        if (info->sans[i].type == SAN_DNS)
            c->dns_names[c->num_dns_names++] = info->sans[i].text;
    }
    struct str cn = c->num_dns_names ? STR_NULL : common_name(leaf, &c->arena);
    if (cn.len)
        c->dns_names[c->num_dns_names++] = cn;
}

static SSL_CREDENTIAL *make_credential(const struct parts *p, struct errors *e)
{
    CRYPTO_BUFFER *buffers[CHAIN_MAX];
    for (size_t i = 0; i < p->num; i++) {
        uint8_t *der = NULL;
        int len = i2d_X509(p->certs[i], &der);
        CHECK(len > 0);
        buffers[i] = CRYPTO_BUFFER_new(der, (size_t)len, tls_buffer_pool());
        CHECK(buffers[i]);
        OPENSSL_free(der);
    }
    SSL_CREDENTIAL *cred = SSL_CREDENTIAL_new_x509();
    CHECK(cred);
    if (!SSL_CREDENTIAL_set1_cert_chain(cred, buffers, p->num) ||
        !SSL_CREDENTIAL_set1_private_key(cred, p->key)) {
        errors_add(e, NULL, "the certificate cannot be used: %s", tls_pem_error("refused"));
        SSL_CREDENTIAL_free(cred);
        cred = NULL;
    }
    for (size_t i = 0; i < p->num; i++)
        CRYPTO_BUFFER_free(buffers[i]);
    return cred;
}

static struct tls_cert *build(const struct parts *p, const struct tls_cert_source *src,
                              struct errors *e)
{
    SSL_CREDENTIAL *cred = make_credential(p, e);
    if (!cred)
        return NULL;
    struct tls_cert *c = NEW(struct tls_cert);
    refcount_init(&c->refs);
    arena_init(&c->arena, 512);
    c->credential = cred;
    c->ecdsa = EVP_PKEY_id(p->key) == EVP_PKEY_EC;
    c->num_chain = p->num;
    c->chain = arena_zalloc(&c->arena, p->num * sizeof(*c->chain));
    for (size_t i = 0; i < p->num; i++)
        cert_info_read(&c->chain[i], p->certs[i], src->chain_path, &c->arena);
    collect_names(c, p->certs[0]);
    SSL_CREDENTIAL_set_ex_data(cred, cert_index, c);
    return c;
}

struct tls_cert *tls_cert_new(const struct tls_cert_source *src, struct errors *e)
{
    struct dedup_key key;
    struct dedup_hash h;
    tls_buffer_pool();
    dedup_hash_init(&h);
    dedup_hash_str(&h, src->chain);
    dedup_hash_str(&h, src->key);
    dedup_hash_str(&h, src->password);
    dedup_hash_str(&h, src->chain_path);
    dedup_hash_final(&h, &key);
    struct dedup_entry *known = dedup_find(&certs, &key);
    if (known)
        return tls_cert_ref(CONTAINER_OF(known, struct tls_cert, entry));

    struct parts p = {.num = 0};
    struct tls_cert *c = NULL;
    bool chain_ok = parse_chain(&p, src->chain, e) && check_kind(&p, e);
    bool key_ok = parse_key(&p, src, e);
    if (chain_ok && key_ok && check_match(&p, e))
        c = build(&p, src, e);
    if (c) {
        warn_dates(&c->chain[0], e);
        dedup_add(&certs, &c->entry, &key);
    }
    parts_cleanup(&p);
    return c;
}

struct tls_cert *tls_cert_ref(struct tls_cert *c)
{
    if (c)
        refcount_inc(&c->refs);
    return c;
}

void tls_cert_unref(struct tls_cert *c)
{
    if (!c || !refcount_dec(&c->refs))
        return;
    dedup_remove(&certs, &c->entry);
    SSL_CREDENTIAL_free(c->credential);
    arena_cleanup(&c->arena);
    mem_free(c);
}

bool tls_cert_matches_name(const struct tls_cert *c, struct str host)
{
    for (size_t i = 0; i < c->num_dns_names; i++) {
        if (san_dns_match(c->dns_names[i], host))
            return true;
    }
    return false;
}

const struct tls_cert *tls_cert_of(const SSL_CREDENTIAL *credential)
{
    return credential ? SSL_CREDENTIAL_get_ex_data(credential, cert_index) : NULL;
}
