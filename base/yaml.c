#include "base/yaml.h"

#include <stdio.h>
#include <yaml.h>

struct anchor {
    struct anchor *next;
    struct str name;
    const struct json *node;
    size_t size, height;
};

struct composer {
    yaml_parser_t parser;
    yaml_event_t event; /* the current one */
    bool have_event;
    struct arena *arena;
    struct json_error *err;
    struct anchor *anchors;
    size_t nodes;
};

/* Of a node: how many nodes it is with all aliases written out, and how many levels. */
struct extent {
    size_t size, height;
};

static bool fail_at(struct composer *c, size_t line, const char *text, const char *what)
{
    c->err->line = (uint32_t)line + 1;
    c->err->column = 0;
    (void)snprintf(c->err->text, sizeof(c->err->text), "%s%s%.80s", text, what ? ": " : "",
                   what ? what : "");
    return false;
}

static bool fail(struct composer *c, const char *text)
{
    return fail_at(c, c->have_event ? c->event.start_mark.line : c->parser.mark.line, text, NULL);
}

static bool next_event(struct composer *c)
{
    if (c->have_event)
        yaml_event_delete(&c->event);
    c->have_event = false;
    if (!yaml_parser_parse(&c->parser, &c->event)) {
        const yaml_parser_t *p = &c->parser;
        fail_at(c, p->problem_mark.line, p->problem ? p->problem : "not YAML", p->context);
        if (p->error == YAML_READER_ERROR)
            fail_at(c, p->mark.line, p->problem ? p->problem : "not YAML", NULL);
        return false;
    }
    c->have_event = true;
    return true;
}

static bool one_of(struct str s, const char *const *words)
{
    for (; *words; words++) {
        if (str_eq(s, str_of(*words)))
            return true;
    }
    return false;
}

/* Digits of the base; leaves what is not one. */
static bool parse_digits(struct str s, uint64_t base, uint64_t *out)
{
    uint64_t v = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char ch = s.p[i];
        uint64_t d = ch >= '0' && ch <= '9'   ? (uint64_t)(ch - '0')
                     : ch >= 'a' && ch <= 'f' ? (uint64_t)(ch - 'a') + 10
                     : ch >= 'A' && ch <= 'F' ? (uint64_t)(ch - 'A') + 10
                                              : 99;
        if (d >= base || v > (UINT64_MAX - d) / base)
            return false;
        v = v * base + d;
    }
    *out = v;
    return true;
}

/* What is over 2^53 stays a string, as a double could not hold it. */
static bool parse_int(struct str s, bool *negative, uint64_t *out)
{
    *negative = s.len > 0 && s.p[0] == '-';
    if (s.len > 0 && (s.p[0] == '-' || s.p[0] == '+'))
        s = str_n(s.p + 1, s.len - 1);
    bool hex = str_istarts(s, STR("0x"));
    bool octal = !hex && s.len > 1 && s.p[0] == '0';
    size_t skip = hex ? 2 : octal ? 1 : 0;
    if (!parse_digits(str_n(s.p + skip, s.len - skip), hex ? 16 : octal ? 8 : 10, out))
        return false;
    return *out <= (UINT64_C(1) << 53);
}

static void resolve_plain(struct composer *c, struct json *j, struct str s)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const truths[] = {"true", "True", "TRUE", "yes", "Yes", "YES",
                                         "on",   "On",   "ON",   "y",   "Y",   NULL};
    static const char *const falses[] = {"false", "False", "FALSE", "no", "No", "NO",
                                         "off",   "Off",   "OFF",   "n",  "N",  NULL};
    uint64_t number;
    bool negative;
    if (one_of(s, nulls)) {
        j->type = JSON_NULL;
    } else if (one_of(s, truths) || one_of(s, falses)) {
        j->type = JSON_BOOL;
        j->boolean = one_of(s, truths);
    } else if (parse_int(s, &negative, &number)) {
        j->type = JSON_NUMBER;
        j->text = arena_printf(c->arena, "%s%llu", negative && number ? "-" : "",
                               (unsigned long long)number);
    } else {
        j->type = JSON_STRING;
        j->text = arena_str(c->arena, s);
    }
}

static struct str scalar_text(const yaml_event_t *e)
{
    return str_n((const char *)e->data.scalar.value, e->data.scalar.length);
}

/* Tags: "!" and the core ones say what the scalar's style says already. */
static bool tag_forces_string(struct composer *c, const char *tag, bool *string)
{
    *string = false;
    if (!tag)
        return true;
    if (strcmp(tag, "!") == 0 || strcmp(tag, YAML_STR_TAG) == 0) {
        *string = true;
        return true;
    }
    if (strcmp(tag, YAML_NULL_TAG) == 0 || strcmp(tag, YAML_BOOL_TAG) == 0 ||
        strcmp(tag, YAML_INT_TAG) == 0 || strcmp(tag, YAML_FLOAT_TAG) == 0 ||
        strcmp(tag, YAML_SEQ_TAG) == 0 || strcmp(tag, YAML_MAP_TAG) == 0)
        return true;
    return fail_at(c, c->event.start_mark.line, "a tag that is not supported", tag);
}

static bool compose(struct composer *c, struct json *j, size_t depth, struct extent *ext);

static void remember(struct composer *c, struct str name, const struct json *node,
                     struct extent ext)
{
    struct anchor *a = ARENA_NEW(c->arena, struct anchor);
    *a = (struct anchor){c->anchors, name, node, ext.size, ext.height};
    c->anchors = a;
}

static bool compose_alias(struct composer *c, struct json *j, size_t depth, struct extent *ext)
{
    struct str name = str_of((const char *)c->event.data.alias.anchor);
    const struct anchor *a = c->anchors;
    while (a && !str_eq(a->name, name))
        a = a->next;
    if (!a)
        return fail(c, "an alias without its anchor before it");
    struct json copy = *a->node;
    copy.next = NULL;
    copy.key = j->key;
    copy.line = j->line;
    *j = copy;
    *ext = (struct extent){a->size, a->height};
    c->nodes += a->size;
    if (c->nodes > YAML_NODES_MAX || depth + a->height > JSON_DEPTH_MAX)
        return fail(c, "aliases make the document too large");
    return true;
}

static bool compose_scalar(struct composer *c, struct json *j)
{
    bool string;
    if (!tag_forces_string(c, (const char *)c->event.data.scalar.tag, &string))
        return false;
    struct str text = scalar_text(&c->event);
    if (c->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !string) {
        resolve_plain(c, j, text);
        return true;
    }
    j->type = JSON_STRING;
    j->text = arena_str(c->arena, text);
    return true;
}

static bool read_key(struct composer *c, struct json *member, bool *ignore)
{
    if (c->event.type != YAML_SCALAR_EVENT)
        return fail(c, "a key that is no scalar");
    struct str text = scalar_text(&c->event);
    const char *tag = (const char *)c->event.data.scalar.tag;
    *ignore = tag && strcmp(tag, "!ignore") == 0;
    if (c->event.data.scalar.anchor)
        return fail(c, "an anchor on a key is not supported");
    if (str_eq(text, STR("<<")) && c->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        return fail(c, "merge keys (<<) are not supported");
    member->key = arena_str(c->arena, text);
    return true;
}

/* After the start event, up to the end event, which stays the current one. */
static bool compose_children(struct composer *c, struct json *j, size_t depth, struct extent *ext)
{
    struct json **tail = &j->first;
    yaml_event_type_t end = j->type == JSON_OBJECT ? YAML_MAPPING_END_EVENT
                                                   : YAML_SEQUENCE_END_EVENT;
    *ext = (struct extent){1, 1};
    if (depth >= JSON_DEPTH_MAX)
        return fail(c, "nested too deeply");
    for (;;) {
        struct json *child = ARENA_NEW(c->arena, struct json);
        struct extent inner;
        bool ignore = false;
        if (!next_event(c))
            return false;
        if (c->event.type == end)
            return true;
        if (j->type == JSON_OBJECT && (!read_key(c, child, &ignore) || !next_event(c)))
            return false;
        if (!compose(c, child, depth + 1, &inner))
            return false;
        if (ignore)
            continue;
        ext->size += inner.size;
        ext->height = inner.height + 1 > ext->height ? inner.height + 1 : ext->height;
        *tail = child;
        tail = &child->next;
        j->count++;
    }
}

static bool compose_collection(struct composer *c, struct json *j, size_t depth, struct extent *ext)
{
    bool map = c->event.type == YAML_MAPPING_START_EVENT, string;
    size_t line = c->event.start_mark.line;
    const yaml_char_t *tag = map ? c->event.data.mapping_start.tag
                                 : c->event.data.sequence_start.tag;
    if (!tag_forces_string(c, (const char *)tag, &string))
        return false;
    j->type = map ? JSON_OBJECT : JSON_ARRAY;
    if (!compose_children(c, j, depth, ext))
        return false;
    struct str twice = json_duplicate(j);
    if (twice.p) {
        char key[64];
        (void)snprintf(key, sizeof(key), "%.*s", (int)(twice.len < 60 ? twice.len : 60), twice.p);
        return fail_at(c, line, "a mapping has a key twice", key);
    }
    return true;
}

static const yaml_char_t *event_anchor(const yaml_event_t *e)
{
    if (e->type == YAML_SCALAR_EVENT)
        return e->data.scalar.anchor;
    if (e->type == YAML_MAPPING_START_EVENT)
        return e->data.mapping_start.anchor;
    return e->type == YAML_SEQUENCE_START_EVENT ? e->data.sequence_start.anchor : NULL;
}

/* Composes the node the current event begins; the event that ends it is the current one after. */
static bool compose(struct composer *c, struct json *j, size_t depth, struct extent *ext)
{
    bool ok;
    const yaml_char_t *anchor = event_anchor(&c->event);
    struct str name = anchor ? arena_str(c->arena, str_of((const char *)anchor)) : STR_NULL;
    *ext = (struct extent){1, 1};
    j->line = (uint32_t)c->event.start_mark.line + 1;
    if (++c->nodes > YAML_NODES_MAX)
        return fail(c, "too many nodes");
    if (c->event.type == YAML_ALIAS_EVENT)
        ok = compose_alias(c, j, depth, ext);
    else if (c->event.type == YAML_SCALAR_EVENT)
        ok = compose_scalar(c, j);
    else
        ok = compose_collection(c, j, depth, ext);
    if (ok && name.p)
        remember(c, name, j, *ext);
    return ok;
}

static bool compose_document(struct composer *c, struct json *root)
{
    struct extent ext;
    do {
        if (!next_event(c))
            return false;
    } while (c->event.type == YAML_STREAM_START_EVENT);
    if (c->event.type == YAML_STREAM_END_EVENT) {
        root->line = 1;
        return true;
    }
    if (!next_event(c) || !compose(c, root, 0, &ext))
        return false;
    do {
        if (!next_event(c))
            return false;
    } while (c->event.type == YAML_DOCUMENT_END_EVENT);
    return c->event.type == YAML_STREAM_END_EVENT || fail(c, "more than one document");
}

struct json *yaml_parse(struct str text, struct arena *a, struct json_error *err)
{
    struct composer c = {.arena = a, .err = err};
    struct json *root = ARENA_NEW(a, struct json);
    *err = (struct json_error){0};
    CHECK(yaml_parser_initialize(&c.parser));
    yaml_parser_set_encoding(&c.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&c.parser, (const unsigned char *)text.p, text.len);
    bool ok = compose_document(&c, root);
    if (c.have_event)
        yaml_event_delete(&c.event);
    yaml_parser_delete(&c.parser);
    return ok ? root : NULL;
}
