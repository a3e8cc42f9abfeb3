#include "proxy/http/mutate.h"

#include "base/random.h"
#include "proxy/http/h2_stats.h"
#include "proxy/http/path.h"
#include "proxy/http/stream.h"
#include "proxy/server.h"
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
static bool xff_address(struct str xff, uint32_t hops, struct addr *out)
{
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

/* A client on this machine is known outside by the machine's address. */
static struct str client_ip(const struct stream *s, char *text)
{
    const struct addr *remote = &s->hc->down->info.remote;
    const struct addr *own = &s->worker->server->local_ip;
    return addr_format_ip(addr_is_loopback(remote) && addr_is_ip(own) ? own : remote, text);
}

static void append_xff(struct stream *s)
{
    char text[ADDR_TEXT_MAX];
    struct str ip = client_ip(s, text);
    struct str before;
    if (!ip.len)
        return;
    if (headers_value(s->request, STR("x-forwarded-for"), s->arena, &before) && before.len)
        ip = arena_printf(s->arena, "%.*s,%.*s", STR_ARG(before), STR_ARG(ip));
    else
        ip = arena_str(s->arena, ip);
    headers_set_known(s->request, HDR_X_FORWARDED_FOR, ip);
}

static bool is_internal(const struct hcm_config *cfg, const struct addr *a)
{
    if (addr_family(a) == ADDR_PIPE)
        return cfg->internal_pipes;
    for (size_t i = 0; i < cfg->num_internal; i++) {
        if (cidr_contains(&cfg->internal[i], a))
            return true;
    }
    return false;
}

/* What only a caller of ours may ask for. */
static void drop_internal_headers(struct headers *h)
{
    static const uint8_t ids[] = {
        HDR_X_ENVOY_RETRY_ON,
        HDR_X_ENVOY_RETRY_GRPC_ON,
        HDR_X_ENVOY_MAX_RETRIES,
        HDR_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
        HDR_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
        HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
    };
    static const struct {
        const char *rest;
        size_t len;
    } names[] = {
#define NAME(rest) {rest, sizeof(rest) - 1}
        NAME("hedge-on-per-try-timeout"),
        NAME("ip-tags"),
        NAME("force-trace"),
        NAME("upstream-alt-stat-name"),
        NAME("upstream-rq-timeout-alt-response"),
        NAME("upstream-stream-duration-ms"),
        NAME("retriable-status-codes"),
        NAME("retriable-header-names"),
        NAME("original-url"),
#undef NAME
    };
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        headers_remove_known(h, ids[i]);
    HEADERS_FOREACH(f, h) {
        if (f->id != HDR_OTHER || !str_starts(f->name, STR("x-envoy-")))
            continue;
        struct str rest = str_n(f->name.p + 8, f->name.len - 8);
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            if (str_eq(rest, str_n(names[i].rest, names[i].len))) {
                headers_remove_at(h, f);
                break;
            }
        }
    }
}

/* What a client outside must not tell us. */
static void drop_edge_headers(struct headers *h)
{
    headers_remove_known(h, HDR_X_ENVOY_DECORATOR_OPERATION);
    headers_remove_known(h, HDR_X_ENVOY_ORIGINAL_PATH);
    headers_remove(h, STR("x-envoy-original-host"));
    headers_remove(h, STR("x-envoy-downstream-service-cluster"));
    headers_remove(h, STR("x-envoy-downstream-service-node"));
}

/* The address a request came from: the connection's, or what trusted proxies say. False if it is
 * only good for logging: X-Forwarded-For has several entries or none. */
static bool client_address(struct stream *s, struct addr *out)
{
    const struct hcm_config *cfg = s->hc->config;
    struct str xff = STR_NULL;
    bool had = headers_value(s->request, STR("x-forwarded-for"), s->arena, &xff);
    struct addr named;
    *out = s->hc->down->info.remote;
    if (cfg->use_remote_address) {
        if (cfg->xff_hops && had && xff_address(xff, cfg->xff_hops - 1, &named))
            *out = named;
        return !had;
    }
    if (!had || !xff_address(xff, cfg->xff_hops, &named))
        return false;
    *out = named;
    return str_chr(xff, ',') < 0;
}

/* Finds out who asks; true if the request comes from outside (Envoy's edge request). */
static bool find_client(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    struct headers *h = s->request;
    struct addr client;
    bool internal = client_address(s, &client) && is_internal(cfg, &client);
    s->info.downstream_remote = client;
    if (cfg->use_remote_address && !cfg->skip_xff_append)
        append_xff(s);
    if (internal) {
        headers_set_known(h, HDR_X_ENVOY_INTERNAL, STR("true"));
        return false;
    }
    headers_remove_known(h, HDR_X_ENVOY_INTERNAL);
    drop_internal_headers(h);
    if (!cfg->use_remote_address)
        return false;
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
    if (overwrite || !f || !f->value.len)
        headers_set_known(s->request, HDR_X_FORWARDED_PROTO, scheme);
    else if (str_ieq(f->value, STR("http")) || str_ieq(f->value, STR("https")))
        scheme = f->value;
    s->request->scheme = scheme;
    if (cfg->append_x_forwarded_port &&
        (overwrite || !headers_find(s->request, STR("x-forwarded-port"))))
        headers_set(s->request, STR("x-forwarded-port"),
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
    if (cfg->cert_uri && !tls->num_uri_sans)
        add_part(s, &text, "URI", STR(""), false); /* as Envoy says that there is none */
    for (size_t i = 0; cfg->cert_uri && i < tls->num_uri_sans; i++)
        add_part(s, &text, "URI", tls->uri_sans[i], false);
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
        headers_value(s->request, STR("x-forwarded-client-cert"), s->arena, &before) && before.len)
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
    bool http2 = s->info.protocol == PROTOCOL_HTTP2;
    struct h2_stats h2 = {s->hc->config->limits.h2_stats, s->worker->index, false};
    if (action == UNDERSCORES_ALLOW)
        return true;
    HEADERS_FOREACH(f, s->request) {
        if (str_chr(f->name, '_') < 0)
            continue;
        if (action == UNDERSCORES_REJECT && http2) {
            h2_count(&h2, H2_REJECTED_UNDERSCORES);
            stream_response_reset(s, 0, STR("http2.unexpected_underscore"));
            return false;
        }
        if (action == UNDERSCORES_REJECT) {
            stream_local_reply(s, 400, 0, STR("http1.unexpected_underscore"), STR_NULL);
            return false;
        }
        if (http2)
            h2_count(&h2, H2_DROPPED_UNDERSCORES);
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
        s->down->ops->close_after(s->down);
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
