#include "tls/tls_transport.h"

#include "base/obj.h"
#include "tls/tls_failure.h"
#include "tls/tls_handshake.h"
#include "tls/tls_peer.h"
#include "tls/tls_stats.h"
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

enum { TLS_MAGIC = 0x544c5354, RECORD = 16384, READ_ROOM = 2048 };

static struct tls_transport *cast(struct transport *base)
{
    struct tls_transport *t = CONTAINER_OF(base, struct tls_transport, base);
    CHECK(t->magic == TLS_MAGIC);
    return t;
}

/* --- results --------------------------------------------------------------------------------- */

static void begin(struct tls_transport *t)
{
    ERR_clear_error();
    tls_bio_begin(&t->bio);
}

static void count_failure(struct tls_transport *t, const struct tls_failure *f)
{
    if (f->no_cert)
        tls_stats_inc(t->config->stats, TLS_FAIL_VERIFY_NO_CERT);
    else if (f->protocol && !f->verify)
        tls_stats_inc(t->config->stats, TLS_CONNECTION_ERROR);
}

/* The connection is broken: what is known of the reason becomes text, once. */
static enum io_status fail(struct tls_transport *t)
{
    struct tls_failure f;
    if (!t->failed) {
        t->failed = true;
        t->failure = tls_failure_text(t->bio.err, str_of(t->detail), &f);
        if (!t->failure)
            t->failure = mem_strdup(t->established ? "TLS_error:_closed_without_close_notify"
                                                   : "TLS_error:_closed_during_the_handshake");
        count_failure(t, &f);
    }
    ERR_clear_error();
    /* An alert may be on its way; whether it leaves does not matter any more. */
    (void)!tls_bio_flush(&t->bio);
    errno = t->bio.err;
    return IO_ERROR;
}

/* What a result of SSL_do_handshake, SSL_read, SSL_write or SSL_shutdown means: the one place. */
static enum io_status status_of(struct tls_transport *t, int result)
{
    if (result > 0)
        return IO_OK;
    switch (SSL_get_error(t->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return IO_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return IO_EOF;
    default:
        /* Also the end of the stream without close_notify: a truncation. */
        return fail(t);
    }
}

/* Ends a call: sends, keeps what is left over. *out_sent says how sending went. */
static enum io_status end(struct tls_transport *t, enum io_status st, enum io_status *out_sent)
{
    enum io_status sent = tls_bio_end(&t->bio);
    t->base.bytes_in = t->bio.bytes_in;
    t->base.bytes_out = t->bio.bytes_out;
    t->base.pending = t->bio.in_len || SSL_pending(t->ssl);
    *out_sent = sent;
    if (st == IO_ERROR)
        errno = t->bio.err;
    return st;
}

/* The socket takes nothing any more. What the peer sent before is still worth reading: only the
 * next write will fail. */
static enum io_status fail_write(struct tls_transport *t)
{
    struct tls_failure f;
    if (!t->failure)
        t->failure = tls_failure_text(t->bio.err, STR_NULL, &f);
    errno = t->bio.err;
    return IO_ERROR;
}

/* --- handshake ------------------------------------------------------------------------------- */

static void count_handshake(struct tls_transport *t)
{
    struct stats_scope *s = t->config->stats;
    uint16_t sigalg = SSL_get_peer_signature_algorithm(t->ssl);
    if (!s)
        return;
    tls_stats_inc(s, TLS_HANDSHAKE);
    if (SSL_session_reused(t->ssl))
        tls_stats_inc(s, TLS_SESSION_REUSED);
    if (!SSL_get0_peer_certificates(t->ssl))
        tls_stats_inc(s, TLS_NO_CERTIFICATE);
    tls_stats_name(s, "ssl.ciphers.", SSL_get_cipher_name(t->ssl));
    tls_stats_name(s, "ssl.versions.", SSL_get_version(t->ssl));
    tls_stats_name(s, "ssl.curves.", SSL_get_group_name(SSL_get_group_id(t->ssl)));
    tls_stats_name(s, "ssl.sigalgs.", SSL_get_signature_algorithm_name(sigalg, 1));
}

static void established(struct tls_transport *t)
{
    t->established = true;
    /* A resumed session was judged when it was made: under the same rules, or it would not have
     * been resumed (session_context; a client's sessions belong to one version of the
     * configuration). */
    if (SSL_session_reused(t->ssl) && tls_verify_needed(t->config->validation))
        t->verdict = TLS_VERIFIED;
    if (!t->local && t->config->context->num_certs && (t->server || SSL_session_reused(t->ssl)))
        t->local = t->config->context->certs[0];
    count_handshake(t);
}

static enum io_status on_handshake(struct transport *base)
{
    struct tls_transport *t = cast(base);
    if (t->failed)
        return IO_ERROR;
    begin(t);
    enum io_status st = IO_OK, sent;
    if (!t->established) {
        st = status_of(t, SSL_do_handshake(t->ssl));
        if (st == IO_EOF)
            st = fail(t);
        if (st == IO_OK)
            established(t);
    }
    st = end(t, st, &sent);
    if (sent == IO_ERROR && st != IO_ERROR)
        return fail(t);
    /* The peer may wait for our last flight before it says anything. */
    return st == IO_OK && sent == IO_AGAIN ? IO_AGAIN : st;
}

/* --- payload --------------------------------------------------------------------------------- */

static bool more_to_read(const struct tls_transport *t)
{
    return t->bio.in_len || !t->bio.drained || SSL_pending(t->ssl);
}

static enum io_status on_read(struct transport *base, struct buffer *in, size_t max)
{
    struct tls_transport *t = cast(base);
    size_t got = 0;
    enum io_status st = IO_OK, sent;
    if (t->failed)
        return IO_ERROR;
    begin(t);
    while (st == IO_OK && got < max) {
        if (!more_to_read(t)) {
            st = IO_AGAIN;
            break;
        }
        size_t room;
        char *to = buffer_reserve(in, READ_ROOM, &room);
        if (room > max - got)
            room = max - got;
        int n = SSL_read(t->ssl, to, (int)room);
        buffer_commit(in, n > 0 ? (size_t)n : 0);
        got += n > 0 ? (size_t)n : 0;
        st = status_of(t, n);
    }
    return end(t, st, &sent);
}

/* The next bytes of `out` for one record: in place if the block holds enough, else gathered. */
static struct str next_record(const struct buffer *out, char *gather)
{
    struct str front = buffer_peek(out);
    if (front.len >= RECORD || front.len == out->len)
        return str_n(front.p, front.len < RECORD ? front.len : RECORD);
    return str_n(gather, buffer_copy_out(out, 0, gather, RECORD));
}

/* Encrypts from the front of `out` until the socket takes no more. */
static enum io_status write_records(struct tls_transport *t, struct buffer *out)
{
    char gather[RECORD];
    while (out->len) {
        struct str rec = next_record(out, gather);
        int n = SSL_write(t->ssl, rec.p, (int)rec.len);
        if (n <= 0)
            return status_of(t, n);
        bool last = out->len == (size_t)n;
        if (last || tls_bio_out_room(&t->bio) < TLS_BIO_ROOM) {
            enum io_status st = tls_bio_flush(&t->bio);
            if (st == IO_ERROR)
                return fail_write(t);
            if (st == IO_AGAIN) {
                /* One byte stays in `out` until the socket has taken the rest, so that its owner
                 * sees that something is still to be sent. */
                buffer_drain(out, (size_t)n - 1);
                t->owed = true;
                return IO_AGAIN;
            }
        }
        buffer_drain(out, (size_t)n);
    }
    return IO_OK;
}

static enum io_status on_write(struct transport *base, struct buffer *out)
{
    struct tls_transport *t = cast(base);
    if (t->failed)
        return IO_ERROR;
    begin(t);
    enum io_status st = tls_bio_flush(&t->bio), sent;
    if (st == IO_ERROR)
        st = fail_write(t);
    if (st == IO_OK && t->owed) {
        buffer_drain(out, 1);
        t->owed = false;
    }
    if (st == IO_OK)
        st = write_records(t, out);
    return end(t, st, &sent);
}

static enum io_status on_shut(struct transport *base)
{
    struct tls_transport *t = cast(base);
    begin(t);
    if (t->established && !t->failed && !t->shut_sent) {
        t->shut_sent = true;
        /* 0 means that only our direction has ended, which is all that is wanted. */
        (void)!SSL_shutdown(t->ssl);
        ERR_clear_error();
    }
    enum io_status sent;
    (void)!end(t, IO_OK, &sent);
    if (sent != IO_OK)
        return sent;
    return shutdown(t->base.fd, SHUT_WR) == 0 ? IO_OK : IO_ERROR;
}

/* --- the rest ----------------------------------------------------------------------------------
 */

static const struct tls_peer *on_peer(struct transport *base)
{
    struct tls_transport *t = cast(base);
    if (!t->established)
        return NULL;
    if (!t->peer)
        t->peer = tls_peer_info_new(t);
    return &t->peer->peer;
}

static struct str on_failure(struct transport *base)
{
    return str_of(cast(base)->failure);
}

static void on_free(struct transport *base)
{
    struct tls_transport *t = cast(base);
    t->magic = 0;
    tls_peer_info_free(&t->peer);
    SSL_free(t->ssl);
    tls_bio_cleanup(&t->bio);
    tls_config_unref(t->config);
    mem_free(t->failure);
    mem_free(t->detail);
    mem_free(t->expected_name);
    mem_free(t);
}

static const struct transport_ops tls_ops = {
    .name = "tls",
    .handshake = on_handshake,
    .read = on_read,
    .write = on_write,
    .shut = on_shut,
    .peer = on_peer,
    .failure = on_failure,
    .free = on_free,
};

/* --- opening ------------------------------------------------------------------------------------
 */

static void set_alpn(struct tls_transport *t, const struct str *names, size_t num)
{
    uint8_t wire[1024];
    size_t len = 0;
    for (size_t i = 0; i < num; i++) {
        struct str name = names[i];
        if (name.len == 0 || name.len > 255 || len + 1 + name.len > sizeof(wire))
            continue;
        wire[len++] = (uint8_t)name.len;
        memcpy(wire + len, name.p, name.len);
        len += name.len;
    }
    if (len)
        CHECK(SSL_set_alpn_protos(t->ssl, wire, len) == 0);
}

static void set_sni(struct tls_transport *t, const char *sni)
{
    /* A name that cannot be sent (empty, too long) is left out; what is expected of the peer's
     * certificate does not change by it. */
    if (!SSL_set_tlsext_host_name(t->ssl, sni))
        ERR_clear_error();
    if (t->config->sni_must_match)
        t->expected_name = mem_strdup(sni);
}

static void open_client(struct tls_transport *t, const struct transport_options *opts)
{
    const struct tls_config *c = t->config;
    SSL_set_connect_state(t->ssl);
    if (opts && opts->sni_override.len) {
        char *sni = mem_strndup(opts->sni_override.p, opts->sni_override.len);
        /* Sessions are kept for the configured name. */
        t->no_session = !c->sni || strcmp(sni, c->sni) != 0;
        set_sni(t, sni);
        mem_free(sni);
    } else if (c->sni) {
        set_sni(t, c->sni);
    }
    if (opts && opts->num_alpn_override)
        set_alpn(t, opts->alpn_override, opts->num_alpn_override);
    else if (opts && opts->num_alpn_fallback && !c->context->alpn.len)
        set_alpn(t, opts->alpn_fallback, opts->num_alpn_fallback);
    SSL_SESSION *session = t->no_session ? NULL : tls_config_take_session(t->config);
    if (session) {
        SSL_set_session(t->ssl, session);
        SSL_SESSION_free(session);
    }
}

struct transport *tls_transport_open(struct tls_config *config, int fd,
                                     const struct transport_options *opts)
{
    struct tls_transport *t = NEW(struct tls_transport);
    t->base.ops = &tls_ops;
    t->base.fd = fd;
    t->magic = TLS_MAGIC;
    t->config = tls_config_ref(config);
    t->server = config->context->server;
    t->verdict = TLS_UNVERIFIED;
    t->ssl = SSL_new(config->context->ssl_ctx);
    CHECK(t->ssl);
    tls_handshake_bind(t->ssl, t);
    tls_bio_init(&t->bio, fd, t->ssl);
    SSL_set_shed_handshake_config(t->ssl, 1);
    if (t->server) {
        SSL_set_accept_state(t->ssl);
        CHECK(SSL_set_session_id_context(t->ssl, config->session_context,
                                         sizeof(config->session_context)));
    } else {
        open_client(t, opts);
    }
    return &t->base;
}
