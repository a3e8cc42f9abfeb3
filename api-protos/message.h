/* Messages: bytes to generated structs and back. Every byte that describes configuration comes in
 * here, whether a control plane sent it or a file held it as JSON or YAML (mapping.h makes bytes of
 * text first), so that all sources accept and refuse the same.
 *
 * pb_unpack runs in three steps: the wire walk (wire types, depth, UTF-8, NUL, groups, fields that
 * are unknown or not honoured), protobuf-c's unpack into the arena, and the documented validation
 * rules. All errors are collected with their field paths, below the path the collector is at.
 *
 * The support contract: a field listed in api-protos/(package)/X.proto is honoured; every other
 * official field is known to official_table.c only, with a class. To honour one more field:
 *     tools/venv-python tools/protos/trim.py add envoy.config.cluster.v3.Cluster:dns_lookup_family
 * then read it in the owner's compile function. Nothing else: official_table.c holds the whole
 * official API and needs `make protos-table` only for a newer API, for messages of our own, and
 * when a class changes (tools/protos/classes.txt). A message that comes with a field has no fields
 * at first: add those that are read. What is listed and not read is a bug: `trim.py remove` it. (A
 * line may be written by hand; `trim.py` without arguments then puts the files in order.)
 *
 * Generated structs are read by the owners' compile functions only. Strings are never NULL (unset
 * is "") and hold no NUL byte. Enums are listed whole: the compile function refuses values it does
 * not implement.
 * Any thread; an arena and a collector have one user at a time. */
#pragma once

#include "base/arena.h"
#include "base/errors.h"
#include "base/str.h"
#include <protobuf-c/protobuf-c.h>

struct Google__Protobuf__Any;

enum { PB_DEPTH_MAX = 100 }; /* nesting of messages, as in the official libraries */

/* What was met and not honoured: server.static_unknown_fields or server.dynamic_unknown_fields,
 * and fields accepted with a warning. */
struct pb_counts {
    uint64_t unknown_fields;
    uint64_t unsupported_fields;
};

/* How to treat what is not listed. A zeroed struct is Envoy's treatment of dynamic resources. */
struct pb_opts {
    bool reject_unknown;      /* a field unknown to the official API is an error, else counted */
    bool strict;              /* --strict-fields: an official field not honoured is an error */
    struct pb_counts *counts; /* NULL: not counted */
};

/* pb_unpack turns `bytes` into a message of `type` in the arena. NULL if any error was added to e.
 * opts NULL: all zero. Strings and bytes of the result are copies in the arena. Two serialised
 * messages one after the other are their merge (--config-yaml over -c). */
ProtobufCMessage *pb_unpack(const ProtobufCMessageDescriptor *type, struct str bytes,
                            struct arena *a, struct errors *e,
                            const struct pb_opts *opts) WARN_UNUSED;

/* PB_UNPACK is pb_unpack with the result's type: PB_UNPACK(Envoy__Config__Cluster__V3__Cluster,
 * envoy__config__cluster__v3__cluster, bytes, a, e, opts). */
#define PB_UNPACK(ctype, lower, bytes, a, e, opts)                                                 \
    ((ctype *)(void *)pb_unpack(&lower##__descriptor, bytes, a, e, opts))

/* pb_walk is the wire walk alone; returns whether no error was added. */
bool pb_walk(const ProtobufCMessageDescriptor *type, struct str bytes, struct errors *e,
             const struct pb_opts *opts);

/* pb_validate checks the documented rules of an unpacked message and all below it (Any contents
 * are checked when they are unpacked); returns whether no error was added. */
bool pb_validate(const ProtobufCMessage *message, struct errors *e);

/* pb_new returns an empty message in the arena; PB_NEW with the result's type. (The generated
 * __INIT macros name a symbol of protobuf-c, which only this layer may use.) */
ProtobufCMessage *pb_new(const ProtobufCMessageDescriptor *type, struct arena *a);
#define PB_NEW(ctype, lower, a) ((ctype *)(void *)pb_new(&lower##__descriptor, a))

/* pb_pack serialises into the arena. */
struct str pb_pack(const ProtobufCMessage *message, struct arena *a);

/* pb_find returns the generated descriptor of a full message name ("envoy.config...Cluster") or
 * type URL (everything up to the last slash is dropped); NULL if it is not listed. */
const ProtobufCMessageDescriptor *pb_find(struct str name_or_url);

/* pb_is_official says whether the official API (or our own protos) knows the name or type URL. */
bool pb_is_official(struct str name_or_url);

/* --- Any --------------------------------------------------------------------------------- */

enum pb_any_status {
    PB_ANY_OK,
    PB_ANY_EMPTY,   /* absent, or without a type URL; no error added */
    PB_ANY_UNKNOWN, /* its type is not listed; no error added: the caller says what it means */
    PB_ANY_INVALID, /* errors were added */
};

struct pb_any {
    struct str type_name;                   /* without the URL's prefix, TypedStruct resolved */
    const ProtobufCMessageDescriptor *type; /* NULL unless PB_ANY_OK or PB_ANY_INVALID */
    ProtobufCMessage *message;              /* PB_ANY_OK only */
    struct str bytes;                       /* serialised, of type_name; in the Any or the arena */
};

/* pb_any_unpack unpacks what an Any holds; xds.type.v3.TypedStruct and udpa.type.v1.TypedStruct are
 * resolved to their inner type by the JSON mapping. `any` may be NULL. The caller has pushed the
 * path of the field. All of *out is set in every case. */
enum pb_any_status pb_any_unpack(const struct Google__Protobuf__Any *any, struct arena *a,
                                 struct errors *e, const struct pb_opts *opts,
                                 struct pb_any *out) WARN_UNUSED;

/* --- equality of serialised messages ------------------------------------------------------- */

/* pb_canonical returns the bytes with the entries of every map in one order (by key), also inside
 * Any: control planes written in Go marshal maps in random order. Two messages that differ in
 * nothing else have equal canonical bytes. Bytes that do not parse come back unchanged. The result
 * is `bytes` itself if nothing had to move, else a copy in the arena. */
struct str pb_canonical(const ProtobufCMessageDescriptor *type, struct str bytes, struct arena *a);

/* pb_hash hashes canonical bytes (XXH3, 64 bits). Equal hashes are confirmed with str_eq. */
uint64_t pb_hash(struct str canonical);
