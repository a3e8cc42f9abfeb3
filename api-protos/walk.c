#include "api-protos/walk.h"

#include "api-protos/registry.h"
#include "api-protos/wire.h"
#include "base/utf8.h"
#include <ctype.h>
#include <stdio.h>

/* Where the walk is: one frame a message, on the C stack. Text is made of it for an error only. */
struct frame {
    const struct frame *up;
    const struct official_field *field; /* that holds this message; NULL at the root */
    struct str parent;                  /* the bytes of the message that holds it */
    const char *at;                     /* where in them the field's tag is */
};

struct walk {
    struct errors *e;
    const struct pb_opts *opts;
    size_t errors_before;
    bool pieces; /* a singular message stands more than once */
};

/* Which singular messages were met in a message: one bit a field. */
struct seen {
    uint64_t bits[2];
};

/* The index of an element is counted when it is asked for: elements may lie scattered. */
static size_t index_in(struct str parent, uint32_t number, const char *at)
{
    struct wire w;
    struct wire_field f;
    const char *why;
    size_t n = 0;
    wire_init(&w, parent);
    while (wire_next(&w, &f, &why) == WIRE_FIELD && f.whole.p != at)
        n += f.number == number;
    return n;
}

/* The key of a map entry as text that can stand in an error. */
static struct str key_text(struct str entry, char *out, size_t cap)
{
    struct wire w;
    struct wire_field f;
    const char *why;
    size_t n = 0;
    wire_init(&w, entry);
    while (wire_next(&w, &f, &why) == WIRE_FIELD) {
        if (f.number != 1 || f.type != WIRE_LEN)
            continue;
        for (n = 0; n < f.bytes.len && n < cap; n++)
            out[n] = isprint((unsigned char)f.bytes.p[n]) ? f.bytes.p[n] : '?';
    }
    return str_n(out, n);
}

static void push_field(struct errors *e, const struct official_field *f, struct str parent,
                       const char *at)
{
    const char *name = official_strings + f->name;
    if (f->flags & OFFICIAL_REPEATED) {
        errors_push_index(e, name, index_in(parent, f->number, at));
    } else if (f->flags & OFFICIAL_MAP) {
        struct wire w;
        struct wire_field entry;
        const char *why;
        char key[64];
        wire_init(&w, str_n(at, (size_t)(parent.p + parent.len - at)));
        if (wire_next(&w, &entry, &why) == WIRE_FIELD && entry.type == WIRE_LEN)
            errors_push_key(e, name, key_text(entry.bytes, key, sizeof(key)));
        else
            errors_push(e, name);
    } else {
        errors_push(e, name);
    }
}

static void push_frames(struct errors *e, const struct frame *fr)
{
    if (!fr || !fr->field)
        return;
    push_frames(e, fr->up);
    /* inside a map the entry is in the path as [key], its value is not a step of its own */
    bool entry_value = fr->up && fr->up->field && (fr->up->field->flags & OFFICIAL_MAP);
    if (!entry_value)
        push_field(e, fr->field, fr->parent, fr->at);
}

enum severity { ERROR, WARNING };

/* Reports at the field of `bytes` that begins at `at` (f NULL: at the message itself). */
static void report(struct walk *w, enum severity severity, const struct frame *fr,
                   const struct official_field *f, struct str bytes, const char *at,
                   const char *text)
{
    bool full = severity == ERROR ? w->e->num_errors >= ERRORS_MAX
                                  : w->e->num_warnings >= ERRORS_MAX;
    size_t mark = errors_push(w->e, NULL);
    if (!full) {
        push_frames(w->e, fr);
        bool in_entry = fr->field && (fr->field->flags & OFFICIAL_MAP);
        if (f && !in_entry)
            push_field(w->e, f, bytes, at);
    }
    if (severity == ERROR)
        errors_add(w->e, NULL, "%s", text);
    else
        errors_warn(w->e, NULL, "%s", text);
    errors_pop(w->e, mark);
}

static void meet_unknown(struct walk *w, const struct frame *fr, struct str bytes,
                         const struct wire_field *wf)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "unknown field number %u", (unsigned)wf->number);
    if (w->opts->counts)
        w->opts->counts->unknown_fields++;
    if (w->opts->reject_unknown)
        report(w, ERROR, fr, NULL, bytes, NULL, text);
}

static bool oneof_required(const struct official_message *m, const struct official_field *f)
{
    return f->oneof && official_oneofs[m->first_oneof + f->oneof - 1].required;
}

/* An official field that is not honoured. */
static void meet_unsupported(struct walk *w, const struct frame *fr,
                             const struct official_message *m, const struct official_field *f,
                             struct str bytes, const struct wire_field *wf)
{
    static const char *const refused[] = {
        [OFFICIAL_OTHER] = "not supported, refused by --strict-fields",
        [OFFICIAL_SECURITY] = "not supported, and not ignored because security depends on it",
        [OFFICIAL_MATCHING] = "not supported, and not ignored because what matches depends on it",
        [OFFICIAL_TLS] = "not supported, and not ignored because TLS depends on it",
    };
    const char *text = refused[f->class];
    if (f->class == OFFICIAL_OTHER && oneof_required(m, f))
        text = "not supported, and one of the supported choices is required";
    else if (f->class == OFFICIAL_OTHER && !w->opts->strict)
        text = NULL;
    if (w->opts->counts)
        w->opts->counts->unsupported_fields++;
    if (text)
        report(w, ERROR, fr, f, bytes, wf->whole.p, text);
    else if (registry_first_warning(f))
        report(w, WARNING, fr, f, bytes, wf->whole.p, "not supported, ignored");
}

static enum wire_type native_type(const struct official_field *f)
{
    switch ((enum official_type)f->type) {
    case TYPE_DOUBLE:
    case TYPE_FIXED64:
    case TYPE_SFIXED64:
        return WIRE_I64;
    case TYPE_FLOAT:
    case TYPE_FIXED32:
    case TYPE_SFIXED32:
        return WIRE_I32;
    case TYPE_STRING:
    case TYPE_BYTES:
    case TYPE_MESSAGE:
    case TYPE_GROUP:
        return WIRE_LEN;
    case TYPE_INT64:
    case TYPE_UINT64:
    case TYPE_INT32:
    case TYPE_BOOL:
    case TYPE_UINT32:
    case TYPE_ENUM:
    case TYPE_SINT32:
    case TYPE_SINT64:
        return WIRE_VARINT;
    }
    return WIRE_VARINT;
}

static bool packed_ok(enum wire_type native, struct str bytes)
{
    struct wire w;
    uint64_t v;
    if (native != WIRE_VARINT)
        return bytes.len % (native == WIRE_I64 ? 8 : 4) == 0;
    wire_init(&w, bytes);
    while (w.p < w.end) {
        if (!wire_varint(&w, &v))
            return false;
    }
    return true;
}

/* What is wrong with the value of a scalar field, NULL if nothing. */
static const char *scalar_fault(const struct official_field *f, const struct wire_field *wf)
{
    enum wire_type native = native_type(f);
    bool repeated = f->flags & OFFICIAL_REPEATED;
    if (wf->type == WIRE_LEN && native != WIRE_LEN && repeated)
        return packed_ok(native, wf->bytes) ? NULL : "packed values that are malformed or cut off";
    if (wf->type != native)
        return "wrong wire type";
    if (f->type != TYPE_STRING)
        return NULL;
    if (wf->bytes.len && memchr(wf->bytes.p, '\0', wf->bytes.len))
        return "a NUL byte in a string";
    return utf8_ok(wf->bytes) ? NULL : "invalid UTF-8 in a string";
}

static void walk_message(struct walk *w, const struct official_message *m, struct str bytes,
                         const struct frame *fr, unsigned depth);

static void note_pieces(struct walk *w, const struct official_message *m,
                        const struct official_field *f, struct seen *seen)
{
    size_t i = (size_t)(f - &official_fields[m->first_field]);
    uint64_t bit = UINT64_C(1) << (i % 64);
    if (f->flags & (OFFICIAL_REPEATED | OFFICIAL_MAP))
        return;
    CHECK(i < 128);
    w->pieces = w->pieces || (seen->bits[i / 64] & bit);
    seen->bits[i / 64] |= bit;
}

static void walk_field(struct walk *w, const struct official_message *m,
                       const struct wire_field *wf, struct str bytes, const struct frame *fr,
                       unsigned depth, struct seen *seen)
{
    const struct official_field *f = official_by_number(m, wf->number);
    if (!f) {
        meet_unknown(w, fr, bytes, wf);
        return;
    }
    /* entries of maps are generated with their message and are in no list */
    if (m->kind != OFFICIAL_MAP_ENTRY && !registry_honoured(f)) {
        meet_unsupported(w, fr, m, f, bytes, wf);
        return;
    }
    const struct official_message *target = official_target(f);
    if (!target) {
        const char *fault = scalar_fault(f, wf);
        if (fault)
            report(w, ERROR, fr, f, bytes, wf->whole.p, fault);
        return;
    }
    if (wf->type != WIRE_LEN) {
        report(w, ERROR, fr, f, bytes, wf->whole.p, "wrong wire type");
        return;
    }
    note_pieces(w, m, f, seen);
    struct frame inner = {fr, f, bytes, wf->whole.p};
    walk_message(w, target, wf->bytes, &inner, depth + 1);
}

static void walk_message(struct walk *w, const struct official_message *m, struct str bytes,
                         const struct frame *fr, unsigned depth)
{
    struct wire cursor;
    struct wire_field wf;
    const char *why = NULL;
    enum wire_result r;
    struct seen seen = {{0}};
    if (depth > PB_DEPTH_MAX) {
        report(w, ERROR, fr, NULL, bytes, NULL, "messages nested deeper than 100");
        return;
    }
    wire_init(&cursor, bytes);
    while ((r = wire_next(&cursor, &wf, &why)) == WIRE_FIELD) {
        if (wf.type == WIRE_GROUP_START || wf.type == WIRE_GROUP_END) {
            why = "a group, which proto3 does not have";
            r = WIRE_BAD;
            break;
        }
        walk_field(w, m, &wf, bytes, fr, depth, &seen);
    }
    if (r == WIRE_BAD)
        report(w, ERROR, fr, NULL, bytes, NULL, why);
}

bool walk_bytes(const struct official_message *m, struct str bytes, struct errors *e,
                const struct pb_opts *opts, bool *pieces)
{
    static const struct pb_opts none;
    struct walk w = {e, opts ? opts : &none, e->num_errors, false};
    struct frame root = {0};
    if (bytes.len > INT32_MAX) {
        errors_add(e, NULL, "a message over 2 GiB");
        return false;
    }
    walk_message(&w, m, bytes, &root, 1);
    *pieces = w.pieces;
    return e->num_errors == w.errors_before;
}

bool pb_walk(const ProtobufCMessageDescriptor *type, struct str bytes, struct errors *e,
             const struct pb_opts *opts)
{
    bool pieces;
    return walk_bytes(registry_official(type), bytes, e, opts, &pieces);
}
