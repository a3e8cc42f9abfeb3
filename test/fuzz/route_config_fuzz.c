// covers: proxy/router/route_config.c
// covers: proxy/router/route_entry.c
// covers: proxy/router/route_match.c
// covers: proxy/router/route_apply.c
// covers: proxy/router/route_action.c
// covers: proxy/router/route_conditions.c
// covers: proxy/router/route_redirect.c
// covers: proxy/router/route_index.c
// covers: proxy/router/route_hash.c
// covers: proxy/router/vhost_index.c
// covers: proxy/router/trie.c
// covers: proxy/router/match_tree.c
// covers: proxy/router/uri_template.c
// covers: proxy/router/value_match.c
// covers: proxy/router/headers_mutation.c
// covers: proxy/router/matchers.c
/* A RouteConfiguration, unpacked and compiled, and a request that is looked up in it and changed as
 * its route says. The input is the request's head in lines, "path", "authority", then "name:value",
 * an empty line, and the message. */
#include "api-protos/message.h"
#include "base/utf8.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "proxy/router/route_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static bool known(void *arg, struct str name)
{
    return name.len % 2;
}

/* Cuts the head off *rest; what is not a line of it is left. */
static void read_head(struct headers *h, struct str *rest, struct arena *a)
{
    struct str line;
    headers_init(h, a);
    h->method = STR("GET");
    h->scheme = STR("http");
    if (!str_next(rest, '\n', &h->path) || !h->path.len)
        h->path = STR("/");
    if (!str_next(rest, '\n', &h->authority))
        h->authority = STR_NULL;
    headers_add_known(h, HDR_HOST, h->authority);
    while (h->n < 64 && str_next(rest, '\n', &line) && line.len) {
        ptrdiff_t colon = str_chr(line, ':');
        if (colon <= 0)
            continue;
        struct str name = arena_str(a, str_n(line.p, (size_t)colon));
        for (size_t i = 0; i < name.len; i++)
            ((char *)(uintptr_t)name.p)[i] =
                (char)(name.p[i] | (name.p[i] >= 'A' && name.p[i] <= 'Z' ? 0x20 : 0));
        headers_add(h, name, str_n(line.p + colon + 1, line.len - (size_t)colon - 1));
    }
}

/* What is known of the one route besides where it leads. */
static void ask(const struct route *r, const struct route_match_input *in, struct stream_info *info,
                struct arena *a)
{
    struct route_cookie made;
    struct str type;
    uint64_t hash, again, ms;
    if (route_hash(r, in, a, &made, &hash)) {
        CHECK(route_hash(r, in, a, &made, &again) && hash == again);
        CHECK(!made.policy || route_cookie_header(&made, a).len);
    }
    (void)route_timeout_ms(r, in->headers);
    (void)route_stream_duration_ms(r, in->headers, 7, &ms);
    (void)route_upgrade_find(r, STR("websocket"));
    if (r->action == ROUTE_DIRECT)
        (void)route_direct_body(r, info, a, &type);
}

static void use(const struct route_table *t, struct headers *h, uint64_t random, struct arena *a)
{
    struct metadata md = {.first = NULL};
    struct filter_state fs = {.first = NULL};
    struct addr remote;
    CHECK(addr_parse_ip(STR("10.1.2.3"), 4, &remote));
    metadata_set(&md, a, STR("f"), STR("k"), metadata_string(a, h->authority));
    metadata_set(&md, a, STR("f"), STR("n"), metadata_number(a, (double)(random % 8)));
    metadata_set(&md, a, STR("f"), STR("b"), metadata_bool(a, random & 1));
    filter_state_set(&fs, a, STR("k"), random & 1 ? STR("10.0.0.1:80") : h->authority);
    struct route_match_input in = {.headers = h,
                                   .random = random,
                                   .tls = random & 1,
                                   .remote = &remote,
                                   .metadata = &md,
                                   .filter_state = &fs};
    struct stream_info info = {.request = h};
    const struct weighted_cluster *w = NULL;
    unsigned status = 0;
    const struct route *r = route_match(t, &in, a);
    CHECK(r == route_match(t, &in, a));
    route_remove_internal(t, h);
    if (!r)
        return;
    if (r != &r->vhost->tls_redirect)
        ask(r, &in, &info, a);
    switch (r->action) {
    case ROUTE_FORWARD:
        (void)route_cluster_name(r, &in, &w);
        CHECK(!r->num_weighted || w);
        route_rewrite_request(t, r, w, random & 2, h, &info);
        route_rewrite_host_auto(r, STR("host.name"), random & 2, h);
        CHECK(h->path.len);
        break;
    case ROUTE_REDIRECT:
        CHECK(route_redirect_location(r, h, in.tls, a, &status).len && status / 100 == 3);
        break;
    case ROUTE_DIRECT:
        break;
    }
    route_rewrite_response(t, r, w, h, &info);
}

/* The message's own changes to a request, one by one, as the filter header_mutation has them. */
static void change(const Envoy__Config__Route__V3__RouteConfiguration *m, struct headers *h,
                   struct arena *a)
{
    struct stream_info info = {.request = h};
    struct headers_mutation *made;
    struct errors e;

    for (size_t i = 0; i < m->n_request_headers_to_add; i++) {
        errors_init(&e);
        made = headers_mutation_add(a, m->request_headers_to_add[i], "append", &e);
        if (errors_ok(&e))
            headers_mutation_apply(made, h, &info);
        errors_cleanup(&e);
    }
    for (size_t i = 0; i < m->n_request_headers_to_remove; i++) {
        errors_init(&e);
        made = headers_mutation_remove(a, m->request_headers_to_remove[i], "remove", &e);
        if (errors_ok(&e)) {
            headers_mutation_apply(made, h, &info);
            CHECK(!headers_find(h, made->remove[0]));
        }
        errors_cleanup(&e);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct arena a, scratch;
    struct errors e;
    struct headers h;
    struct str rest = str_n((const char *)data, len);
    const struct route_compile_options opts = {.cluster_known = known,
                                               .validate_clusters = len % 2};
    arena_init(&a, 0);
    arena_init(&scratch, 0);
    errors_init(&e);
    read_head(&h, &rest, &scratch);
    const Envoy__Config__Route__V3__RouteConfiguration *m = PB_UNPACK(
        Envoy__Config__Route__V3__RouteConfiguration, envoy__config__route__v3__route_configuration,
        rest, &a, &e, NULL);
    struct route_table *t = m ? route_table_compile(m, len % 3 ? &opts : NULL, &e) : NULL;
    CHECK((t != NULL) == errors_ok(&e));
    for (struct error_item *it = e.first; it; it = it->next)
        CHECK(utf8_ok(it->path) && it->text.len);
    errors_cleanup(&e);
    if (m)
        change(m, &h, &scratch);
    arena_cleanup(&a); /* nothing of the message is kept */
    for (uint64_t i = 0; t && i < 3; i++)
        use(t, &h, i * 0x9e3779b97f4a7c15u, &scratch);
    route_table_unref(route_table_ref(t));
    route_table_unref(t);
    arena_cleanup(&scratch);
    return 0;
}
