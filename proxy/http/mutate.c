#include "proxy/http/mutate.h"

#include "base/random.h"
#include "proxy/http/client_cert.h"
#include "proxy/http/early_mutation.h"
#include "proxy/http/h2_stats.h"
#include "proxy/http/ip_detection.h"
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
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        if (h->first[ids[i]])
            headers_remove_known(h, ids[i]);
    }
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

/* The address a request came from: the connection's, or what trusted proxies say. `trusted`: good
 * for more than logging; X-Forwarded-For with several entries or none is not. */
static struct ip_detected client_address(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    const struct addr *peer = &s->hc->down->info.remote;
    struct str xff = STR_NULL;
    struct ip_detected r = {0};
    if (cfg->ip_detection)
        return ip_detect(cfg->ip_detection, s->request, peer, s->arena);
    bool had = headers_value(s->request, STR("x-forwarded-for"), s->arena, &xff);
    if (cfg->use_remote_address) {
        r.append = !cfg->skip_xff_append;
        r.found = true;
        r.trusted = !had;
        if (!cfg->xff_hops || !had || !xff_address(xff, cfg->xff_hops - 1, &r.addr))
            r.addr = *peer;
        return r;
    }
    r.found = had && xff_address(xff, cfg->xff_hops, &r.addr);
    r.trusted = str_chr(xff, ',') < 0;
    return r;
}

/* Who asks is told to who is asked. */
static void tell_user_agent(const struct hcm_config *cfg, struct headers *h)
{
    if (!cfg->service_cluster.len)
        return;
    headers_set(h, STR("x-envoy-downstream-service-cluster"), cfg->service_cluster);
    if (!headers_known(h, HDR_USER_AGENT))
        headers_add_known(h, HDR_USER_AGENT, cfg->service_cluster);
    if (cfg->service_node.len)
        headers_set(h, STR("x-envoy-downstream-service-node"), cfg->service_node);
}

/* Finds out who asks; sets *edge if the request comes from outside (Envoy's edge request). False:
 * it was answered. */
static bool find_client(struct stream *s, bool *edge)
{
    const struct hcm_config *cfg = s->hc->config;
    struct headers *h = s->request;
    struct ip_detected who = client_address(s);
    const struct addr *client = &s->info.downstream_remote; /* until now the peer's */
    if (who.found)
        s->info.downstream_remote = who.addr;
    bool internal = who.found && who.trusted && is_internal(cfg, client);
    *edge = false;
    if (who.reject) {
        stream_local_reply(s, who.reject, 0, STR("rejecting_because_detection_failed"), STR_NULL);
        return false;
    }
    if (who.append)
        append_xff(s);
    if (internal) {
        headers_set_known(h, HDR_X_ENVOY_INTERNAL, STR("true"));
        s->force_trace = headers_find(h, STR("x-envoy-force-trace")) != NULL;
        return true;
    }
    headers_remove_known(h, HDR_X_ENVOY_INTERNAL);
    drop_internal_headers(h);
    if (!cfg->use_remote_address)
        return true;
    drop_edge_headers(h);
    *edge = true;
    char text[ADDR_TEXT_MAX];
    struct str ip = addr_format_ip(client, text);
    if (ip.len)
        headers_set_known(h, HDR_X_ENVOY_EXTERNAL_ADDRESS, arena_str(s->arena, ip));
    return true;
}

/* What a scheme says, in lower case; empty: it is none that we know. */
static struct str known_scheme(struct str s)
{
    if (str_ieq(s, STR("https")))
        return STR("https");
    return str_ieq(s, STR("http")) ? STR("http") : STR_NULL;
}

static void set_forwarded_proto(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    struct headers *h = s->request;
    struct str own = s->hc->down->info.tls ? STR("https") : STR("http");
    bool overwrite = cfg->use_remote_address && cfg->xff_hops == 0;
    struct header *f = headers_known(h, HDR_X_FORWARDED_PROTO);
    struct str said = own;
    if (overwrite || !f || !f->value.len)
        headers_set_known(h, HDR_X_FORWARDED_PROTO, own);
    else
        said = known_scheme(f->value);
    if (cfg->scheme.len) {
        headers_set_known(h, HDR_X_FORWARDED_PROTO, cfg->scheme);
        h->scheme = cfg->scheme;
    }
    if (h->scheme.len) /* of the target, or of HTTP/2 */
        h->scheme = known_scheme(h->scheme);
    if (!h->scheme.len)
        h->scheme = said.len ? said : own;
    if (cfg->append_x_forwarded_port && (overwrite || !headers_find(h, STR("x-forwarded-port"))))
        headers_set(h, STR("x-forwarded-port"),
                    arena_printf(s->arena, "%u", addr_port(&s->hc->down->info.direct_local)));
}

/* At the edge a target that says https over a connection that is not is refused: who believes one
 * of them is wrong. */
static bool check_scheme(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    bool edge = cfg->use_remote_address && cfg->xff_hops == 0;
    if (!edge || s->info.protocol == PROTOCOL_HTTP2 || s->hc->down->info.tls ||
        !str_eq(s->request->scheme, STR("https")))
        return true;
    s->down->ops->close_after(s->down);
    stream_local_reply(s, 403, FLAG(DOWNSTREAM_PROTOCOL_ERROR),
                       STR("http1.https_url_on_plaintext_connection"), STR("Forbidden"));
    return false;
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

/* As the codec would, if it knew: HTTP/2 ends the stream without a word. */
static void refuse_underscore(struct stream *s)
{
    if (s->info.protocol == PROTOCOL_HTTP2) {
        stream_response_reset(s, FLAG(DOWNSTREAM_REMOTE_RESET), STR("http2.unexpected_underscore"));
        return;
    }
    s->down->ops->close_after(s->down);
    stream_local_reply(s, 400, FLAG(DOWNSTREAM_PROTOCOL_ERROR), STR("http1.unexpected_underscore"),
                       STR("Bad Request"));
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
        if (action == UNDERSCORES_REJECT) {
            if (http2)
                h2_count(&h2, H2_REJECTED_UNDERSCORES);
            refuse_underscore(s);
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
        r = path_escaped_slashes(s->arena, path);
    if (r == PATH_CHANGED && cfg->escaped_slashes == SLASHES_REJECT)
        r = PATH_REJECTED; /* and the log shows what it would have been, as Envoy's does */
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
        stream_redirect(s, 307, *path, STR("path_normalization_failed"));
        return false;
    }
    return true;
}

bool mutate_request(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    if (cfg->early_mutation)
        early_mutation_apply(cfg->early_mutation, s->request, &s->info);
    s->info.original_path = s->request->path;
    if (!check_scheme(s))
        return false;
    if (!check_underscores(s) || !fix_path(s))
        return false;
    if (cfg->strip_any_port || cfg->strip_matching_port || cfg->strip_trailing_dot)
        strip_host(s);
    bool edge;
    if (!find_client(s, &edge))
        return false;
    tell_user_agent(cfg, s->request);
    set_forwarded_proto(s);
    set_request_id(s, edge);
    client_cert_set(s);
    append_via(s->request, cfg->via);
    return true;
}

void mutate_own_response(const struct hcm_config *cfg, struct worker *w, struct headers *h)
{
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
        headers_add_known(h, HDR_DATE, arena_str(h->arena, worker_date(w)));
    append_via(h, cfg->via);
}

void mutate_response(struct stream *s, struct headers *h)
{
    const struct hcm_config *cfg = s->hc->config;
    mutate_own_response(cfg, s->worker, h);
    bool traced = s->force_trace || cfg->request_id_in_response;
    if (traced && s->info.request_id.len)
        headers_set_known(h, HDR_X_REQUEST_ID, s->info.request_id);
}
