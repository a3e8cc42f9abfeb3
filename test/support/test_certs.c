#include "test/support/test_certs.h"

#include "base/alloc.h"
#include <openssl/asn1.h>
#include <openssl/base64.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

enum { DAY_S = 86400 };

static EVP_PKEY *make_key(const struct test_cert_options *o)
{
    EVP_PKEY *key = EVP_PKEY_new();
    if (o->rsa || o->weak_rsa) {
        RSA *rsa = RSA_new();
        BIGNUM *e = BN_new();
        CHECK(BN_set_word(e, RSA_F4));
        CHECK(RSA_generate_key_ex(rsa, o->weak_rsa ? 1024 : 2048, e, NULL));
        CHECK(EVP_PKEY_assign_RSA(key, rsa));
        BN_free(e);
        return key;
    }
    EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    CHECK(ec && EC_KEY_generate_key(ec) && EVP_PKEY_assign_EC_KEY(key, ec));
    return key;
}

static void add_extension(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_nconf_nid(NULL, NULL, nid, value);
    CHECK(ext && X509_add_ext(x, ext, -1));
    X509_EXTENSION_free(ext);
}

static void add_raw_dns(X509 *x, const char *p, size_t len)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    CHECK(ASN1_STRING_set(text, p, (ossl_ssize_t)len));
    GENERAL_NAME_set0_value(name, GEN_DNS, text);
    CHECK(sk_GENERAL_NAME_push(names, name));
    CHECK(X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, 0));
    GENERAL_NAMES_free(names);
}

static void set_name(X509_NAME *name, const char *cn)
{
    CHECK(X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const uint8_t *)"Acme, Inc", -1, -1,
                                     0));
    CHECK(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)cn, -1, -1, 0));
}

static char *pem_text(BIO *bio)
{
    const uint8_t *p;
    size_t len;
    CHECK(BIO_mem_contents(bio, &p, &len));
    char *text = mem_strndup((const char *)p, len);
    BIO_free(bio);
    return text;
}

static void write_pem(struct test_cert *c, const struct test_cert *issuer)
{
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(PEM_write_bio_X509(bio, c->x509));
    c->pem = pem_text(bio);
    bio = BIO_new(BIO_s_mem());
    CHECK(PEM_write_bio_PKCS8PrivateKey(bio, c->key, NULL, NULL, 0, NULL, NULL));
    c->key_pem = pem_text(bio);
    bool top = !issuer || X509_check_issued(issuer->x509, issuer->x509) == X509_V_OK;
    size_t size = strlen(c->pem) + (top ? 0 : strlen(issuer->chain_pem)) + 1;
    c->chain_pem = mem_alloc(size);
    snprintf(c->chain_pem, size, "%s%s", c->pem, top ? "" : issuer->chain_pem);
}

static void add_extensions(X509 *x, const struct test_cert_options *o)
{
    add_extension(x, NID_basic_constraints, o->ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    add_extension(x, NID_key_usage,
                  o->ca ? "critical,keyCertSign,cRLSign"
                        : "critical,digitalSignature,keyEncipherment");
    if (o->client_only)
        add_extension(x, NID_ext_key_usage, "clientAuth");
    if (o->server_only)
        add_extension(x, NID_ext_key_usage, "serverAuth");
    if (o->san)
        add_extension(x, NID_subject_alt_name, o->san);
    if (o->raw_dns)
        add_raw_dns(x, o->raw_dns, o->raw_dns_len);
}

struct test_cert *test_cert_new(const struct test_cert_options *o)
{
    static uint32_t serial = 0x1000;
    struct test_cert *c = NEW(struct test_cert);
    bool dated = o->from_days || o->to_days;
    int64_t now = time(NULL);
    c->key = make_key(o);
    c->x509 = X509_new();
    CHECK(X509_set_version(c->x509, X509_VERSION_3));
    CHECK(ASN1_INTEGER_set_uint64(X509_get_serialNumber(c->x509), ++serial));
    ASN1_TIME_set_posix(X509_getm_notBefore(c->x509),
                        now + (int64_t)(dated ? o->from_days : -1) * DAY_S);
    ASN1_TIME_set_posix(X509_getm_notAfter(c->x509),
                        now + (int64_t)(dated ? o->to_days : 30) * DAY_S);
    set_name(X509_get_subject_name(c->x509), o->cn);
    X509 *issuer = o->issuer ? o->issuer->x509 : c->x509;
    CHECK(X509_set_issuer_name(c->x509, X509_get_subject_name(issuer)));
    CHECK(X509_set_pubkey(c->x509, c->key));
    add_extensions(c->x509, o);
    CHECK(X509_sign(c->x509, o->issuer ? o->issuer->key : c->key, EVP_sha256()));
    write_pem(c, o->issuer);
    return c;
}

void test_cert_free(struct test_cert **c)
{
    if (!*c)
        return;
    X509_free((*c)->x509);
    EVP_PKEY_free((*c)->key);
    mem_free((*c)->pem);
    mem_free((*c)->key_pem);
    mem_free((*c)->chain_pem);
    mem_free(*c);
    *c = NULL;
}

char *test_crl(const struct test_cert *issuer, const struct test_cert *revoked)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *t = ASN1_TIME_new();
    CHECK(X509_CRL_set_version(crl, X509_CRL_VERSION_2));
    CHECK(X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->x509)));
    ASN1_TIME_set_posix(t, time(NULL) - DAY_S);
    CHECK(X509_CRL_set1_lastUpdate(crl, t));
    if (revoked) {
        X509_REVOKED *r = X509_REVOKED_new();
        CHECK(X509_REVOKED_set_serialNumber(r, X509_get0_serialNumber(revoked->x509)));
        CHECK(X509_REVOKED_set_revocationDate(r, t));
        CHECK(X509_CRL_add0_revoked(crl, r));
    }
    ASN1_TIME_set_posix(t, time(NULL) + DAY_S);
    CHECK(X509_CRL_set1_nextUpdate(crl, t));
    CHECK(X509_CRL_sign(crl, issuer->key, EVP_sha256()));
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(PEM_write_bio_X509_CRL(bio, crl));
    ASN1_TIME_free(t);
    X509_CRL_free(crl);
    return pem_text(bio);
}

void test_cert_digest(const struct test_cert *c, char out[65])
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    CHECK(X509_digest(c->x509, EVP_sha256(), hash, NULL));
    for (size_t i = 0; i < SHA256_DIGEST_LENGTH; i++)
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
}

void test_cert_spki(const struct test_cert *c, char out[45])
{
    uint8_t hash[SHA256_DIGEST_LENGTH], *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(c->x509), &der);
    CHECK(len > 0);
    SHA256(der, (size_t)len, hash);
    OPENSSL_free(der);
    CHECK(EVP_EncodeBlock((uint8_t *)out, hash, sizeof(hash)) == 44);
}
