// covers: api-protos/wire.c
// covers: api-protos/walk.c
// covers: api-protos/message.c
// covers: api-protos/merge.c
// covers: api-protos/canonical.c
// covers: api-protos/validate.c
// covers: api-protos/rules.c
// covers: api-protos/any.c
// covers: api-protos/official.c
// covers: api-protos/registry.c
/* Bytes of a control plane. The first byte chooses the type, the second the options; the rest is
 * the message. What passes the walk is unpacked unless it is too large; what is unpacked can be
 * packed, passes again, and has one canonical form; all that is refused says where. */
#include "api-protos/message.h"
#include "base/utf8.h"
#include "envoy/service/discovery/v3/discovery.pb-c.h"
#include "google/protobuf/any.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const char *const types[] = {
    "google.protobuf.Any",
    "envoy.service.discovery.v3.DiscoveryResponse",
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "envoy.config.listener.v3.Listener",
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.extensions.transport_sockets.tls.v3.Secret",
    "envoy.config.bootstrap.v3.Bootstrap",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "google.protobuf.Struct",
    "envoy.config.core.v3.Metadata",
    "envoy.config.accesslog.v3.AccessLogFilter",
};

static void check_errors(const struct errors *e)
{
    struct arena a;
    arena_init(&a, 0);
    for (const struct error_item *it = e->first; it; it = it->next) {
        CHECK(it->text.len && utf8_ok(it->text) && utf8_ok(it->path));
        CHECK(!memchr(it->path.p, '\0', it->path.len));
    }
    (void)errors_text(e, &a);
    arena_cleanup(&a);
}

static void check_any(const ProtobufCMessage *m, struct arena *a, const struct pb_opts *opts)
{
    struct errors e;
    struct pb_any out;
    errors_init(&e);
    enum pb_any_status s = pb_any_unpack((const Google__Protobuf__Any *)(const void *)m, a, &e,
                                         opts, &out);
    CHECK((s == PB_ANY_INVALID) == !errors_ok(&e));
    CHECK((s == PB_ANY_OK) == (out.message != NULL));
    check_errors(&e);
    errors_cleanup(&e);
}

static void check_canonical(const ProtobufCMessageDescriptor *type, struct str bytes,
                            struct arena *a)
{
    struct str once = pb_canonical(type, bytes, a);
    struct str twice = pb_canonical(type, once, a);
    CHECK(once.len == bytes.len && str_eq(once, twice) && pb_hash(once) == pb_hash(twice));
}

static void check_message(const ProtobufCMessageDescriptor *type, const ProtobufCMessage *m,
                          struct arena *a, const struct pb_opts *opts)
{
    struct errors e;
    errors_init(&e);
    struct str packed = pb_pack(m, a);
    CHECK(pb_walk(type, packed, &e, opts));
    check_canonical(type, packed, a);
    ProtobufCMessage *again = pb_unpack(type, packed, a, &e, opts);
    CHECK(!again || str_eq(pb_pack(again, a), packed));
    if (type == &google__protobuf__any__descriptor)
        check_any(m, a, opts);
    if (type == &envoy__service__discovery__v3__discovery_response__descriptor) {
        const Envoy__Service__Discovery__V3__DiscoveryResponse *r = (const void *)m;
        for (size_t i = 0; i < r->n_resources; i++)
            check_any(&r->resources[i]->base, a, opts);
    }
    errors_cleanup(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    const ProtobufCMessageDescriptor *type = pb_find(str_of(types[data[0] % ARRAY_LEN(types)]));
    struct pb_counts counts = {0};
    struct pb_opts opts = {.reject_unknown = data[1] & 1, .strict = data[1] & 2, .counts = &counts};
    /* a copy of the exact size, so that reading beyond it is seen */
    char *copy = mem_alloc(len - 2 ? len - 2 : 1);
    memcpy(copy, data + 2, len - 2);
    struct str bytes = str_n(copy, len - 2);
    struct arena a;
    struct errors e;
    arena_init(&a, 0);
    errors_init(&e);
    CHECK(pb_pack(pb_new(type, &a), &a).len == 0);
    check_canonical(type, bytes, &a);
    ProtobufCMessage *m = pb_unpack(type, bytes, &a, &e, &opts);
    CHECK((m != NULL) == errors_ok(&e));
    if (m)
        check_message(type, m, &a, &opts);
    check_errors(&e);
    errors_cleanup(&e);
    arena_cleanup(&a);
    mem_free(copy);
    return 0;
}
