#include "tls/tls_peer.h"

#include "base/list.h"
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

static struct str hex_digest(const CRYPTO_BUFFER *der, struct arena *a)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t hash[SHA256_DIGEST_LENGTH];
    SHA256(CRYPTO_BUFFER_data(der), CRYPTO_BUFFER_len(der), hash);
    char *to = arena_bytes(a, 2 * sizeof(hash));
    for (size_t i = 0; i < sizeof(hash); i++) {
        to[2 * i] = digits[hash[i] >> 4];
        to[2 * i + 1] = digits[hash[i] & 15];
    }
    return str_n(to, 2 * sizeof(hash));
}

/* PEM with what is not allowed in a header's value percent-encoded, as Envoy's
 * x-forwarded-client-cert has it. */
static struct str url_encode_pem(struct str pem, struct arena *a)
{
    char *to = arena_bytes(a, 3 * pem.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < pem.len; i++) {
        const char *code = NULL;
        switch (pem.p[i]) {
        case '\n':
            code = "%0A";
            break;
        case ' ':
            code = "%20";
            break;
        case '+':
            code = "%2B";
            break;
        case '/':
            code = "%2F";
            break;
        case '=':
            code = "%3D";
            break;
        }
        if (code) {
            memcpy(to + len, code, 3);
            len += 3;
        } else {
            to[len++] = pem.p[i];
        }
    }
    return str_n(to, len);
}

static struct str pem_of(const X509 *leaf, struct arena *a)
{
    const uint8_t *p;
    size_t len;
    struct str s = STR_NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(bio);
    if (PEM_write_bio_X509(bio, leaf) && BIO_mem_contents(bio, &p, &len))
        s = url_encode_pem(str_n((const char *)p, len), a);
    BIO_free(bio);
    return s;
}

struct str tls_peer_chain_pem(const struct tls_peer *p, struct arena *a)
{
    const STACK_OF(CRYPTO_BUFFER) *chain = p->chain;
    struct str all = STR("");
    for (size_t i = 0; chain && i < sk_CRYPTO_BUFFER_num(chain); i++) {
        X509 *cert = X509_parse_from_buffer(sk_CRYPTO_BUFFER_value(chain, i));
        if (!cert)
            continue;
        struct str one = pem_of(cert, a);
        X509_free(cert);
        all = all.len ? arena_printf(a, "%.*s%.*s", STR_ARG(all), STR_ARG(one)) : one;
    }
    return all;
}

static size_t names_of(const struct san *sans, size_t num, enum san_type type, struct arena *a,
                       const struct str **out)
{
    struct str *list = arena_alloc(a, (num + 1) * sizeof(*list));
    size_t n = 0;
    for (size_t i = 0; i < num; i++) {
        if (sans[i].type == type)
            list[n++] = sans[i].text;
    }
    *out = list;
    return n;
}

/* --- identities: certificates of peers, once a thread ------------------------------------------
 */

struct tls_identity {
    struct list link;
    unsigned users;           /* connections of this thread */
    const CRYPTO_BUFFER *der; /* a reference; the pool holds equal certificates once */
    struct arena arena;
    struct tls_peer peer; /* the fields that come from the certificate */
};

enum { IDENTITY_BUCKETS = 64 };

static _Thread_local struct list identities[IDENTITY_BUCKETS];

static struct list *bucket_of(const CRYPTO_BUFFER *der)
{
    struct list *b = &identities[((uintptr_t)der >> 4) % IDENTITY_BUCKETS];
    if (!b->next)
        list_init(b);
    return b;
}

static void read_certificate(struct tls_peer *peer, const CRYPTO_BUFFER *der, struct arena *a)
{
    struct san *sans;
    X509 *leaf = X509_parse_from_buffer(der);
    if (!leaf)
        return;
    size_t num = san_list(leaf, a, &sans);
    peer->num_uri_sans = names_of(sans, num, SAN_URI, a, &peer->uri_sans);
    peer->num_dns_sans = names_of(sans, num, SAN_DNS, a, &peer->dns_sans);
    peer->subject = cert_name(X509_get_subject_name(leaf), a);
    peer->issuer = cert_name(X509_get_issuer_name(leaf), a);
    peer->serial = cert_serial(leaf, a);
    peer->fingerprint_sha256 = hex_digest(der, a);
    peer->cert_pem_urlencoded = pem_of(leaf, a);
    X509_free(leaf);
}

static struct tls_identity *identity_get(const CRYPTO_BUFFER *der)
{
    struct list *bucket = bucket_of(der);
    LIST_FOREACH(it, bucket) {
        struct tls_identity *known = CONTAINER_OF(it, struct tls_identity, link);
        if (known->der == der) {
            known->users++;
            return known;
        }
    }
    struct tls_identity *id = NEW(struct tls_identity);
    id->users = 1;
    id->der = CRYPTO_BUFFER_dup_ref(der);
    arena_init(&id->arena, 4096);
    read_certificate(&id->peer, der, &id->arena);
    list_push_tail(bucket, &id->link);
    return id;
}

static void identity_put(struct tls_identity *id)
{
    if (!id || --id->users)
        return;
    list_remove(&id->link);
    CRYPTO_BUFFER_free((CRYPTO_BUFFER *)id->der);
    arena_cleanup(&id->arena);
    mem_free(id);
}

/* --- the peer of a connection --------------------------------------------------------------------
 */

static void read_session(struct tls_peer *peer, const SSL *ssl)
{
    const uint8_t *alpn;
    unsigned alpn_len;
    SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
    peer->alpn = str_n((const char *)alpn, alpn_len);
    peer->version = str_of(SSL_get_version(ssl));
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    peer->cipher = str_of(cipher ? SSL_CIPHER_get_name(cipher) : NULL);
    peer->sni = str_of(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));
}

struct tls_peer_info *tls_peer_info_new(const struct tls_transport *t)
{
    struct tls_peer_info *info = NEW(struct tls_peer_info);
    struct tls_peer *peer = &info->peer;
    const STACK_OF(CRYPTO_BUFFER) *chain = SSL_get0_peer_certificates(t->ssl);
    if (chain && sk_CRYPTO_BUFFER_num(chain) > 0) {
        info->identity = identity_get(sk_CRYPTO_BUFFER_value(chain, 0));
        *peer = info->identity->peer;
        peer->verified = t->verdict == TLS_VERIFIED;
        peer->chain = chain;
    }
    if (t->local) {
        peer->local_uri_sans = t->local->uri_sans;
        peer->num_local_uri_sans = t->local->num_uri_sans;
        peer->local_subject = t->local->chain[0].subject;
    }
    read_session(peer, t->ssl);
    return info;
}

void tls_peer_info_free(struct tls_peer_info **p)
{
    if (!*p)
        return;
    identity_put((*p)->identity);
    mem_free(*p);
    *p = NULL;
}
