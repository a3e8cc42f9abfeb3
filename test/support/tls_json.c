#include "test/support/tls_json.h"

#include "api-protos/mapping.h"
#include <stdio.h>

static const struct json *parse(const char *json, struct arena *a)
{
    struct json_error err;
    const struct json *tree = json_parse(str_of(json), JSON_TRAILING_COMMAS, a, &err);
    if (!tree)
        fprintf(stderr, "JSON, line %u: %s\n%s\n", err.line, err.text, json);
    CHECK(tree);
    return tree;
}

struct transport_factory *tls_json_factory(struct tls_secrets *secrets, bool server,
                                           const char *json, struct errors *e)
{
    struct arena a;
    struct transport_factory *f = NULL;
    const struct pb_opts opts = {.reject_unknown = true};
    arena_init(&a, 0);
    const struct json *tree = parse(json, &a);
    if (server) {
        const TLS_V3(DownstreamTlsContext) *msg = (const void *)pb_from_json(
            &envoy__extensions__transport_sockets__tls__v3__downstream_tls_context__descriptor,
            tree, &a, e, &opts);
        if (msg)
            f = tls_factory_downstream(msg, secrets, NULL, e);
    } else {
        const TLS_V3(UpstreamTlsContext) *msg = (const void *)pb_from_json(
            &envoy__extensions__transport_sockets__tls__v3__upstream_tls_context__descriptor, tree,
            &a, e, &opts);
        if (msg)
            f = tls_factory_upstream(msg, secrets, NULL, e);
    }
    arena_cleanup(&a);
    return f;
}

struct str tls_json_secret(const char *json, struct arena *a)
{
    struct errors e;
    struct str out = STR_NULL;
    errors_init(&e);
    bool ok = pb_json_to_wire(&envoy__extensions__transport_sockets__tls__v3__secret__descriptor,
                              parse(json, a), a, &e, NULL, &out);
    CHECK(ok);
    errors_cleanup(&e);
    return out;
}

const char *json_quote(const char *text, struct arena *a)
{
    struct json_writer w;
    json_writer_init(&w, false);
    json_put_str(&w, str_of(text));
    struct str s = arena_str(a, json_writer_text(&w));
    json_writer_cleanup(&w);
    return s.p;
}
