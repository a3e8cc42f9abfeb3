#include "tls/tls_verify.h"

#include "base/str.h"
#include <openssl/digest.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>

bool tls_verify_needed(const struct tls_validation *v)
{
    if (!v)
        return false;
    if (v->trust)
        return true;
    for (size_t i = 0; i < v->num_parts; i++) {
        if (v->parts[i]->num_hashes || v->parts[i]->num_spkis)
            return true;
    }
    return false;
}

static void fail(struct tls_verify_result *out, enum tls_verdict verdict, int alert)
{
    out->verdict = verdict;
    out->alert = (uint8_t)alert;
}

static bool check_chain(const struct tls_validation *v, X509 *const *chain, size_t num, bool server,
                        struct tls_verify_result *out)
{
    int error, depth;
    struct tls_chain_rules rules = {.server = server,
                                    .allow_expired = v->allow_expired,
                                    .leaf_crl_only = v->leaf_crl_only,
                                    .max_depth = v->max_depth};
    if (!v->trust || tls_trust_verify(v->trust, chain, num, &rules, &error, &depth))
        return true;
    fail(out, TLS_FAILED_CHAIN, SSL_alert_from_verify_result(error));
    snprintf(out->detail, sizeof(out->detail),
             "verify cert failed: X509_verify_cert: certificate verification error at depth %d: %s",
             depth, X509_verify_cert_error_string(error));
    return false;
}

static bool any_san_matches(const struct tls_validation *v, const struct san *sans, size_t num)
{
    for (size_t p = 0; p < v->num_parts; p++) {
        for (size_t m = 0; m < v->parts[p]->num_sans; m++) {
            for (size_t i = 0; i < num; i++) {
                if (san_matcher_match(&v->parts[p]->sans[m], &sans[i]))
                    return true;
            }
        }
    }
    return false;
}

static void describe_sans(struct tls_verify_result *out, const struct san *sans, size_t num)
{
    size_t len = 0;
    const size_t cap = sizeof(out->detail);
    len += (size_t)snprintf(out->detail, cap,
                            "verify cert failed: SAN matcher, certificate SANs are [");
    for (size_t i = 0; i < num && len < cap - 8; i++) {
        int n = snprintf(out->detail + len, cap - len - 2, "%s%.*s", i ? ", " : "",
                         STR_ARG(sans[i].text));
        len += (size_t)n < cap - len - 2 ? (size_t)n : cap - len - 3;
    }
    snprintf(out->detail + len, cap - len, "]");
}

static bool has_sans(const struct tls_validation *v)
{
    for (size_t i = 0; i < v->num_parts; i++) {
        if (v->parts[i]->num_sans)
            return true;
    }
    return false;
}

static bool is_for_name(const struct san *sans, size_t num, struct str name)
{
    for (size_t i = 0; i < num; i++) {
        if (sans[i].type == SAN_DNS && san_dns_match(sans[i].text, name))
            return true;
        if (sans[i].type == SAN_IP && str_eq(sans[i].text, name))
            return true;
    }
    return false;
}

static bool check_names(const struct tls_validation *v, const X509 *leaf, struct str sni_name,
                        struct tls_verify_result *out)
{
    struct arena a;
    struct san *sans;
    bool listed = has_sans(v);
    if (!listed && !sni_name.len)
        return true;
    arena_init(&a, 1024);
    size_t num = san_list(leaf, &a, &sans);
    bool ok = (!listed || any_san_matches(v, sans, num)) &&
              (!sni_name.len || is_for_name(sans, num, sni_name));
    if (!ok) {
        fail(out, TLS_FAILED_SAN, SSL_AD_CERTIFICATE_UNKNOWN);
        describe_sans(out, sans, num);
    }
    arena_cleanup(&a);
    return ok;
}

static bool digest_listed(const struct tls_digest *list, size_t num, const uint8_t *digest)
{
    for (size_t i = 0; i < num; i++) {
        if (memcmp(list[i].bytes, digest, sizeof(list[i].bytes)) == 0)
            return true;
    }
    return false;
}

static bool spki_digest(const X509 *leaf, uint8_t *out)
{
    uint8_t *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &der);
    if (len <= 0)
        return false;
    SHA256(der, (size_t)len, out);
    OPENSSL_free(der);
    return true;
}

/* A certificate's hash or its key's: one that is listed is enough. */
static bool check_digests(const struct tls_validation *v, const X509 *leaf,
                          struct tls_verify_result *out)
{
    uint8_t hash[EVP_MAX_MD_SIZE], spki[SHA256_DIGEST_LENGTH];
    bool any = false, have_hash = X509_digest(leaf, EVP_sha256(), hash, NULL) == 1;
    bool have_spki = spki_digest(leaf, spki);
    for (size_t i = 0; i < v->num_parts; i++) {
        const struct tls_validation_part *p = v->parts[i];
        any |= p->num_hashes || p->num_spkis;
        if ((have_hash && digest_listed(p->hashes, p->num_hashes, hash)) ||
            (have_spki && digest_listed(p->spkis, p->num_spkis, spki)))
            return true;
    }
    if (!any)
        return true;
    fail(out, TLS_FAILED_HASH, SSL_AD_BAD_CERTIFICATE_HASH_VALUE);
    snprintf(out->detail, sizeof(out->detail), "verify cert failed: cert hash and spki");
    return false;
}

void tls_verify(const struct tls_validation *v, X509 *const *chain, size_t num, bool server,
                struct str sni_name, struct tls_verify_result *out)
{
    *out = (struct tls_verify_result){.verdict = TLS_UNVERIFIED};
    if (!tls_verify_needed(v))
        return;
    if (check_chain(v, chain, num, server, out) && check_names(v, chain[0], sni_name, out) &&
        check_digests(v, chain[0], out)) {
        out->verdict = TLS_VERIFIED;
        return;
    }
    if (v->accept_untrusted)
        out->verdict = TLS_UNVERIFIED;
}
