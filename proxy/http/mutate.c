#include "proxy/http/mutate.h"

#include "base/random.h"
#include "proxy/http/path.h"
#include "proxy/http/stream.h"
#include "proxy/worker.h"

/* --- host --- */

static void strip_host(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    struct str host = s->request->authority;
    ptrdiff_t colon = -1;
    for (size_t i = host.len; i > 0 && host.p[i - 1] != ']'; i--) {
        if (host.p[i - 1] == ':') {
            colon = (ptrdiff_t)i - 1;
            break;
        }
    }
    struct str port = STR_NULL;
    if (colon >= 0) {
        port = str_n(host.p + colon, host.len - (size_t)colon);
        host.len = (size_t)colon;
    }
    if (cfg->strip_trailing_dot && host.len && host.p[host.len - 1] == '.')
        host.len--;
    uint64_t number = 0;
    bool matching = port.len > 1 && str_to_u64(str_n(port.p + 1, port.len - 1), &number) &&
                    number == addr_port(&s->hc->down->info.local);
    if (port.len && !cfg->strip_any_port && !(cfg->strip_matching_port && matching))
        host = host.p + host.len == port.p
                   ? str_n(host.p, host.len + port.len)
                   : arena_printf(s->arena, "%.*s%.*s", STR_ARG(host), STR_ARG(port));
    s->request->authority = host;
    struct header *f = headers_known(s->request, HDR_HOST);
    if (f)
        f->value = host;
}

/* --- addresses --- */

/* The address `hops` entries from the right end of X-Forwarded-For. */
static bool xff_address(struct str xff, uint32_t hops, struct addr *out, bool *single)
{
    *single = str_chr(xff, ',') < 0;
    for (uint32_t skip = 0;; skip++) {
        ptrdiff_t comma = -1;
        for (size_t i = xff.len; i > 0; i--) {
            if (xff.p[i - 1] == ',') {
                comma = (ptrdiff_t)i - 1;
                break;
            }
        }
        struct str last = str_trim(str_n(xff.p + comma + 1, xff.len - (size_t)(comma + 1)));
        if (skip == hops)
            return addr_parse_ip(last, 0, out);
        if (comma < 0)
            return false;
        xff.len = (size_t)comma;
    }
}

/* RFC 1918, RFC 4193, loopback: Envoy's default of what is internal. */
static bool is_internal(const struct addr *a)
{
    struct str b = addr_ip_bytes(a);
    const unsigned char *p = (const unsigned char *)b.p;
    if (addr_is_loopback(a))
        return true;
    if (b.len == 4)
        return p[0] == 10 || (p[0] == 172 && (p[1] & 0xf0) == 16) || (p[0] == 192 && p[1] == 168);
    return b.len == 16 && (p[0] & 0xfe) == 0xfc;
}

static void append_xff(struct stream *s)
{
    char text[ADDR_TEXT_MAX];
    struct str ip = addr_format_ip(&s->hc->down->info.remote, text);
    struct str before;
    if (!ip.len)
        return;
    if (headers_value(s->request, STR("x-forwarded-for"), s->arena, &before))
        ip = arena_printf(s->arena, "%.*s,%.*s", STR_ARG(before), STR_ARG(ip));
    else
        ip = arena_str(s->arena, ip);
    headers_set_known(s->request, HDR_X_FORWARDED_FOR, ip);
}

/* What a client outside must not tell us: Envoy's list for edge requests. */
static void drop_edge_headers(struct headers *h)
{
    static const uint8_t ids[] = {
        HDR_X_ENVOY_INTERNAL,
        HDR_X_ENVOY_RETRY_ON,
        HDR_X_ENVOY_RETRY_GRPC_ON,
        HDR_X_ENVOY_MAX_RETRIES,
        HDR_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
        HDR_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
        HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
        HDR_X_ENVOY_DECORATOR_OPERATION,
        HDR_X_ENVOY_EXTERNAL_ADDRESS,
        HDR_X_ENVOY_ORIGINAL_PATH,
    };
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        headers_remove_known(h, ids[i]);
    headers_remove(h, STR("x-envoy-downstream-service-cluster"));
    headers_remove(h, STR("x-envoy-downstream-service-node"));
    headers_remove(h, STR("x-envoy-hedge-on-per-try-timeout"));
    headers_remove(h, STR("x-envoy-ip-tags"));
    headers_remove(h, STR("x-envoy-force-trace"));
    headers_remove(h, STR("x-envoy-upstream-alt-stat-name"));
    headers_remove(h, STR("x-envoy-upstream-rq-timeout-alt-response"));
    headers_remove(h, STR("x-envoy-upstream-stream-duration-ms"));
    headers_remove(h, STR("x-envoy-retriable-status-codes"));
    headers_remove(h, STR("x-envoy-retriable-header-names"));
}

/* Finds out who asks; true if the request comes from outside (edge). */
static bool find_client(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    struct headers *h = s->request;
    struct str xff = STR_NULL;
    bool had = headers_value(h, STR("x-forwarded-for"), s->arena, &xff);
    bool single = !had;
    struct addr client = s->hc->down->info.remote;
    struct addr named;
    if (cfg->use_remote_address) {
        if (cfg->xff_hops && had && xff_address(xff, cfg->xff_hops - 1, &named, &single))
            client = named;
        single = !had;
        if (!cfg->skip_xff_append)
            append_xff(s);
    } else if (had && xff_address(xff, cfg->xff_hops, &named, &single)) {
        client = named;
    }
    s->info.downstream_remote = client;
    bool internal = single && is_internal(&client);
    if (!cfg->use_remote_address)
        return false;
    if (internal) {
        headers_set_known(h, HDR_X_ENVOY_INTERNAL, STR("true"));
        return false;
    }
    drop_edge_headers(h);
    char text[ADDR_TEXT_MAX];
    struct str ip = addr_format_ip(&client, text);
    if (ip.len)
        headers_set_known(h, HDR_X_ENVOY_EXTERNAL_ADDRESS, arena_str(s->arena, ip));
    return true;
}

static void set_forwarded_proto(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    struct str scheme = s->hc->down->info.tls ? STR("https") : STR("http");
    bool overwrite = cfg->use_remote_address && cfg->xff_hops == 0;
    struct header *f = headers_known(s->request, HDR_X_FORWARDED_PROTO);
    bool valid = f && (str_ieq(f->value, STR("http")) || str_ieq(f->value, STR("https")));
    if (overwrite || !valid)
        headers_set_known(s->request, HDR_X_FORWARDED_PROTO, scheme);
    else
        scheme = f->value;
    s->request->scheme = scheme;
    if (cfg->append_x_forwarded_port && !headers_find(s->request, STR("x-forwarded-port")))
        headers_add(s->request, STR("x-forwarded-port"),
                    arena_printf(s->arena, "%u", addr_port(&s->hc->down->info.direct_local)));
}

static void set_request_id(struct stream *s, bool edge)
{
    const struct hcm_config *cfg = s->hc->config;
    struct header *f = headers_known(s->request, HDR_X_REQUEST_ID);
    bool keep = f && f->value.len && !(edge && !cfg->preserve_request_id);
    if (keep) {
        s->info.request_id = f->value;
        return;
    }
    if (!cfg->generate_request_id)
        return;
    char *id = arena_bytes(s->arena, UUID_LEN);
    random_uuid(id);
    s->info.request_id = str_n(id, UUID_LEN);
    headers_set_known(s->request, HDR_X_REQUEST_ID, s->info.request_id);
}

/* --- x-forwarded-client-cert --- */

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
    if (cfg->cert_subject)
        add_part(s, &text, "Subject", tls->subject, true);
    if (cfg->cert_uri) {
        for (size_t i = 0; i < tls->num_uri_sans; i++)
            add_part(s, &text, "URI", tls->uri_sans[i], false);
    }
    for (size_t i = 0; cfg->cert_dns && i < tls->num_dns_sans; i++)
        add_part(s, &text, "DNS", tls->dns_sans[i], false);
    return text;
}

static void set_client_cert(struct stream *s)
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
        headers_value(s->request, STR("x-forwarded-client-cert"), s->arena, &before))
        text = arena_printf(s->arena, "%.*s,%.*s", STR_ARG(before), STR_ARG(text));
    if (text.len)
        headers_set_known(s->request, HDR_X_FORWARDED_CLIENT_CERT, text);
}

static void append_via(struct headers *h, struct str via)
{
    struct header *f = headers_known(h, HDR_VIA);
    if (!via.len)
        return;
    if (f)
        f->value = arena_printf(h->arena, "%.*s, %.*s", STR_ARG(f->value), STR_ARG(via));
    else
        headers_add_known(h, HDR_VIA, via);
}

/* Names with '_' may be taken for ones with '-' behind us. */
static bool check_underscores(struct stream *s)
{
    enum underscores action = s->hc->config->underscores;
    if (action == UNDERSCORES_ALLOW)
        return true;
    HEADERS_FOREACH(f, s->request) {
        if (str_chr(f->name, '_') < 0)
            continue;
        if (action == UNDERSCORES_REJECT) {
            stream_local_reply(s, 400, 0, STR("http1.unexpected_underscore"), STR_NULL);
            return false;
        }
        headers_remove_at(s->request, f);
    }
    return true;
}

static bool fix_path(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    struct str *path = &s->request->path;
    enum path_result r = PATH_OK;
    if (!path->len || path->p[0] != '/')
        return true; /* CONNECT, OPTIONS * */
    if (cfg->escaped_slashes != SLASHES_KEEP)
        r = path_escaped_slashes(s->arena, path, cfg->escaped_slashes == SLASHES_REJECT);
    bool redirect = r == PATH_CHANGED && cfg->escaped_slashes == SLASHES_REDIRECT;
    if (r != PATH_REJECTED && cfg->normalize_path)
        r = path_normalize(s->arena, path);
    if (r == PATH_REJECTED) {
        stream_local_reply(s, 400, 0, STR("path_normalization_failed"), STR_NULL);
        return false;
    }
    if (cfg->merge_slashes)
        path_merge_slashes(s->arena, path);
    if (redirect) {
        stream_redirect(s, 307, *path, STR("path_normalization_redirect"));
        return false;
    }
    return true;
}

bool mutate_request(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    s->info.original_path = s->request->path;
    if (!s->request->authority.len && s->request->minor == 0 && cfg->default_host_http10.len)
        s->request->authority = cfg->default_host_http10;
    if (!check_underscores(s) || !fix_path(s))
        return false;
    if (cfg->strip_any_port || cfg->strip_matching_port || cfg->strip_trailing_dot)
        strip_host(s);
    bool edge = find_client(s);
    set_forwarded_proto(s);
    set_request_id(s, edge);
    set_client_cert(s);
    append_via(s->request, cfg->via);
    return true;
}

void mutate_response(struct stream *s, struct headers *h)
{
    const struct hcm_config *cfg = s->hc->config;
    switch (cfg->server_header) {
    case SERVER_OVERWRITE:
        headers_set_known(h, HDR_SERVER, cfg->server_name);
        break;
    case SERVER_APPEND_IF_ABSENT:
        if (!headers_known(h, HDR_SERVER))
            headers_add_known(h, HDR_SERVER, cfg->server_name);
        break;
    case SERVER_PASS_THROUGH:
        break;
    }
    if (!headers_known(h, HDR_DATE))
        headers_add_known(h, HDR_DATE, arena_str(h->arena, worker_date(s->worker)));
    if (cfg->request_id_in_response && s->info.request_id.len)
        headers_set_known(h, HDR_X_REQUEST_ID, s->info.request_id);
    append_via(h, cfg->via);
}
