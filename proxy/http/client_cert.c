#include "proxy/http/client_cert.h"

#include "proxy/http/stream.h"

static void add_part(struct stream *s, struct str *text, const char *key, struct str value,
                     bool quoted)
{
    const char *sep = text->len ? ";" : "";
    *text = quoted
                ? arena_printf(s->arena, "%.*s%s%s=\"%.*s\"", STR_ARG(*text), sep, key,
                               STR_ARG(value))
                : arena_printf(s->arena, "%.*s%s%s=%.*s", STR_ARG(*text), sep, key, STR_ARG(value));
}

static struct str own_xfcc(struct stream *s, const struct tls_peer *tls)
{
    const struct hcm_config *cfg = s->hc->config;
    struct str text = STR_NULL;
    for (size_t i = 0; i < tls->num_local_uri_sans; i++)
        add_part(s, &text, "By", tls->local_uri_sans[i], false);
    if (tls->fingerprint_sha256.len)
        add_part(s, &text, "Hash", tls->fingerprint_sha256, false);
    if (cfg->cert_cert && tls->cert_pem_urlencoded.len)
        add_part(s, &text, "Cert", tls->cert_pem_urlencoded, true);
    if (cfg->cert_chain && tls->chain)
        add_part(s, &text, "Chain", tls_peer_chain_pem(tls, s->arena), true);
    if (cfg->cert_subject)
        add_part(s, &text, "Subject", tls->subject, true);
    if (cfg->cert_uri && !tls->num_uri_sans)
        add_part(s, &text, "URI", STR(""), false); /* as Envoy says that there is none */
    for (size_t i = 0; cfg->cert_uri && i < tls->num_uri_sans; i++)
        add_part(s, &text, "URI", tls->uri_sans[i], false);
    for (size_t i = 0; cfg->cert_dns && i < tls->num_dns_sans; i++)
        add_part(s, &text, "DNS", tls->dns_sans[i], false);
    return text;
}

void client_cert_set(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    const struct tls_peer *tls = s->hc->down->info.tls;
    bool mutual = tls && tls->verified;
    if (cfg->forward_cert == CERT_ALWAYS_FORWARD_ONLY)
        return;
    if (cfg->forward_cert == CERT_SANITIZE || !mutual) {
        headers_remove_known(s->request, HDR_X_FORWARDED_CLIENT_CERT);
        return;
    }
    if (cfg->forward_cert == CERT_FORWARD_ONLY)
        return;
    struct str text = own_xfcc(s, tls);
    struct str before;
    if (cfg->forward_cert == CERT_APPEND_FORWARD &&
        headers_value(s->request, STR("x-forwarded-client-cert"), s->arena, &before) && before.len)
        text = arena_printf(s->arena, "%.*s,%.*s", STR_ARG(before), STR_ARG(text));
    if (text.len)
        headers_set_known(s->request, HDR_X_FORWARDED_CLIENT_CERT, text);
}
