#include "test/support/tls_pair.h"

#include "tls/tls_transport.h"
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static void die(const struct errors *e)
{
    struct arena a;
    arena_init(&a, 0);
    struct str text = errors_text(e, &a);
    fprintf(stderr, "tls_side_config: %.*s\n", STR_ARG(text));
    check_failed("no errors", __FILE__, __LINE__);
}

static void set_source(Envoy__Config__Core__V3__DataSource *ds, const char *text)
{
    envoy__config__core__v3__data_source__init(ds);
    ds->specifier_case = ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_STRING;
    ds->inline_string = (char *)text;
}

struct san_message {
    TLS_V3(SubjectAltNameMatcher) typed;
    Envoy__Type__Matcher__V3__StringMatcher text;
};

static void set_matcher(struct san_message *m, int type, int pattern, const char *text)
{
    envoy__extensions__transport_sockets__tls__v3__subject_alt_name_matcher__init(&m->typed);
    envoy__type__matcher__v3__string_matcher__init(&m->text);
    m->typed.san_type = type;
    m->typed.matcher = &m->text;
    m->text.match_pattern_case = pattern;
    m->text.exact = (char *)text; /* prefix and suffix share the place */
}

static struct tls_validation *make_validation(const struct tls_side *s, struct errors *e)
{
    TLS_V3(CertificateValidationContext) v;
    Envoy__Config__Core__V3__DataSource ca, crl;
    Envoy__Type__Matcher__V3__RegexMatcher regex = ENVOY__TYPE__MATCHER__V3__REGEX_MATCHER__INIT;
    struct san_message sans[6];
    TLS_V3(SubjectAltNameMatcher) * list[6];
    Envoy__Type__Matcher__V3__StringMatcher *untyped[1];
    char *hash = (char *)s->hash, *spki = (char *)s->spki;
    const int exact = ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_EXACT;
    const int prefix = ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_PREFIX;
    const int re = ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_SAFE_REGEX;
    size_t n = 0;
    envoy__extensions__transport_sockets__tls__v3__certificate_validation_context__init(&v);
    if (s->ca) {
        set_source(&ca, s->ca);
        v.trusted_ca = &ca;
    }
    if (s->crl) {
        set_source(&crl, s->crl);
        v.crl = &crl;
    }
    if (s->uri_exact)
        set_matcher(&sans[n++], 3, exact, s->uri_exact);
    if (s->uri_prefix)
        set_matcher(&sans[n++], 3, prefix, s->uri_prefix);
    if (s->dns_exact)
        set_matcher(&sans[n++], 2, exact, s->dns_exact);
    if (s->ip_exact)
        set_matcher(&sans[n++], 4, exact, s->ip_exact);
    if (s->regex) {
        set_matcher(&sans[n], 3, re, NULL);
        regex.regex = (char *)s->regex;
        sans[n++].text.safe_regex = &regex;
    }
    for (size_t i = 0; i < n; i++)
        list[i] = &sans[i].typed;
    v.match_typed_subject_alt_names = list;
    v.n_match_typed_subject_alt_names = n;
    if (s->untyped_exact) {
        set_matcher(&sans[n], 0, exact, s->untyped_exact);
        untyped[0] = &sans[n].text;
        v.match_subject_alt_names = untyped;
        v.n_match_subject_alt_names = 1;
    }
    v.verify_certificate_hash = &hash;
    v.n_verify_certificate_hash = hash != NULL;
    v.verify_certificate_spki = &spki;
    v.n_verify_certificate_spki = spki != NULL;
    v.allow_expired_certificate = s->allow_expired;
    v.only_verify_leaf_cert_crl = s->leaf_crl_only;
    v.trust_chain_verification = s->accept_untrusted ? 1 : 0;
    struct tls_validation_part *part = tls_validation_part_new(&v, e);
    if (!part)
        die(e);
    struct tls_validation *out = tls_validation_new(part, NULL, e);
    tls_validation_part_unref(part);
    if (!out)
        die(e);
    return out;
}

static struct tls_cert *make_cert(const char *chain, const char *key, struct errors *e)
{
    struct tls_cert_source src = {
        .chain = str_of(chain), .key = str_of(key), .chain_path = STR("<inline>")};
    struct tls_cert *c = tls_cert_new(&src, e);
    if (!c)
        die(e);
    return c;
}

static struct str wire_alpn(const char *list, char *wire, size_t cap)
{
    struct str rest = str_of(list), tok;
    size_t len = 0;
    while (list && str_next(&rest, ',', &tok)) {
        CHECK(len + 1 + tok.len <= cap);
        wire[len++] = (char)tok.len;
        memcpy(wire + len, tok.p, tok.len);
        len += tok.len;
    }
    return str_n(wire, len);
}

struct tls_config *tls_side_config(const struct tls_side *s, bool server)
{
    struct errors e;
    struct tls_cert *certs[2];
    char wire[256];
    struct tls_params p = {
        .server = server,
        .min_version = s->min_version ? s->min_version : TLS1_2_VERSION,
        .max_version = s->max_version ? s->max_version : TLS1_3_VERSION,
        .ciphers = str_of(s->ciphers),
        .alpn = wire_alpn(s->alpn, wire, sizeof(wire)),
        .certs = certs,
        .ask_client = s->ask_client,
        .require_client = s->require_client,
        .require_sni = s->require_sni,
        .no_tickets = s->no_tickets,
        .tickets = s->tickets,
    };
    errors_init(&e);
    if (s->chain)
        certs[p.num_certs++] = make_cert(s->chain, s->key, &e);
    if (s->chain2)
        certs[p.num_certs++] = make_cert(s->chain2, s->key2, &e);
    struct tls_validation *v = make_validation(s, &e);
    p.trust = v->trust;
    struct tls_context *context = tls_context_new(&p, &e);
    if (!context)
        die(&e);
    struct tls_config *c = tls_config_new(&(struct tls_config_parts){
        .context = context,
        .validation = v,
        .stats = s->stats,
        .sni = s->sni,
        .sni_must_match = s->sni_must_match,
        .max_sessions = s->max_sessions,
    });
    tls_context_unref(context);
    tls_validation_unref(v);
    for (size_t i = 0; i < p.num_certs; i++)
        tls_cert_unref(certs[i]);
    errors_cleanup(&e);
    return c;
}

void tls_pair_open(struct tls_pair *p, struct tls_config *client, struct tls_config *server,
                   const struct transport_options *opts)
{
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p->fds) == 0);
    p->client = tls_transport_open(client, p->fds[0], opts);
    p->server = tls_transport_open(server, p->fds[1], NULL);
    p->client_status = p->server_status = IO_AGAIN;
}

bool tls_pair_handshake(struct tls_pair *p)
{
    for (int turn = 0; turn < 100; turn++) {
        if (p->client_status == IO_AGAIN)
            p->client_status = p->client->ops->handshake(p->client);
        if (p->server_status == IO_AGAIN)
            p->server_status = p->server->ops->handshake(p->server);
        if (p->client_status != IO_AGAIN && p->server_status != IO_AGAIN)
            break;
    }
    return p->client_status == IO_OK && p->server_status == IO_OK;
}

bool tls_pair_send(struct transport *from, struct transport *to, size_t len)
{
    struct buffer out, in;
    bool same = true;
    buffer_init(&out);
    buffer_init(&in);
    for (size_t i = 0; i < len; i++) {
        char c = (char)(i * 7 + i / 251);
        buffer_add(&out, &c, 1);
    }
    for (int turn = 0; turn < 100000 && (out.len || in.len < len); turn++) {
        if (out.len && from->ops->write(from, &out) == IO_ERROR)
            break;
        enum io_status st = to->ops->read(to, &in, 30000);
        if (st == IO_ERROR || st == IO_EOF)
            break;
    }
    same = out.len == 0 && in.len == len;
    for (size_t i = 0; same && i < len; i++) {
        char c;
        buffer_copy_out(&in, 0, &c, 1);
        buffer_drain(&in, 1);
        same = c == (char)(i * 7 + i / 251);
    }
    buffer_cleanup(&out);
    buffer_cleanup(&in);
    return same;
}

void tls_pair_close(struct tls_pair *p)
{
    p->client->ops->free(p->client);
    p->server->ops->free(p->server);
    close(p->fds[0]);
    close(p->fds[1]);
}
