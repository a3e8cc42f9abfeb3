#include "tls/tls_context.h"

#include "tls/tls_handshake.h"
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>

/* Envoy's defaults, for servers and clients. */
#define DEFAULT_CIPHERS                                                                            \
    "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]:"                               \
    "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]:"                                   \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
#define DEFAULT_GROUPS "X25519:P-256"

static struct dedup contexts;
static struct list all = LIST_INIT(all);
static int context_index;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_once(void)
{
    context_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    CHECK(context_index >= 0);
}

struct tls_context *tls_context_of(const SSL_CTX *ssl_ctx)
{
    return SSL_CTX_get_ex_data(ssl_ctx, context_index);
}

static void hash_params(const struct tls_params *p, struct dedup_key *out)
{
    struct dedup_hash h;
    dedup_hash_init(&h);
    dedup_hash_u64(&h, p->server | p->ask_client << 1 | p->require_client << 2 |
                           p->require_sni << 3 | p->prefer_client_ciphers << 4 |
                           p->no_tickets << 5);
    dedup_hash_u64(&h, p->min_version);
    dedup_hash_u64(&h, p->max_version);
    dedup_hash_u64(&h, p->session_timeout_s);
    dedup_hash_str(&h, p->ciphers);
    dedup_hash_str(&h, p->groups);
    dedup_hash_str(&h, p->sigalgs);
    dedup_hash_str(&h, p->alpn);
    dedup_hash_u64(&h, p->num_certs);
    for (size_t i = 0; i < p->num_certs; i++)
        dedup_hash_key(&h, &p->certs[i]->entry.key);
    dedup_hash_u64(&h, p->trust != NULL);
    if (p->trust)
        dedup_hash_key(&h, &p->trust->entry.key);
    dedup_hash_u64(&h, p->tickets != NULL);
    if (p->tickets)
        dedup_hash_key(&h, &p->tickets->key);
    dedup_hash_final(&h, out);
}

static const char *or_default(struct str s, const char *def)
{
    return s.len ? s.p : def;
}

static bool set_params(SSL_CTX *ctx, const struct tls_params *p, struct errors *e)
{
    size_t before = e->num_errors;
    if (!SSL_CTX_set_min_proto_version(ctx, p->min_version))
        errors_add(e, "tls_params.tls_minimum_protocol_version", "is not supported");
    if (!SSL_CTX_set_max_proto_version(ctx, p->max_version))
        errors_add(e, "tls_params.tls_maximum_protocol_version", "is not supported");
    if (!SSL_CTX_set_strict_cipher_list(ctx, or_default(p->ciphers, DEFAULT_CIPHERS)))
        errors_add(e, "tls_params.cipher_suites", "%s", tls_pem_error("refused"));
    if (!SSL_CTX_set1_groups_list(ctx, or_default(p->groups, DEFAULT_GROUPS)))
        errors_add(e, "tls_params.ecdh_curves", "%s", tls_pem_error("refused"));
    if (p->sigalgs.len && !SSL_CTX_set1_sigalgs_list(ctx, p->sigalgs.p))
        errors_add(e, "tls_params.signature_algorithms", "%s", tls_pem_error("refused"));
    return e->num_errors == before;
}

static void set_server(SSL_CTX *ctx, const struct tls_params *p)
{
    /* Stateless tickets only: a session cache would be one more thing that grows with the peers. */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL);
    if (p->no_tickets)
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    if (!p->prefer_client_ciphers)
        SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
    if (p->session_timeout_s) {
        uint32_t s = p->session_timeout_s < UINT32_MAX ? (uint32_t)p->session_timeout_s
                                                       : UINT32_MAX;
        SSL_CTX_set_timeout(ctx, s);
        SSL_CTX_set_session_psk_dhe_timeout(ctx, s);
    }
    if (!p->ask_client || !p->trust)
        return;
    STACK_OF(CRYPTO_BUFFER) *names = sk_CRYPTO_BUFFER_new_null();
    CHECK(names);
    for (size_t i = 0; i < sk_CRYPTO_BUFFER_num(p->trust->ca_names); i++) {
        CRYPTO_BUFFER *name = sk_CRYPTO_BUFFER_value(p->trust->ca_names, i);
        CRYPTO_BUFFER_up_ref(name);
        CHECK(sk_CRYPTO_BUFFER_push(names, name));
    }
    SSL_CTX_set0_client_CAs(ctx, names);
}

static SSL_CTX *make_ssl_ctx(const struct tls_params *p, struct errors *e)
{
    /* Certificates as buffers: BoringSSL then keeps no parsed X509 for each connection. */
    SSL_CTX *ctx = SSL_CTX_new(TLS_with_buffers_method());
    CHECK(ctx);
    if (!set_params(ctx, p, e)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    SSL_CTX_set1_buffer_pool(ctx, tls_buffer_pool());
    for (size_t i = 0; i < p->num_certs; i++)
        CHECK(SSL_CTX_add1_credential(ctx, p->certs[i]->credential));
    if (p->server)
        set_server(ctx, p);
    else if (p->alpn.len)
        CHECK(SSL_CTX_set_alpn_protos(ctx, (const uint8_t *)p->alpn.p, p->alpn.len) == 0);
    int mode = SSL_VERIFY_NONE;
    if (!p->server || p->ask_client || p->require_client)
        mode = SSL_VERIFY_PEER | (p->require_client ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
    tls_handshake_install(ctx, mode, p);
    return ctx;
}

struct tls_context *tls_context_new(const struct tls_params *p, struct errors *e)
{
    struct dedup_key key;
    pthread_once(&once, init_once);
    hash_params(p, &key);
    struct dedup_entry *known = dedup_find(&contexts, &key);
    if (known)
        return tls_context_ref(CONTAINER_OF(known, struct tls_context, entry));
    SSL_CTX *ssl_ctx = make_ssl_ctx(p, e);
    if (!ssl_ctx)
        return NULL;
    struct tls_context *c = NEW(struct tls_context);
    refcount_init(&c->refs);
    arena_init(&c->arena, 128);
    c->ssl_ctx = ssl_ctx;
    c->server = p->server;
    c->require_sni = p->require_sni;
    c->alpn = arena_str(&c->arena, p->alpn);
    c->trust = tls_trust_ref(p->trust);
    c->tickets = tls_tickets_ref(p->tickets);
    c->num_certs = p->num_certs;
    c->certs = arena_alloc(&c->arena, (p->num_certs + 1) * sizeof(struct tls_cert *));
    for (size_t i = 0; i < p->num_certs; i++)
        c->certs[i] = tls_cert_ref(p->certs[i]);
    SSL_CTX_set_ex_data(ssl_ctx, context_index, c);
    if (c->server)
        tls_handshake_set_alpn(c);
    dedup_add(&contexts, &c->entry, &key);
    list_push_tail(&all, &c->link);
    return c;
}

struct tls_context *tls_context_ref(struct tls_context *c)
{
    if (c)
        refcount_inc(&c->refs);
    return c;
}

void tls_context_unref(struct tls_context *c)
{
    if (!c || !refcount_dec(&c->refs))
        return;
    dedup_remove(&contexts, &c->entry);
    list_remove(&c->link);
    SSL_CTX_free(c->ssl_ctx);
    for (size_t i = 0; i < c->num_certs; i++)
        tls_cert_unref(c->certs[i]);
    tls_trust_unref(c->trust);
    tls_tickets_unref(c->tickets);
    arena_cleanup(&c->arena);
    mem_free(c);
}

bool tls_context_check_list(enum tls_list list, const char *name)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_with_buffers_method());
    int ok = 0;
    CHECK(ctx);
    switch (list) {
    case TLS_LIST_CIPHERS:
        ok = SSL_CTX_set_strict_cipher_list(ctx, name);
        break;
    case TLS_LIST_GROUPS:
        ok = SSL_CTX_set1_groups_list(ctx, name);
        break;
    case TLS_LIST_SIGALGS:
        ok = SSL_CTX_set1_sigalgs_list(ctx, name);
        break;
    }
    SSL_CTX_free(ctx);
    ERR_clear_error();
    return ok == 1;
}

void tls_context_foreach(void (*fn)(void *arg, const struct tls_context *c), void *arg)
{
    LIST_FOREACH(it, &all) {
        struct tls_context *c = CONTAINER_OF(it, struct tls_context, link);
        if (c->num_current)
            fn(arg, c);
    }
}
