#include "api-protos/message.h"

#include "api-protos/merge.h"
#include "api-protos/registry.h"
#include "api-protos/walk.h"
#include "base/hash.h"

/* protobuf-c's allocator over an arena with a limit: a few bytes can ask for large structs. */
struct budget {
    struct arena *arena;
    size_t left;
};

enum { BUDGET_BASE = 65536, BUDGET_PER_BYTE = 128 };

static void *budget_alloc(void *arg, size_t len)
{
    struct budget *b = arg;
    if (len > b->left)
        return NULL;
    b->left -= len;
    return arena_alloc(b->arena, len);
}

static void budget_free(void *arg, void *p)
{
}

ProtobufCMessage *pb_unpack(const ProtobufCMessageDescriptor *type, struct str bytes,
                            struct arena *a, struct errors *e, const struct pb_opts *opts)
{
    struct budget budget = {a, BUDGET_BASE + bytes.len * BUDGET_PER_BYTE};
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &budget};
    bool pieces;
    if (!walk_bytes(registry_official(type), bytes, e, opts, &pieces))
        return NULL;
    if (pieces)
        bytes = merge_pieces(registry_official(type), bytes, a);
    ProtobufCMessage *message = protobuf_c_message_unpack(type, &allocator, bytes.len,
                                                          (const uint8_t *)bytes.p);
    if (!message) {
        errors_add(e, NULL, "takes too much memory for its %zu bytes", bytes.len);
        return NULL;
    }
    return pb_validate(message, e) ? message : NULL;
}

ProtobufCMessage *pb_new(const ProtobufCMessageDescriptor *type, struct arena *a)
{
    ProtobufCMessage *m = arena_alloc(a, type->sizeof_message);
    protobuf_c_message_init(type, m);
    return m;
}

struct str pb_pack(const ProtobufCMessage *message, struct arena *a)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    char *p = arena_bytes(a, len + 1);
    size_t n = protobuf_c_message_pack(message, (uint8_t *)p);
    CHECK(n == len);
    return str_n(p, len);
}

uint64_t pb_hash(struct str canonical)
{
    return hash_xxh64(canonical.p, canonical.len, 0);
}
