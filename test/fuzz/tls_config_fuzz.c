// covers: tls/tls_secret.c tls/tls_settings.c tls/tls_validation.c tls/san_match.c
// covers: tls/tls_tickets.c tls/tls_cert.c tls/tls_trust.c
/* Serialized Secrets and TLS contexts, as a control plane sends them: the first byte picks which.
 * What is accepted is built into a version, opened, and given the rest of the input as a peer's
 * bytes. */
#include "api-protos/message.h"
#include "test/support/tls_pair.h"
#include "tls/tls_settings.h"
#include "tls/tls_verify.h"
#include <errno.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct loop *loop;
static struct tls_secrets *secrets;

/* A peer for what is accepted: it trusts nobody and everybody. */
static struct test_cert *peer_cert;
static struct tls_config *peers[2]; /* client, server */

static void init_peers(void)
{
    peer_cert = test_cert_new(&(struct test_cert_options){
        .cn = "peer", .san = "URI:spiffe://td/a,DNS:x.example,email:a@b,IP:10.0.0.1"});
    for (int server = 0; server < 2; server++)
        peers[server] = tls_side_config(&(struct tls_side){.chain = peer_cert->pem,
                                                           .key = peer_cert->key_pem,
                                                           .alpn = "h2,http/1.1",
                                                           .max_sessions = 1},
                                        server);
}

static void open_once(struct tls_config *c, const uint8_t *bytes, size_t len)
{
    struct tls_pair p;
    bool server = c->context->server;
    tls_pair_open(&p, server ? peers[0] : c, server ? c : peers[1], NULL);
    struct transport *t = server ? p.server : p.client;
    /* The peer's bytes first: garbage on some runs, else a handshake. */
    if (bytes[0] & 0x80 && write(p.fds[server ? 0 : 1], bytes, len) < 0)
        CHECK(errno == EAGAIN);
    if (tls_pair_handshake(&p)) {
        CHECK(tls_pair_send(p.client, p.server, 100));
        CHECK(tls_pair_send(p.server, p.client, 100));
        CHECK(t->ops->peer(t) && t->ops->failure(t).len == 0);
    } else {
        CHECK(!t->ops->peer(t) || t->ops->peer(t)->version.len);
    }
    tls_pair_close(&p);
}

/* Judges the peer by a validation that a secret holds. */
static void judge(struct tls_validation_part *part, struct errors *e)
{
    struct tls_verify_result result;
    struct arena a;
    struct san *sans;
    arena_init(&a, 0);
    size_t num = san_list(peer_cert->x509, &a, &sans);
    for (size_t i = 0; i < part->num_sans; i++) {
        for (size_t j = 0; j < num; j++)
            if (san_matcher_match(&part->sans[i], &sans[j]))
                CHECK(part->sans[i].types & 1u << sans[j].type);
    }
    arena_cleanup(&a);
    struct tls_validation *v = tls_validation_new(NULL, part, e);
    if (!v)
        return;
    tls_verify(v, &peer_cert->x509, 1, true, STR("x.example"), &result);
    CHECK(tls_verify_needed(v) || result.verdict == TLS_UNVERIFIED);
    tls_verify(v, &peer_cert->x509, 1, false, STR_NULL, &result);
    tls_validation_unref(v);
}

static struct tls_settings *compile(unsigned kind, struct str bytes, struct errors *e)
{
    struct arena a;
    struct tls_settings *f = NULL;
    arena_init(&a, 0);
    if (kind == 1) {
        const TLS_V3(DownstreamTlsContext) *msg = PB_UNPACK(
            TLS_V3(DownstreamTlsContext),
            envoy__extensions__transport_sockets__tls__v3__downstream_tls_context, bytes, &a, e,
            NULL);
        if (msg)
            f = tls_settings_of_downstream(msg, secrets, NULL, e);
    } else {
        const TLS_V3(UpstreamTlsContext) *msg = PB_UNPACK(
            TLS_V3(UpstreamTlsContext),
            envoy__extensions__transport_sockets__tls__v3__upstream_tls_context, bytes, &a, e,
            NULL);
        if (msg)
            f = tls_settings_of_upstream(msg, secrets, NULL, e);
    }
    arena_cleanup(&a);
    return f;
}

static void fuzz_secret(struct str bytes, struct errors *e)
{
    struct str name = STR_NULL;
    bool named = tls_secret_ops.name_of(bytes, &name);
    struct tls_secret *s = tls_secret_ops.compile(NULL, name, bytes, e);
    CHECK((s == NULL) == (e->num_errors > 0));
    if (s && named)
        CHECK(name.p >= bytes.p && name.p + name.len <= bytes.p + bytes.len);
    if (s)
        CHECK(tls_secret_same(s, s) && tls_secret_kind_name(s->kind)[0]);
    if (s && s->validation) {
        judge(s->validation, e);
        struct tls_trust_source peer = {.ca = str_of(peer_cert->pem)};
        struct tls_trust *t = tls_trust_new(&peer, e);
        tls_trust_unref(t);
    }
    struct tls_secrets *fixed = tls_secrets_new(loop, NULL);
    bool added = tls_secrets_add_static(fixed, bytes, e);
    CHECK(added == (s && named) && (tls_secrets_find(fixed, name) != NULL) == added);
    CHECK(!added || !tls_secrets_add_static(fixed, bytes, e));
    tls_secrets_free(&fixed);
    tls_secret_ops.ref(s);
    tls_secret_ops.unref(s);
    tls_secret_ops.unref(s);
}

static void use(const struct tls_settings *s, const uint8_t *data, size_t len, struct errors *e)
{
    struct tls_secret *fixed[16];
    if (s->num_needs > ARRAY_LEN(fixed))
        return;
    for (size_t i = 0; i < s->num_needs; i++)
        fixed[i] = s->needs[i].fixed;
    struct tls_config *c = tls_settings_build(s, fixed, NULL, e);
    CHECK(c); /* it was tried while it was compiled */
    open_once(c, data, len);
    open_once(c, data, len); /* resumed, perhaps */
    tls_config_unref(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct errors e;
    if (len < 2)
        return 0;
    if (!loop) {
        loop = loop_new(true);
        secrets = tls_secrets_new(loop, xds_new(loop, &(struct xds_options){.max_message = 0}));
        init_peers();
    }
    errors_init(&e);
    struct str bytes = str_n((const char *)data + 1, len - 1);
    unsigned kind = (data[0] & 0x7f) % 3;
    if (kind == 0) {
        fuzz_secret(bytes, &e);
    } else {
        struct tls_settings *f = compile(kind, bytes, &e);
        CHECK((f == NULL) == (e.num_errors > 0));
        if (f && f->num_remote == 0)
            use(f, data, len, &e);
        tls_settings_free(&f);
    }
    errors_cleanup(&e);
    return 0;
}
