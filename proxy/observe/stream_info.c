#include "proxy/observe/stream_info.h"

static const struct str *copy_list(const struct str *list, size_t n, struct arena *a)
{
    if (!n)
        return NULL;
    struct str *copy = arena_alloc(a, n * sizeof(*copy));
    for (size_t i = 0; i < n; i++)
        copy[i] = arena_str(a, list[i]);
    return copy;
}

void stream_info_set_upstream_tls(struct stream_info *si, const struct tls_peer *tls,
                                  struct arena *a)
{
    si->upstream_tls = NULL;
    si->upstream_uri_san = STR_NULL;
    if (!tls)
        return;
    struct tls_peer *p = arena_alloc(a, sizeof(*p));
    *p = *tls;
    p->uri_sans = copy_list(tls->uri_sans, tls->num_uri_sans, a);
    p->dns_sans = copy_list(tls->dns_sans, tls->num_dns_sans, a);
    p->local_uri_sans = copy_list(tls->local_uri_sans, tls->num_local_uri_sans, a);
    p->subject = arena_str(a, tls->subject);
    p->issuer = arena_str(a, tls->issuer);
    p->serial = arena_str(a, tls->serial);
    p->fingerprint_sha256 = arena_str(a, tls->fingerprint_sha256);
    p->cert_pem_urlencoded = STR_NULL; /* some kilobytes, for each request */
    p->chain = NULL;
    p->local_subject = arena_str(a, tls->local_subject);
    p->version = arena_str(a, tls->version);
    p->cipher = arena_str(a, tls->cipher);
    p->alpn = arena_str(a, tls->alpn);
    p->sni = arena_str(a, tls->sni);
    si->upstream_tls = p;
    if (p->num_uri_sans)
        si->upstream_uri_san = p->uri_sans[0];
}
