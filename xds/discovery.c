#include "xds/discovery.h"

#include "base/utf8.h"

/* google.rpc.Code.INTERNAL, the code every NACK of Envoy carries. */
enum { RPC_INTERNAL = 13 };

/* next_field is wire_next with groups refused: no message here has one. */
static enum wire_result next_field(struct wire *w, struct wire_field *f)
{
    const char *why;
    enum wire_result r = wire_next(w, f, &why);
    if (r == WIRE_FIELD && (f->type == WIRE_GROUP_START || f->type == WIRE_GROUP_END))
        return WIRE_BAD;
    return r;
}

bool discovery_name_of(struct str bytes, unsigned field, struct str *out_name)
{
    struct wire w;
    struct wire_field f;
    enum wire_result r;
    *out_name = STR_NULL;
    wire_init(&w, bytes);
    while ((r = next_field(&w, &f)) == WIRE_FIELD) {
        if (f.number == field && f.type == WIRE_LEN)
            *out_name = f.bytes;
    }
    return r == WIRE_END && out_name->len > 0 && utf8_ok(*out_name);
}

/* ControlPlane: identifier 1. */
static bool parse_control_plane(struct str bytes, struct str *out)
{
    struct wire w;
    struct wire_field f;
    enum wire_result r;
    wire_init(&w, bytes);
    while ((r = next_field(&w, &f)) == WIRE_FIELD) {
        if (f.number == 1 && f.type == WIRE_LEN)
            *out = f.bytes;
    }
    return r == WIRE_END;
}

/* take_scalar reads one field of a response: version_info 1, resources 2, canary 3, type_url 4,
 * nonce 5, control_plane 6, resource_errors 7. Returns what is wrong with it, or NULL. */
static const char *take_scalar(const struct wire_field *f, struct discovery_response *out)
{
    if (f->number == 7)
        out->ignored = "resource_errors";
    if (f->number == 3 || f->number > 6)
        return NULL;
    if (f->type != WIRE_LEN)
        return "DiscoveryResponse: wrong wire type";
    switch (f->number) {
    case 1:
        out->version_info = f->bytes;
        break;
    case 4:
        out->type_url = f->bytes;
        break;
    case 5:
        out->nonce = f->bytes;
        break;
    case 6:
        if (!parse_control_plane(f->bytes, &out->control_plane))
            return "DiscoveryResponse.control_plane: malformed protobuf";
        break;
    }
    return NULL;
}

bool discovery_response_parse(struct str bytes, struct discovery_response *out, const char **why)
{
    struct wire w;
    struct wire_field f;
    enum wire_result r;
    *out = (struct discovery_response){0};
    wire_init(&w, bytes);
    wire_init(&out->rest, bytes);
    while ((r = next_field(&w, &f)) == WIRE_FIELD) {
        *why = take_scalar(&f, out);
        if (*why)
            return false;
    }
    *why = "DiscoveryResponse: malformed protobuf";
    if (r == WIRE_BAD)
        return false;
    *why = "DiscoveryResponse: a string is not UTF-8";
    return utf8_ok(out->version_info) && utf8_ok(out->nonce) && utf8_ok(out->type_url) &&
           utf8_ok(out->control_plane);
}

/* take_delta reads one field of an incremental response: system_version_info 1, resources 2,
 * type_url 4, nonce 5, removed_resources 6, control_plane 7, removed_resource_names 8,
 * resource_errors 9. Returns what is wrong, or NULL. */
static const char *take_delta(const struct wire_field *f, struct discovery_response *out)
{
    if (f->number == 8 || f->number == 9)
        out->ignored = f->number == 8 ? "removed_resource_names" : "resource_errors";
    if (f->number == 3 || f->number > 7)
        return NULL;
    if (f->type != WIRE_LEN)
        return "DeltaDiscoveryResponse: wrong wire type";
    switch (f->number) {
    case 1:
        out->version_info = f->bytes;
        break;
    case 4:
        out->type_url = f->bytes;
        break;
    case 5:
        out->nonce = f->bytes;
        break;
    case 6:
        if (!utf8_ok(f->bytes))
            return "DeltaDiscoveryResponse.removed_resources: not UTF-8";
        break;
    case 7:
        if (!parse_control_plane(f->bytes, &out->control_plane))
            return "DeltaDiscoveryResponse.control_plane: malformed protobuf";
        break;
    }
    return NULL;
}

bool discovery_delta_parse(struct str bytes, struct discovery_response *out, const char **why)
{
    struct wire w;
    struct wire_field f;
    enum wire_result r;
    *out = (struct discovery_response){.delta = true};
    wire_init(&w, bytes);
    wire_init(&out->rest, bytes);
    wire_init(&out->removed, bytes);
    while ((r = next_field(&w, &f)) == WIRE_FIELD) {
        *why = take_delta(&f, out);
        if (*why)
            return false;
    }
    *why = "DeltaDiscoveryResponse: malformed protobuf";
    if (r == WIRE_BAD)
        return false;
    *why = "DeltaDiscoveryResponse: a string is not UTF-8";
    return utf8_ok(out->version_info) && utf8_ok(out->nonce) && utf8_ok(out->type_url) &&
           utf8_ok(out->control_plane);
}

bool discovery_next_removed(struct discovery_response *r, struct str *name)
{
    struct wire_field f;
    while (next_field(&r->removed, &f) == WIRE_FIELD) {
        if (f.number != 6)
            continue;
        *name = f.bytes;
        return true;
    }
    return false;
}

/* Any: type_url 1, value 2. */
static const char *parse_any(struct str bytes, struct discovery_resource *out)
{
    struct wire w;
    struct wire_field f;
    enum wire_result r;
    out->type_url = STR_NULL;
    out->bytes = STR_NULL;
    wire_init(&w, bytes);
    while ((r = next_field(&w, &f)) == WIRE_FIELD) {
        if (f.number > 2)
            continue;
        if (f.type != WIRE_LEN)
            return "wrong wire type in google.protobuf.Any";
        if (f.number == 1)
            out->type_url = f.bytes;
        else
            out->bytes = f.bytes;
    }
    if (r == WIRE_BAD)
        return "malformed protobuf in google.protobuf.Any";
    if (!utf8_ok(out->type_url))
        return "type_url of google.protobuf.Any is not UTF-8";
    return out->type_url.len ? NULL : "google.protobuf.Any without type_url";
}

/* Duration: seconds 1, nanos 2. Part of a millisecond is one; more than ten thousand years, which
 * no Duration may be, and less than nothing are refused. */
static bool parse_ttl(struct str bytes, uint64_t *ms)
{
    uint64_t seconds = 0, nanos = 0;
    struct wire w;
    struct wire_field f;
    enum wire_result r;
    wire_init(&w, bytes);
    while ((r = next_field(&w, &f)) == WIRE_FIELD) {
        if (f.number > 2)
            continue;
        if (f.type != WIRE_VARINT)
            return false;
        if (f.number == 1)
            seconds = f.value;
        else
            nanos = f.value;
    }
    *ms = seconds * 1000 + (nanos + 999999) / 1000000;
    return r == WIRE_END && seconds <= 315576000000 && nanos <= 999999999 && *ms;
}

/* ignored_of is the name of a Resource's field that is not honoured; NULL for all others. */
static const char *ignored_of(uint32_t number)
{
    switch (number) {
    case 4:
        return "aliases";
    case 7:
        return "cache_control";
    case 8:
        return "resource_name";
    case 9:
        return "metadata";
    default:
        return NULL;
    }
}

/* Resource: version 1, resource 2 (Any), name 3, ttl 6. */
static const char *parse_wrapper(struct str bytes, struct discovery_resource *out)
{
    struct wire w;
    struct wire_field f;
    enum wire_result r;
    struct str any = STR_NULL;
    *out = (struct discovery_resource){.wrapped = true};
    wire_init(&w, bytes);
    while ((r = next_field(&w, &f)) == WIRE_FIELD) {
        if ((f.number <= 3 || f.number == 6) && f.type != WIRE_LEN)
            return "wrong wire type in envoy.service.discovery.v3.Resource";
        if (f.number == 1)
            out->version = f.bytes;
        if (f.number == 2)
            any = f.bytes;
        if (f.number == 3)
            out->name = f.bytes;
        out->has_body |= f.number == 2;
        if (ignored_of(f.number))
            out->ignored = ignored_of(f.number);
        if (f.number == 6 && !parse_ttl(f.bytes, &out->ttl_ms))
            return "ttl of envoy.service.discovery.v3.Resource is not a duration above 0";
    }
    if (r == WIRE_BAD)
        return "malformed protobuf in envoy.service.discovery.v3.Resource";
    if (!utf8_ok(out->name) || !utf8_ok(out->version))
        return "a string of envoy.service.discovery.v3.Resource is not UTF-8";
    return out->has_body ? parse_any(any, out) : NULL;
}

bool discovery_next(struct discovery_response *r, struct discovery_resource *out, const char **why)
{
    struct wire_field f;
    *why = NULL;
    while (next_field(&r->rest, &f) == WIRE_FIELD) {
        if (f.number != 2)
            continue;
        *out = (struct discovery_resource){.has_body = true};
        r->index++;
        *why = r->delta ? parse_wrapper(f.bytes, out) : parse_any(f.bytes, out);
        if (r->delta)
            return true;
        if (!*why &&
            str_eq(out->type_url, STR("type.googleapis.com/envoy.service.discovery.v3.Resource")))
            *why = parse_wrapper(out->bytes, out);
        return true;
    }
    return false;
}

/* --- writing: two passes with the same code, one that counts and one that writes ----------------
 */

struct writer {
    char *p; /* NULL: count only */
    size_t len;
};

static void put_bytes(struct writer *w, const void *p, size_t len)
{
    if (w->p && len)
        memcpy(w->p + w->len, p, len);
    w->len += len;
}

static void put_varint(struct writer *w, uint64_t v)
{
    do {
        uint8_t b = v & 0x7f;
        v >>= 7;
        if (v)
            b |= 0x80;
        put_bytes(w, &b, 1);
    } while (v);
}

static void put_len_field(struct writer *w, unsigned field, struct str s)
{
    put_varint(w, field << 3 | WIRE_LEN);
    put_varint(w, s.len);
    put_bytes(w, s.p, s.len);
}

static void put_str(struct writer *w, unsigned field, struct str s)
{
    if (s.len)
        put_len_field(w, field, s);
}

/* google.rpc.Status: code 1, message 2. */
static void put_status(struct writer *w, struct str text)
{
    put_varint(w, 1 << 3 | WIRE_VARINT);
    put_varint(w, RPC_INTERNAL);
    put_str(w, 2, text);
}

/* put_error writes error_detail as field `field`. */
static void put_error(struct writer *w, unsigned field, struct str text)
{
    struct writer status = {0};
    put_status(&status, text);
    put_varint(w, field << 3 | WIRE_LEN);
    put_varint(w, status.len);
    put_status(w, text);
}

static void put_request(struct writer *w, const struct discovery_request *r)
{
    put_str(w, 1, r->version_info);
    put_str(w, 2, r->node);
    for (size_t i = 0; i < r->num_names; i++)
        put_len_field(w, 3, r->names[i]);
    put_str(w, 4, r->type_url);
    put_str(w, 5, r->response_nonce);
    if (r->nack)
        put_error(w, 6, r->error);
}

struct str discovery_request_encode(const struct discovery_request *r, struct arena *a)
{
    struct writer w = {0};
    put_request(&w, r);
    w = (struct writer){.p = arena_bytes(a, w.len ? w.len : 1)};
    put_request(&w, r);
    return str_n(w.p, w.len);
}

/* An entry of a map: key 1, value 2. */
static void put_entry(struct writer *w, const struct discovery_version *v)
{
    put_len_field(w, 1, v->name);
    put_len_field(w, 2, v->version);
}

static void put_delta_request(struct writer *w, const struct discovery_delta_request *r)
{
    put_str(w, 1, r->node);
    put_str(w, 2, r->type_url);
    for (size_t i = 0; i < r->num_subscribe; i++)
        put_len_field(w, 3, r->subscribe[i]);
    for (size_t i = 0; i < r->num_unsubscribe; i++)
        put_len_field(w, 4, r->unsubscribe[i]);
    for (size_t i = 0; i < r->num_initial; i++) {
        struct writer entry = {0};
        put_entry(&entry, &r->initial[i]);
        put_varint(w, 5 << 3 | WIRE_LEN);
        put_varint(w, entry.len);
        put_entry(w, &r->initial[i]);
    }
    put_str(w, 6, r->response_nonce);
    if (r->nack)
        put_error(w, 7, r->error);
}

struct str discovery_delta_request_encode(const struct discovery_delta_request *r, struct arena *a)
{
    struct writer w = {0};
    put_delta_request(&w, r);
    w = (struct writer){.p = arena_bytes(a, w.len ? w.len : 1)};
    put_delta_request(&w, r);
    return str_n(w.p, w.len);
}
