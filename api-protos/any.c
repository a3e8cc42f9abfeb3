#include "api-protos/message.h"

#include "api-protos/mapping.h"
#include "api-protos/registry.h"
#include "google/protobuf/any.pb-c.h"
#include "udpa/type/v1/typed_struct.pb-c.h"
#include "xds/type/v3/typed_struct.pb-c.h"

/* TypedStruct in a TypedStruct in a TypedStruct means nothing. */
enum { NESTED_MAX = 4 };

static enum pb_any_status unpack_named(struct str url, struct str bytes, struct arena *a,
                                       struct errors *e, const struct pb_opts *opts,
                                       unsigned nested, struct pb_any *out);

/* The JSON tree of a Struct, through its JSON form: what is in it is mapped as if it were JSON. */
static const struct json *struct_tree(const Google__Protobuf__Struct *s, struct arena *a,
                                      struct errors *e)
{
    struct json_error err;
    static const char empty[] = "{}";
    struct str text = s ? pb_message_to_json(&s->base, 0, a) : str_of(empty);
    const struct json *tree = text.p ? json_parse(text, 0, a, &err) : NULL;
    if (!tree)
        errors_add(e, "value", "not a Struct that JSON can hold");
    return tree;
}

static enum pb_any_status unpack_struct(const char *url, const Google__Protobuf__Struct *value,
                                        struct arena *a, struct errors *e,
                                        const struct pb_opts *opts, unsigned nested,
                                        struct pb_any *out)
{
    struct str type_url = str_of(url);
    struct str bytes;
    out->type_name = registry_strip(type_url);
    if (type_url.len == 0) {
        errors_add(e, "type_url", "value is required");
        return PB_ANY_INVALID;
    }
    const ProtobufCMessageDescriptor *type = pb_find(type_url);
    if (!type)
        return PB_ANY_UNKNOWN;
    size_t errors_before = e->num_errors;
    const struct json *tree = struct_tree(value, a, e);
    if (e->num_errors != errors_before || !pb_json_to_wire(type, tree, a, e, opts, &bytes))
        return PB_ANY_INVALID;
    return unpack_named(type_url, bytes, a, e, opts, nested + 1, out);
}

static enum pb_any_status unpack_named(struct str url, struct str bytes, struct arena *a,
                                       struct errors *e, const struct pb_opts *opts,
                                       unsigned nested, struct pb_any *out)
{
    const ProtobufCMessageDescriptor *type = pb_find(url);
    out->type_name = registry_strip(url);
    out->bytes = bytes;
    out->type = type;
    if (!type)
        return PB_ANY_UNKNOWN;
    if (nested > NESTED_MAX) {
        errors_add(e, NULL, "TypedStructs nested too deeply");
        return PB_ANY_INVALID;
    }
    ProtobufCMessage *message = pb_unpack(type, bytes, a, e, opts);
    if (!message)
        return PB_ANY_INVALID;
    if (type == &xds__type__v3__typed_struct__descriptor) {
        const Xds__Type__V3__TypedStruct *t = (const Xds__Type__V3__TypedStruct *)message;
        out->type = NULL;
        return unpack_struct(t->type_url, t->value, a, e, opts, nested, out);
    }
    if (type == &udpa__type__v1__typed_struct__descriptor) {
        const Udpa__Type__V1__TypedStruct *t = (const Udpa__Type__V1__TypedStruct *)message;
        out->type = NULL;
        return unpack_struct(t->type_url, t->value, a, e, opts, nested, out);
    }
    out->message = message;
    return PB_ANY_OK;
}

enum pb_any_status pb_any_unpack(const Google__Protobuf__Any *any, struct arena *a,
                                 struct errors *e, const struct pb_opts *opts, struct pb_any *out)
{
    *out = (struct pb_any){0};
    if (!any)
        return PB_ANY_EMPTY;
    struct str url = str_of(any->type_url);
    struct str bytes = str_n((const char *)any->value.data, any->value.len);
    if (url.len == 0 && bytes.len == 0)
        return PB_ANY_EMPTY;
    if (url.len == 0) {
        errors_add(e, "type_url", "value is required");
        return PB_ANY_INVALID;
    }
    return unpack_named(url, bytes, a, e, opts, 0, out);
}
