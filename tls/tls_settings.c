#include "tls/tls_settings.h"

#include "api-protos/wkt.h"
#include "xds/source.h"
#include <openssl/ssl.h>

enum { ALPN_MAX = 1024, SNI_MAX = 255 };

struct compile {
    struct tls_settings *s;
    const struct tls_secrets *secrets;
    const struct xds_source *parent;
    struct errors *e;
    size_t errors_before;
};

static void begin(struct compile *c, bool server)
{
    c->errors_before = c->e->num_errors;
    c->s = NEW(struct tls_settings);
    arena_init(&c->s->arena, 256);
    c->s->params.server = server;
}

static struct tls_settings *finish(struct compile *c)
{
    if (c->e->num_errors == c->errors_before)
        return c->s;
    tls_settings_free(&c->s);
    return NULL;
}

/* --- tls_params ------------------------------------------------------------------------------ */

static uint16_t version_of(TLS_V3(TlsParameters__TlsProtocol) v, uint16_t automatic,
                           struct errors *e, const char *field)
{
    switch (v) {
    case TLS_V3_ENUM(TLS_PARAMETERS__TLS_PROTOCOL__TLS_AUTO):
        return automatic;
    case TLS_V3_ENUM(TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_0):
        return TLS1_VERSION;
    case TLS_V3_ENUM(TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_1):
        return TLS1_1_VERSION;
    case TLS_V3_ENUM(TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_2):
        return TLS1_2_VERSION;
    case TLS_V3_ENUM(TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_3):
        return TLS1_3_VERSION;
    default:
        errors_add(e, field, "%d is no protocol version", (int)v);
        return automatic;
    }
}

/* A repeated field of names as BoringSSL's list. The whole is tried first: names of TLS 1.3 suites,
 * which cannot be chosen, are fine beside others. If it fails each name that alone fails is at
 * fault. */
static struct str join_list(struct compile *c, enum tls_list list, const char *field,
                            char *const *names, size_t num)
{
    struct str joined = STR_NULL;
    size_t before = c->e->num_errors;
    for (size_t i = 0; i < num; i++)
        joined = arena_printf(&c->s->arena, "%.*s%s%s", STR_ARG(joined), joined.len ? ":" : "",
                              names[i]);
    if (num == 0 || tls_context_check_list(list, joined.p))
        return joined;
    for (size_t i = 0; i < num; i++) {
        if (tls_context_check_list(list, names[i]))
            continue;
        size_t mark = errors_push_index(c->e, field, i);
        errors_add(c->e, NULL, "%s is not supported", names[i]);
        errors_pop(c->e, mark);
    }
    if (c->e->num_errors == before)
        errors_add(c->e, field, "%.*s is not supported", STR_ARG(joined));
    return STR_NULL;
}

static void compile_params(struct compile *c, const TLS_V3(TlsParameters) * from)
{
    struct tls_params *p = &c->s->params;
    p->min_version = TLS1_2_VERSION;
    p->max_version = TLS1_3_VERSION;
    if (!from)
        return;
    size_t mark = errors_push(c->e, "tls_params");
    p->min_version = version_of(from->tls_minimum_protocol_version, TLS1_2_VERSION, c->e,
                                "tls_minimum_protocol_version");
    p->max_version = version_of(from->tls_maximum_protocol_version, TLS1_3_VERSION, c->e,
                                "tls_maximum_protocol_version");
    if (p->min_version > p->max_version)
        errors_add(c->e, "tls_minimum_protocol_version",
                   "is higher than tls_maximum_protocol_version");
    p->ciphers = join_list(c, TLS_LIST_CIPHERS, "cipher_suites", from->cipher_suites,
                           from->n_cipher_suites);
    p->groups = join_list(c, TLS_LIST_GROUPS, "ecdh_curves", from->ecdh_curves,
                          from->n_ecdh_curves);
    p->sigalgs = join_list(c, TLS_LIST_SIGALGS, "signature_algorithms", from->signature_algorithms,
                           from->n_signature_algorithms);
    errors_pop(c->e, mark);
}

static void compile_alpn(struct compile *c, const TLS_V3(CommonTlsContext) * from)
{
    char wire[ALPN_MAX];
    size_t len = 0;
    for (size_t i = 0; i < from->n_alpn_protocols; i++) {
        struct str name = str_of(from->alpn_protocols[i]);
        size_t mark = errors_push_index(c->e, "alpn_protocols", i);
        if (name.len == 0 || name.len > 255) {
            errors_add(c->e, NULL, "must have 1 to 255 bytes");
        } else if (len + 1 + name.len > ALPN_MAX) {
            errors_add(c->e, NULL, "all protocols together must fit in %d bytes", ALPN_MAX);
        } else {
            wire[len++] = (char)name.len;
            memcpy(wire + len, name.p, name.len);
            len += name.len;
        }
        errors_pop(c->e, mark);
    }
    c->s->params.alpn = arena_str(&c->s->arena, str_n(wire, len));
}

/* --- secrets --------------------------------------------------------------------------------- */

static struct tls_secret_need *add_need(struct compile *c, enum tls_secret_kind kind)
{
    struct tls_secret_need *n = &c->s->needs[c->s->num_needs++];
    n->kind = kind;
    return n;
}

/* The caller has pushed the path of the SdsSecretConfig. */
static void compile_sds(struct compile *c, const TLS_V3(SdsSecretConfig) * from,
                        enum tls_secret_kind kind)
{
    struct tls_secret_need *n = add_need(c, kind);
    n->name = arena_str(&c->s->arena, str_of(from->name));
    if (!n->name.len)
        errors_add(c->e, "name", "is required");
    if (from->sds_config) {
        size_t mark = errors_push(c->e, "sds_config");
        if (!c->secrets->xds)
            errors_add(c->e, NULL, "there is no xDS client");
        bool has_ads = c->secrets->xds && xds_has_ads(c->secrets->xds);
        c->s->num_remote++;
        n->source = ARENA_NEW(&c->s->arena, struct xds_source);
        (void)!xds_source_decode(from->sds_config, c->parent, has_ads, &c->s->arena, c->e,
                                 n->source);
        errors_pop(c->e, mark);
        return;
    }
    n->fixed = tls_secret_ref(tls_secrets_find(c->secrets, n->name));
    if (!n->fixed)
        errors_add(c->e, "name", "there is no static secret %.*s, and no sds_config is given",
                   STR_ARG(n->name));
    else if (n->fixed->kind != kind)
        errors_add(c->e, "name", "the static secret %.*s is a %s, not a %s", STR_ARG(n->name),
                   tls_secret_kind_name(n->fixed->kind), tls_secret_kind_name(kind));
}

static void compile_certs(struct compile *c, const TLS_V3(CommonTlsContext) * from)
{
    size_t total = from->n_tls_certificates + from->n_tls_certificate_sds_secret_configs;
    if (from->n_tls_certificates && from->n_tls_certificate_sds_secret_configs)
        errors_add(c->e, "tls_certificate_sds_secret_configs",
                   "cannot be used together with tls_certificates");
    if (c->s->params.server && total == 0)
        errors_add(c->e, "tls_certificates", "a server needs a certificate");
    if (!c->s->params.server && total > 1)
        errors_add(c->e, "tls_certificates", "a client can have one certificate only");
    for (size_t i = 0; i < from->n_tls_certificates; i++) {
        size_t mark = errors_push_index(c->e, "tls_certificates", i);
        if (from->tls_certificates[i]->watched_directory)
            errors_warn(c->e, "watched_directory", "files named here are read once");
        struct tls_cert *cert = tls_cert_compile(from->tls_certificates[i], c->e);
        if (cert)
            add_need(c, TLS_SECRET_CERT)->fixed = tls_secret_of_cert(cert);
        errors_pop(c->e, mark);
    }
    for (size_t i = 0; i < from->n_tls_certificate_sds_secret_configs; i++) {
        size_t mark = errors_push_index(c->e, "tls_certificate_sds_secret_configs", i);
        compile_sds(c, from->tls_certificate_sds_secret_configs[i], TLS_SECRET_CERT);
        errors_pop(c->e, mark);
    }
}

static void compile_base(struct compile *c, const TLS_V3(CertificateValidationContext) * from)
{
    if (from->watched_directory)
        errors_warn(c->e, "watched_directory", "files named here are read once");
    c->s->base = tls_validation_part_new(from, c->e);
}

static void compile_combined(struct compile *c,
                             const TLS_V3(CommonTlsContext__CombinedCertificateValidationContext) *
                                 from)
{
    if (from->default_validation_context) {
        size_t mark = errors_push(c->e, "default_validation_context");
        compile_base(c, from->default_validation_context);
        errors_pop(c->e, mark);
    }
    if (!from->validation_context_sds_secret_config) {
        errors_add(c->e, "validation_context_sds_secret_config", "is required");
        return;
    }
    size_t mark = errors_push(c->e, "validation_context_sds_secret_config");
    compile_sds(c, from->validation_context_sds_secret_config, TLS_SECRET_VALIDATION);
    errors_pop(c->e, mark);
}

static void compile_validation(struct compile *c, const TLS_V3(CommonTlsContext) * from)
{
    size_t mark;
    switch (from->validation_context_type_case) {
    case TLS_V3_ENUM(COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT):
        mark = errors_push(c->e, "validation_context");
        compile_base(c, from->validation_context);
        errors_pop(c->e, mark);
        return;
    case TLS_V3_ENUM(
        COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT_SDS_SECRET_CONFIG):
        mark = errors_push(c->e, "validation_context_sds_secret_config");
        compile_sds(c, from->validation_context_sds_secret_config, TLS_SECRET_VALIDATION);
        errors_pop(c->e, mark);
        return;
    case TLS_V3_ENUM(COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT):
        mark = errors_push(c->e, "combined_validation_context");
        compile_combined(c, from->combined_validation_context);
        errors_pop(c->e, mark);
        return;
    case TLS_V3_ENUM(COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE__NOT_SET):
    default:
        return;
    }
}

static void compile_common(struct compile *c, const TLS_V3(CommonTlsContext) * from)
{
    static const TLS_V3(CommonTlsContext)
        none = ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__COMMON_TLS_CONTEXT__INIT;
    size_t mark = errors_push(c->e, "common_tls_context");
    if (!from)
        from = &none;
    /* Certificates, the validation secret, a server's ticket keys. */
    size_t max = from->n_tls_certificates + from->n_tls_certificate_sds_secret_configs + 1 +
                 c->s->params.server;
    c->s->needs = arena_zalloc(&c->s->arena, max * sizeof(*c->s->needs));
    compile_params(c, from->tls_params);
    compile_alpn(c, from);
    compile_certs(c, from);
    compile_validation(c, from);
    errors_pop(c->e, mark);
}

/* Without a secret to come the version can be made now, and its errors told. */
static void try_build(struct compile *c)
{
    struct tls_settings *s = c->s;
    struct tls_secret *secrets[64];
    if (c->e->num_errors != c->errors_before)
        return;
    if (s->num_remote == 0 && s->num_needs <= ARRAY_LEN(secrets)) {
        for (size_t i = 0; i < s->num_needs; i++)
            secrets[i] = s->needs[i].fixed;
        tls_config_unref(tls_settings_build(s, secrets, NULL, c->e));
        return;
    }
    tls_context_unref(tls_context_new(&s->params, c->e));
}

/* --- the two messages ------------------------------------------------------------------------ */

static void compile_tickets(struct compile *c, const TLS_V3(DownstreamTlsContext) * from)
{
    size_t mark;
    switch (from->session_ticket_keys_type_case) {
    case TLS_V3_ENUM(DOWNSTREAM_TLS_CONTEXT__SESSION_TICKET_KEYS_TYPE_SESSION_TICKET_KEYS): {
        mark = errors_push(c->e, "session_ticket_keys");
        struct tls_tickets *tickets = tls_tickets_new(from->session_ticket_keys, c->e);
        if (tickets)
            add_need(c, TLS_SECRET_TICKETS)->fixed = tls_secret_of_tickets(tickets);
        errors_pop(c->e, mark);
        return;
    }
    case TLS_V3_ENUM(
        DOWNSTREAM_TLS_CONTEXT__SESSION_TICKET_KEYS_TYPE_SESSION_TICKET_KEYS_SDS_SECRET_CONFIG):
        mark = errors_push(c->e, "session_ticket_keys_sds_secret_config");
        compile_sds(c, from->session_ticket_keys_sds_secret_config, TLS_SECRET_TICKETS);
        errors_pop(c->e, mark);
        return;
    case TLS_V3_ENUM(
        DOWNSTREAM_TLS_CONTEXT__SESSION_TICKET_KEYS_TYPE_DISABLE_STATELESS_SESSION_RESUMPTION):
        c->s->params.no_tickets = from->disable_stateless_session_resumption;
        return;
    case TLS_V3_ENUM(DOWNSTREAM_TLS_CONTEXT__SESSION_TICKET_KEYS_TYPE__NOT_SET):
    default:
        return;
    }
}

static bool validates(const struct tls_settings *s)
{
    if (s->base)
        return true;
    for (size_t i = 0; i < s->num_needs; i++) {
        if (s->needs[i].kind == TLS_SECRET_VALIDATION)
            return true;
    }
    return false;
}

struct tls_settings *tls_settings_of_downstream(const TLS_V3(DownstreamTlsContext) * from,
                                                const struct tls_secrets *secrets,
                                                const struct xds_source *parent, struct errors *e)
{
    struct compile c = {.secrets = secrets, .parent = parent, .e = e};
    begin(&c, true);
    struct tls_params *p = &c.s->params;
    compile_common(&c, from->common_tls_context);
    compile_tickets(&c, from);
    p->require_client = wkt_bool(from->require_client_certificate, false);
    p->require_sni = wkt_bool(from->require_sni, false);
    p->prefer_client_ciphers = from->prefer_client_ciphers;
    p->session_timeout_s = wkt_duration_ms(from->session_timeout, 0, e, "session_timeout") / 1000;
    if (from->session_timeout && p->session_timeout_s == 0)
        errors_add(e, "session_timeout", "must be at least 1s");
    if (from->ocsp_staple_policy !=
        TLS_V3_ENUM(DOWNSTREAM_TLS_CONTEXT__OCSP_STAPLE_POLICY__LENIENT_STAPLING))
        errors_add(e, "ocsp_staple_policy", "only LENIENT_STAPLING is supported");
    if (p->require_client && !validates(c.s))
        errors_warn(e, "require_client_certificate",
                    "without a validation context any certificate is accepted");
    try_build(&c);
    return finish(&c);
}

static void compile_sni(struct compile *c, const TLS_V3(UpstreamTlsContext) * from)
{
    struct str sni = str_of(from->sni);
    if (sni.len > SNI_MAX)
        errors_add(c->e, "sni", "must have at most %d bytes", SNI_MAX);
    c->s->sni = sni.len ? arena_str(&c->s->arena, sni).p : NULL;
    c->s->sni_must_match = from->auto_sni_san_validation;
    if (from->auto_host_sni)
        errors_add(c->e, "auto_host_sni", "is not supported");
}

struct tls_settings *tls_settings_of_upstream(const TLS_V3(UpstreamTlsContext) * from,
                                              const struct tls_secrets *secrets,
                                              const struct xds_source *parent, struct errors *e)
{
    struct compile c = {.secrets = secrets, .parent = parent, .e = e};
    begin(&c, false);
    compile_common(&c, from->common_tls_context);
    compile_sni(&c, from);
    if (from->allow_renegotiation)
        errors_add(e, "allow_renegotiation", "is not supported");
    c.s->max_sessions = wkt_u32(from->max_session_keys, 1);
    if (c.s->max_sessions > TLS_SESSIONS_MAX)
        errors_warn(e, "max_session_keys", "at most %d are kept", TLS_SESSIONS_MAX);
    if (!validates(c.s))
        errors_warn(e, "common_tls_context.validation_context",
                    "is not set: the server's certificate is not verified");
    try_build(&c);
    return finish(&c);
}

void tls_settings_free(struct tls_settings **s)
{
    if (!*s)
        return;
    for (size_t i = 0; i < (*s)->num_needs; i++)
        tls_secret_unref((*s)->needs[i].fixed);
    tls_validation_part_unref((*s)->base);
    arena_cleanup(&(*s)->arena);
    mem_free(*s);
    *s = NULL;
}

/* --- building ------------------------------------------------------------------------------------
 */

static struct tls_validation *join_validation(const struct tls_settings *s,
                                              struct tls_validation_part *over, struct errors *e)
{
    struct tls_validation *v = tls_validation_new(s->base, over, e);
    if (!v || !s->sni_must_match || v->trust)
        return v;
    errors_add(e, "auto_sni_san_validation", "needs a trusted_ca");
    tls_validation_unref(v);
    return NULL;
}

struct tls_config *tls_settings_build(const struct tls_settings *s,
                                      struct tls_secret *const *secrets, struct stats_scope *stats,
                                      struct errors *e)
{
    struct tls_params p = s->params;
    struct tls_validation_part *over = NULL;
    size_t before = e->num_errors;
    p.certs = mem_alloc((s->num_needs + 1) * sizeof(struct tls_cert *));
    for (size_t i = 0; i < s->num_needs; i++) {
        switch (s->needs[i].kind) {
        case TLS_SECRET_CERT:
            p.certs[p.num_certs++] = secrets[i]->cert;
            break;
        case TLS_SECRET_VALIDATION:
            over = secrets[i]->validation;
            break;
        case TLS_SECRET_TICKETS:
            p.tickets = secrets[i]->tickets;
            break;
        }
    }
    struct tls_validation *v = NULL;
    if (s->base || over || s->sni_must_match)
        v = join_validation(s, over, e);
    p.trust = v ? v->trust : NULL;
    p.ask_client = p.server && tls_verify_needed(v);
    /* What was let through unjudged must not come back as a verified session. */
    if (v && v->accept_untrusted)
        p.no_tickets = true;
    struct tls_context *context = e->num_errors == before ? tls_context_new(&p, e) : NULL;
    struct tls_config *c = NULL;
    if (context)
        c = tls_config_new(&(struct tls_config_parts){.context = context,
                                                      .validation = v,
                                                      .stats = stats,
                                                      .sni = s->sni,
                                                      .sni_must_match = s->sni_must_match,
                                                      .max_sessions = s->max_sessions});
    tls_context_unref(context);
    tls_validation_unref(v);
    mem_free(p.certs);
    return c;
}
