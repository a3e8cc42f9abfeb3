#include "tls/tls_handshake.h"

#include "tls/tls_stats.h"
#include "tls/tls_transport.h"
#include <openssl/mem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>

static int transport_index;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_once(void)
{
    transport_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    CHECK(transport_index >= 0);
}

void tls_handshake_bind(SSL *ssl, struct tls_transport *t)
{
    pthread_once(&once, init_once);
    CHECK(SSL_set_ex_data(ssl, transport_index, t));
}

struct tls_transport *tls_handshake_transport(const SSL *ssl)
{
    return SSL_get_ex_data(ssl, transport_index);
}

/* --- the peer's certificate ----------------------------------------------------------------- */

/* Parses the chain that the peer sent; 0 if it is too long or not all certificates. */
static size_t parse_chain(const STACK_OF(CRYPTO_BUFFER) * buffers, X509 **chain)
{
    size_t num = buffers ? sk_CRYPTO_BUFFER_num(buffers) : 0;
    if (num > TLS_PEER_CHAIN_MAX)
        return 0;
    for (size_t i = 0; i < num; i++) {
        chain[i] = X509_parse_from_buffer(sk_CRYPTO_BUFFER_value(buffers, i));
        if (chain[i])
            continue;
        while (i > 0)
            X509_free(chain[--i]);
        return 0;
    }
    return num;
}

static void count_failure(struct tls_transport *t)
{
    struct stats_scope *s = t->config->stats;
    switch (t->verdict) {
    case TLS_FAILED_CHAIN:
        tls_stats_inc(s, TLS_FAIL_VERIFY_ERROR);
        return;
    case TLS_FAILED_SAN:
        tls_stats_inc(s, TLS_FAIL_VERIFY_SAN);
        return;
    case TLS_FAILED_HASH:
        tls_stats_inc(s, TLS_FAIL_VERIFY_CERT_HASH);
        return;
    case TLS_VERIFIED:
    case TLS_UNVERIFIED:
        return;
    }
}

static enum ssl_verify_result_t on_verify(SSL *ssl, uint8_t *out_alert)
{
    struct tls_transport *t = tls_handshake_transport(ssl);
    struct tls_verify_result result;
    X509 *chain[TLS_PEER_CHAIN_MAX];
    size_t num = parse_chain(SSL_get0_peer_certificates(ssl), chain);
    if (num == 0) {
        result = (struct tls_verify_result){.verdict = TLS_FAILED_CHAIN,
                                            .alert = SSL_AD_BAD_CERTIFICATE,
                                            .detail = "verify cert failed: malformed or too long "
                                                      "certificate chain"};
    } else {
        struct str name = str_of(t->expected_name);
        tls_verify(t->config->validation, chain, num, t->server, name, &result);
    }
    for (size_t i = 0; i < num; i++)
        X509_free(chain[i]);
    t->verdict = result.verdict;
    if (result.verdict == TLS_VERIFIED || result.verdict == TLS_UNVERIFIED)
        return ssl_verify_ok;
    count_failure(t);
    mem_free(t->detail);
    t->detail = mem_strdup(result.detail);
    *out_alert = result.alert;
    return ssl_verify_invalid;
}

/* --- a server's answers ---------------------------------------------------------------------- */

static int on_alpn_select(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in,
                          unsigned in_len, void *arg)
{
    (void)ssl;
    const struct tls_context *c = arg;
    uint8_t *selected;
    int r = SSL_select_next_proto(&selected, out_len, (const uint8_t *)c->alpn.p,
                                  (unsigned)c->alpn.len, in, in_len);
    *out = selected;
    /* Without overlap the handshake goes on without a protocol, as in Envoy. */
    return r == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* The server_name of a ClientHello; empty if there is none. BoringSSL checks it again afterwards.
 */
static struct str hello_name(const SSL_CLIENT_HELLO *hello)
{
    const uint8_t *p;
    size_t len;
    CBS ext, list, name;
    uint8_t type;
    if (!SSL_early_callback_ctx_extension_get(hello, TLSEXT_TYPE_server_name, &p, &len))
        return STR_NULL;
    CBS_init(&ext, p, len);
    if (!CBS_get_u16_length_prefixed(&ext, &list) || !CBS_get_u8(&list, &type) ||
        type != TLSEXT_NAMETYPE_host_name || !CBS_get_u16_length_prefixed(&list, &name))
        return STR_NULL;
    return str_n((const char *)CBS_data(&name), CBS_len(&name));
}

/* Shows the certificates that are for the wanted name first, ECDSA before RSA among them; BoringSSL
 * takes the first that the client can verify. */
static void order_certificates(SSL *ssl, const struct tls_context *c, struct str name)
{
    SSL_certs_clear(ssl);
    for (int pass = 0; pass < 3; pass++) {
        for (size_t i = 0; i < c->num_certs; i++) {
            const struct tls_cert *cert = c->certs[i];
            bool match = name.len && tls_cert_matches_name(cert, name);
            int place = !match ? 2 : cert->ecdsa ? 0 : 1;
            if (place == pass)
                CHECK(SSL_add1_credential(ssl, cert->credential));
        }
    }
}

static enum ssl_select_cert_result_t on_hello(const SSL_CLIENT_HELLO *hello)
{
    const struct tls_context *c = tls_handshake_transport(hello->ssl)->config->context;
    struct str name = hello_name(hello);
    if (c->require_sni && !name.len)
        return ssl_select_cert_error;
    if (c->num_certs > 1)
        order_certificates(hello->ssl, c, name);
    return ssl_select_cert_success;
}

static int on_ticket(SSL *ssl, uint8_t *key_name, uint8_t *iv, EVP_CIPHER_CTX *cipher,
                     HMAC_CTX *hmac, int encrypt)
{
    const struct tls_context *c = tls_handshake_transport(ssl)->config->context;
    return tls_tickets_crypt(c->tickets, key_name, iv, cipher, hmac, encrypt);
}

/* --- a client's sessions ------------------------------------------------------------------------
 */

static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_transport *t = tls_handshake_transport(ssl);
    if (t->no_session || !t->config->num_sessions)
        return 0;
    tls_config_keep_session(t->config, session);
    return 1;
}

/* --- both --- */

static void on_info(const SSL *ssl, int type, int value)
{
    (void)value;
    /* The last moment at which BoringSSL still knows which certificate it has shown. */
    if (type == SSL_CB_HANDSHAKE_DONE)
        tls_handshake_transport(ssl)->local = tls_cert_of(SSL_get0_selected_credential(ssl));
}

void tls_handshake_install(SSL_CTX *ctx, int mode, const struct tls_params *p)
{
    SSL_CTX_set_custom_verify(ctx, mode, on_verify);
    SSL_CTX_set_info_callback(ctx, on_info);
    if (!p->server) {
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(ctx, on_new_session);
        return;
    }
    SSL_CTX_set_select_certificate_cb(ctx, on_hello);
    if (p->tickets)
        SSL_CTX_set_tlsext_ticket_key_cb(ctx, on_ticket);
}

void tls_handshake_set_alpn(struct tls_context *c)
{
    if (c->alpn.len)
        SSL_CTX_set_alpn_select_cb(c->ssl_ctx, on_alpn_select, c);
}
