/* A driver for the tests in this folder: reads requests from stdin and answers on stdout. A request
 * is a line `COMMAND TYPE LENGTH` and LENGTH bytes; an answer is `ok LENGTH` or `error LENGTH`, and
 * as many bytes. Commands: to-json, redact (bytes to JSON), from-json, from-yaml (text to bytes),
 * repack (walk, unpack without the rules, pack), unpack (all of it; the answer is the errors and
 * warnings), canonical, deep (unpack, and every Any in it). */
#include "api-protos/mapping.h"
#include "base/yaml.h"
#include "google/protobuf/any.pb-c.h"
#include <stdio.h>
#include <stdlib.h>

struct request {
    const ProtobufCMessageDescriptor *type;
    struct str bytes;
    struct arena arena;
    struct errors errors;
    struct json_writer out;
};

static void put(struct request *r, struct str s)
{
    json_put_raw(&r->out, s);
    r->out.need_comma = false;
}

static bool do_to_json(struct request *r, unsigned flags)
{
    return pb_to_json(r->type, r->bytes, flags, &r->out);
}

static bool do_from_text(struct request *r, bool yaml)
{
    struct json_error err;
    struct str bytes;
    struct pb_opts opts = {.reject_unknown = true};
    struct json *tree = yaml ? yaml_parse(r->bytes, &r->arena, &err)
                             : json_parse(r->bytes, JSON_TRAILING_COMMAS, &r->arena, &err);
    if (!tree) {
        errors_add(&r->errors, NULL, "line %u: %s", (unsigned)err.line, err.text);
        return false;
    }
    if (!pb_json_to_wire(r->type, tree, &r->arena, &r->errors, &opts, &bytes))
        return false;
    put(r, bytes);
    return true;
}

static bool do_repack(struct request *r)
{
    struct pb_opts opts = {.reject_unknown = true, .strict = true};
    if (!pb_walk(r->type, r->bytes, &r->errors, &opts))
        return false;
    ProtobufCMessage *m = protobuf_c_message_unpack(r->type, NULL, r->bytes.len,
                                                    (const uint8_t *)r->bytes.p);
    CHECK(m);
    put(r, pb_pack(m, &r->arena));
    protobuf_c_message_free_unpacked(m, NULL);
    return true;
}

static void visit(struct request *r, const ProtobufCMessage *m);

static void visit_any(struct request *r, const ProtobufCMessage *m)
{
    struct pb_any any;
    const Google__Protobuf__Any *a = (const Google__Protobuf__Any *)(const void *)m;
    enum pb_any_status s = pb_any_unpack(a, &r->arena, &r->errors, NULL, &any);
    if (s == PB_ANY_UNKNOWN)
        errors_warn(&r->errors, NULL, "type %.*s is not listed", STR_ARG(any.type_name));
    if (s == PB_ANY_OK)
        visit(r, any.message);
}

/* Every Any below a message, with the path to it. */
static void visit(struct request *r, const ProtobufCMessage *m)
{
    const uint8_t *base = (const uint8_t *)m;
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;
        const void *at = base + f->offset, *quantifier = base + f->quantifier_offset;
        if (f->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) && *(const uint32_t *)quantifier != f->id)
            continue;
        size_t n = repeated ? *(const size_t *)quantifier : 1;
        ProtobufCMessage *const *list = repeated ? *(ProtobufCMessage * *const *)at
                                                 : (ProtobufCMessage *const *)at;
        for (size_t k = 0; k < n; k++) {
            if (!list[k])
                continue;
            size_t mark = repeated ? errors_push_index(&r->errors, f->name, k)
                                   : errors_push(&r->errors, f->name);
            if (list[k]->descriptor == &google__protobuf__any__descriptor)
                visit_any(r, list[k]);
            else
                visit(r, list[k]);
            errors_pop(&r->errors, mark);
        }
    }
}

static bool do_unpack(struct request *r, bool deep)
{
    ProtobufCMessage *m = pb_unpack(r->type, r->bytes, &r->arena, &r->errors, NULL);
    if (m && deep)
        visit(r, m);
    for (const struct error_item *it = r->errors.warn_first; it; it = it->next)
        put(r, arena_printf(&r->arena, "%.*s: %.*s\n", STR_ARG(it->path), STR_ARG(it->text)));
    return errors_ok(&r->errors);
}

static bool serve(struct request *r, const char *command)
{
    if (!r->type) {
        errors_add(&r->errors, NULL, "no such message");
        return false;
    }
    if (strcmp(command, "to-json") == 0)
        return do_to_json(r, 0);
    if (strcmp(command, "redact") == 0)
        return do_to_json(r, PB_JSON_REDACT | PB_JSON_PRETTY);
    if (strcmp(command, "from-json") == 0 || strcmp(command, "from-yaml") == 0)
        return do_from_text(r, command[5] == 'y');
    if (strcmp(command, "repack") == 0)
        return do_repack(r);
    if (strcmp(command, "unpack") == 0 || strcmp(command, "deep") == 0)
        return do_unpack(r, command[0] == 'd');
    if (strcmp(command, "canonical") == 0) {
        put(r, pb_canonical(r->type, r->bytes, &r->arena));
        return true;
    }
    errors_add(&r->errors, NULL, "no such command");
    return false;
}

static bool answer(const char *command, const char *type, struct str bytes)
{
    struct request r = {.type = pb_find(str_of(type)), .bytes = bytes};
    arena_init(&r.arena, 4096);
    errors_init(&r.errors);
    json_writer_init(&r.out, false);
    bool ok = serve(&r, command);
    struct str text = ok ? json_writer_text(&r.out) : errors_text(&r.errors, &r.arena);
    printf("%s %zu\n", ok ? "ok" : "error", text.len);
    bool written = fwrite(text.p ? text.p : "", 1, text.len, stdout) == text.len;
    written = fflush(stdout) == 0 && written;
    json_writer_cleanup(&r.out);
    errors_cleanup(&r.errors);
    arena_cleanup(&r.arena);
    return written;
}

int main(void)
{
    char command[32], type[256];
    size_t len;
    bool ok = true;
    while (ok && scanf("%31s %255s %zu", command, type, &len) == 3 && getchar() == '\n') {
        char *p = mem_alloc(len + 1);
        ok = fread(p, 1, len, stdin) == len && answer(command, type, str_n(p, len));
        mem_free(p);
    }
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
