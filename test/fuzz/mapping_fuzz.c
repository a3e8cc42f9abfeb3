// covers: api-protos/json_in.c
// covers: api-protos/json_out.c
// covers: api-protos/encode.c
// covers: api-protos/scalar_text.c
/* The JSON mapping. The first byte chooses the type and the direction. Text: what is mapped to
 * bytes passes the walk's structure, can be shown, and what is shown maps to bytes that are shown
 * the same. Bytes: anything may come; what is shown is JSON. */
#include "api-protos/mapping.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const char *const types[] = {
    "google.protobuf.Any",
    "envoy.config.bootstrap.v3.Bootstrap",
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.listener.v3.Listener",
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.extensions.transport_sockets.tls.v3.Secret",
    "google.protobuf.Struct",
    "google.protobuf.FieldMask",
};

static struct str show(const ProtobufCMessageDescriptor *type, struct str bytes, unsigned flags,
                       struct arena *a)
{
    struct json_writer w;
    struct json_error err;
    json_writer_init(&w, flags & PB_JSON_PRETTY);
    bool ok = pb_to_json(type, bytes, flags, &w);
    struct str text = ok ? arena_str(a, json_writer_text(&w)) : STR_NULL;
    if (ok)
        CHECK(json_parse(text, JSON_DUPLICATES_LAST, a, &err));
    else
        CHECK(w.len == 0);
    json_writer_cleanup(&w);
    return text;
}

static void check_text(const ProtobufCMessageDescriptor *type, struct str text, struct arena *a)
{
    struct json_error err;
    struct errors e;
    struct str bytes, again;
    struct pb_opts opts = {.reject_unknown = true};
    const struct json *tree = json_parse(text, JSON_TRAILING_COMMAS, a, &err);
    if (!tree)
        return;
    errors_init(&e);
    if (pb_json_to_wire(type, tree, a, &e, &opts, &bytes)) {
        struct str shown = show(type, bytes, 0, a);
        CHECK(shown.p);
        tree = json_parse(shown, 0, a, &err);
        CHECK(tree && pb_json_to_wire(type, tree, a, &e, &opts, &again));
        CHECK(str_eq(show(type, again, 0, a), shown));
        (void)show(type, bytes, PB_JSON_REDACT | PB_JSON_PRETTY, a);
        (void)show(type, bytes, PB_JSON_DEFAULTS, a);
    } else {
        CHECK(!errors_ok(&e));
    }
    errors_cleanup(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1)
        return 0;
    const ProtobufCMessageDescriptor *type = pb_find(str_of(types[data[0] % ARRAY_LEN(types)]));
    char *copy = mem_alloc(len);
    memcpy(copy, data + 1, len - 1);
    struct str input = str_n(copy, len - 1);
    struct arena a;
    arena_init(&a, 0);
    if (data[0] < 128) {
        check_text(type, input, &a);
    } else {
        (void)show(type, input, 0, &a);
        (void)show(type, input, PB_JSON_REDACT | PB_JSON_DEFAULTS, &a);
    }
    arena_cleanup(&a);
    mem_free(copy);
    return 0;
}
