#include "tls/tls_config.h"

#include <openssl/ssl.h>

static struct mailbox *main_mailbox;

void tls_set_main(struct mailbox *main)
{
    main_mailbox = main;
}

/* A session may be resumed where the peer would be judged in the same way, by a server of the same
 * names; not what else is equal: tickets outlive the rotation of certificates and of their own
 * keys. */
static void hash_session_context(struct tls_config *c)
{
    struct dedup_hash h;
    struct dedup_key key;
    dedup_hash_init(&h);
    dedup_hash_u64(&h, (uint64_t)SSL_CTX_get_verify_mode(c->context->ssl_ctx));
    dedup_hash_u64(&h, c->validation != NULL);
    if (c->validation)
        dedup_hash_key(&h, &c->validation->key);
    for (size_t i = 0; i < c->context->num_certs; i++) {
        const struct tls_cert *cert = c->context->certs[i];
        dedup_hash_str(&h, cert->chain[0].subject);
        for (size_t j = 0; j < cert->chain[0].num_sans; j++)
            dedup_hash_str(&h, cert->chain[0].sans[j].text);
    }
    dedup_hash_final(&h, &key);
    memcpy(c->session_context, key.bytes, sizeof(c->session_context));
}

struct tls_config *tls_config_new(const struct tls_config_parts *parts)
{
    struct tls_config *c = NEW(struct tls_config);
    refcount_init(&c->refs);
    c->context = tls_context_ref(parts->context);
    c->validation = tls_validation_ref(parts->validation);
    c->stats = parts->stats;
    c->sni = parts->sni && *parts->sni ? mem_strdup(parts->sni) : NULL;
    c->sni_must_match = parts->sni_must_match;
    c->num_sessions = parts->max_sessions < TLS_SESSIONS_MAX ? parts->max_sessions
                                                             : TLS_SESSIONS_MAX;
    /* A session that was let through unjudged must not come back as a verified one. */
    if (c->validation && c->validation->accept_untrusted)
        c->num_sessions = 0;
    if (c->num_sessions)
        c->sessions = mem_zalloc(c->num_sessions * sizeof(*c->sessions));
    hash_session_context(c);
    return c;
}

static void config_free(void *arg)
{
    struct tls_config *c = arg;
    for (unsigned i = 0; i < c->num_sessions; i++)
        SSL_SESSION_free(atomic_load_explicit(&c->sessions[i], memory_order_relaxed));
    tls_context_unref(c->context);
    tls_validation_unref(c->validation);
    mem_free(c->sessions);
    mem_free(c->sni);
    mem_free(c);
}

struct tls_config *tls_config_ref(struct tls_config *c)
{
    if (c)
        refcount_inc(&c->refs);
    return c;
}

void tls_config_unref(struct tls_config *c)
{
    if (!c || !refcount_dec(&c->refs))
        return;
    if (!main_mailbox) {
        config_free(c);
        return;
    }
    c->free_message = (struct message){.deliver = config_free, .arg = c};
    mailbox_send(main_mailbox, &c->free_message);
}

SSL_SESSION *tls_config_take_session(struct tls_config *c)
{
    for (unsigned i = 0; i < c->num_sessions; i++) {
        SSL_SESSION *s = atomic_exchange_explicit(&c->sessions[i], NULL, memory_order_acquire);
        if (!s)
            continue;
        if (!SSL_SESSION_should_be_single_use(s)) {
            SSL_SESSION_up_ref(s);
            tls_config_keep_session(c, s);
        }
        return s;
    }
    return NULL;
}

void tls_config_keep_session(struct tls_config *c, SSL_SESSION *session)
{
    for (unsigned i = 0; i < c->num_sessions; i++) {
        SSL_SESSION *none = NULL;
        if (atomic_compare_exchange_strong_explicit(&c->sessions[i], &none, session,
                                                    memory_order_release, memory_order_relaxed))
            return;
    }
    if (c->num_sessions)
        session = atomic_exchange_explicit(&c->sessions[0], session, memory_order_acq_rel);
    SSL_SESSION_free(session);
}
