#include "proxy/observe/format.h"

#include "proxy/observe/format_private.h"

/* --- compiling ---------------------------------------------------------------------------------
 */

static bool is_name_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* What stands between two percent signs. */
struct command {
    struct str name, param;
    size_t length; /* SIZE_MAX: none given */
    size_t used;   /* bytes, both percent signs included */
};

/* ":12%" or "%" at offset i; the number to *length, the offset behind it to *end. */
static bool parse_end(struct str s, size_t i, size_t *length, size_t *end)
{
    *length = SIZE_MAX;
    if (i < s.len && s.p[i] == ':') {
        size_t from = ++i;
        uint64_t n;
        while (i < s.len && s.p[i] >= '0' && s.p[i] <= '9')
            i++;
        if (!str_to_u64(str_n(s.p + from, i - from), &n) || n >= SIZE_MAX)
            return false;
        *length = n;
    }
    *end = i + 1;
    return i < s.len && s.p[i] == '%';
}

/* %NAME%, %NAME:12%, %NAME(param)%, %NAME(param):12%. The parameter ends at the first ')' after
 * which the command can end, so it may hold ')' and '%' itself. */
static bool parse_command(struct str s, struct command *c)
{
    size_t i = 1;
    while (i < s.len && is_name_char(s.p[i]))
        i++;
    c->name = str_n(s.p + 1, i - 1);
    c->param = STR_NULL;
    if (!c->name.len)
        return false;
    if (i >= s.len || s.p[i] != '(')
        return parse_end(s, i, &c->length, &c->used);
    size_t from = i + 1;
    for (i = from; i < s.len; i++) {
        if (s.p[i] == ')' && parse_end(s, i + 1, &c->length, &c->used)) {
            c->param = str_n(s.p + from, i - from);
            return true;
        }
    }
    return false;
}

/* Collects the parts: literal text runs, "%%" undone, and operators. */
struct compiler {
    struct arena *a;
    struct format_part *parts;
    size_t num, cap;
    char *literal; /* being collected */
    size_t literal_len;
};

static void add_part(struct compiler *c, struct format_part p)
{
    if (c->num == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 8;
        struct format_part *grown = arena_alloc(c->a, cap * sizeof(*grown));
        if (c->num)
            memcpy(grown, c->parts, c->num * sizeof(*grown));
        c->parts = grown;
        c->cap = cap;
    }
    c->parts[c->num++] = p;
}

static void end_literal(struct compiler *c)
{
    if (!c->literal_len)
        return;
    add_part(c, (struct format_part){.text = str_n(c->literal, c->literal_len)});
    c->literal += c->literal_len;
    c->literal_len = 0;
}

/* One step: a "%%", an operator, or a byte of text. Returns the bytes used, 0 after an error. */
static size_t compile_at(struct compiler *c, struct str s, size_t offset, struct errors *e)
{
    if (s.p[0] != '%' || (s.len > 1 && s.p[1] == '%')) {
        c->literal[c->literal_len++] = s.p[0];
        return s.p[0] == '%' ? 2 : 1;
    }
    struct command command;
    if (!parse_command(s, &command)) {
        errors_add(e, NULL, "no operator at position %zu: %%%.*s", offset,
                   (int)(s.len > 40 ? 40 : s.len - 1), s.p + 1);
        return 0;
    }
    end_literal(c);
    struct format_op *op = ARENA_NEW(c->a, struct format_op);
    if (!format_op_compile(op, c->a, command.name, command.param, command.length, e))
        return 0;
    add_part(c, (struct format_part){.op = op});
    return command.used;
}

struct format *format_compile(struct arena *a, struct str text, bool omit_empty, struct errors *e)
{
    struct compiler c = {.a = a, .literal = arena_bytes(a, text.len + 1)};
    for (size_t i = 0; i < text.len;) {
        size_t used = compile_at(&c, str_n(text.p + i, text.len - i), i, e);
        if (!used)
            return NULL;
        i += used;
    }
    end_literal(&c);
    struct format *f = ARENA_NEW(a, struct format);
    f->parts = c.parts;
    f->num_parts = c.num;
    f->omit_empty = omit_empty;
    f->plain = c.num == 0 || (c.num == 1 && !c.parts[0].op);
    f->text = c.num == 1 && f->plain ? c.parts[0].text : STR("");
    return f;
}

bool format_is_plain(const struct format *f, struct str *out_text)
{
    *out_text = f->text;
    return f->plain;
}

/* --- evaluating ----------------------------------------------------------------------------------
 */

void format_put(const struct format *f, const struct stream_info *si, struct format_out *o)
{
    for (size_t i = 0; i < f->num_parts; i++) {
        const struct format_part *p = &f->parts[i];
        if (p->op && format_op_put(p->op, si, o))
            continue;
        o->left = SIZE_MAX;
        if (!p->op)
            format_out_put(o, p->text);
        else if (!f->omit_empty)
            format_out_put(o, STR("-"));
    }
}

void format_append(const struct format *f, const struct stream_info *si, struct buffer *b)
{
    struct format_out o;
    format_out_begin(&o, b);
    format_put(f, si, &o);
    format_out_end(&o);
}

struct str format_str(const struct format *f, const struct stream_info *si, struct arena *a)
{
    struct buffer b;
    if (f->plain)
        return f->text;
    buffer_init(&b);
    format_append(f, si, &b);
    size_t len = b.len;
    char *p = arena_bytes(a, len + 1);
    buffer_copy_out(&b, 0, p, len);
    p[len] = '\0';
    buffer_cleanup(&b);
    return str_n(p, len);
}
