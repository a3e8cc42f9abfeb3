#include "api-protos/merge.h"

#include "api-protos/wire.h"

struct piece {
    const struct official_field *field; /* NULL: unknown */
    struct wire_field wire;
    bool dropped;
};

struct pieces {
    struct piece *list;
    size_t len, cap;
};

struct spans {
    struct str *list;
    size_t len, cap;
};

struct sink {
    char *p;
    size_t len;
};

enum { LENGTH_BYTES = 5 }; /* every length is written with as many */

static void put(struct sink *s, const char *p, size_t len)
{
    if (len)
        memcpy(s->p + s->len, p, len);
    s->len += len;
}

static bool single_message(const struct piece *p)
{
    return p->field && p->field->type == TYPE_MESSAGE && p->wire.type == WIRE_LEN &&
           !(p->field->flags & (OFFICIAL_MAP | OFFICIAL_REPEATED));
}

static void collect(const struct official_message *m, const struct spans *spans, struct pieces *out)
{
    struct wire w;
    struct wire_field f;
    const char *why;
    for (size_t i = 0; i < spans->len; i++) {
        wire_init(&w, spans->list[i]);
        while (wire_next(&w, &f, &why) == WIRE_FIELD) {
            out->list = mem_grow_array(out->list, &out->cap, out->len + 1, sizeof(*out->list));
            out->list[out->len++] = (struct piece){official_by_number(m, f.number), f, false};
        }
    }
}

/* A choice of a oneof is void when another one comes after it. */
static void drop_overruled(const struct official_message *m, struct pieces *all)
{
    struct choice {
        const struct official_field *stands; /* the last one */
        bool closed;                         /* another one came before it */
    } *choices = mem_zalloc((m->num_oneofs + 1u) * sizeof(*choices));
    for (size_t i = all->len; i > 0; i--) {
        struct piece *p = &all->list[i - 1];
        if (!p->field || !p->field->oneof)
            continue;
        struct choice *c = &choices[p->field->oneof];
        if (!c->stands)
            c->stands = p->field;
        c->closed = c->closed || c->stands != p->field;
        p->dropped = c->closed;
    }
    mem_free(choices);
}

static void put_length(char *at, size_t len)
{
    for (int i = 0; i < LENGTH_BYTES; i++, len >>= 7)
        at[i] = (char)((len & 0x7f) | (i < LENGTH_BYTES - 1 ? 0x80 : 0));
}

static void merge_spans(const struct official_message *m, const struct spans *spans,
                        struct sink *out);

/* The message that begins with piece `first`, all its pieces together. */
static void merge_one(struct pieces *all, size_t first, struct sink *out)
{
    struct piece *p = &all->list[first];
    struct spans spans = {0};
    bool single = single_message(p);
    for (size_t i = first; i < (single ? all->len : first + 1); i++) {
        struct piece *q = &all->list[i];
        if (q->field != p->field || q->dropped)
            continue;
        spans.list = mem_grow_array(spans.list, &spans.cap, spans.len + 1, sizeof(*spans.list));
        spans.list[spans.len++] = q->wire.bytes;
        q->dropped = true;
    }
    size_t tag_len = 1;
    while (p->wire.whole.p[tag_len - 1] & 0x80)
        tag_len++;
    put(out, p->wire.whole.p, tag_len);
    size_t mark = out->len;
    out->len += LENGTH_BYTES;
    merge_spans(official_target(p->field), &spans, out);
    put_length(out->p + mark, out->len - mark - LENGTH_BYTES);
    mem_free(spans.list);
}

static void merge_spans(const struct official_message *m, const struct spans *spans,
                        struct sink *out)
{
    struct pieces all = {0};
    collect(m, spans, &all);
    drop_overruled(m, &all);
    for (size_t i = 0; i < all.len; i++) {
        struct piece *p = &all.list[i];
        if (p->dropped)
            continue;
        if (p->field && official_target(p->field) && p->wire.type == WIRE_LEN)
            merge_one(&all, i, out);
        else
            put(out, p->wire.whole.p, p->wire.whole.len);
    }
    mem_free(all.list);
}

struct str merge_pieces(const struct official_message *m, struct str bytes, struct arena *a)
{
    /* a message has two bytes at least, tag and length, and may get four more */
    struct sink out = {arena_bytes(a, bytes.len * 3 + 1), 0};
    struct spans whole = {&bytes, 1, 1};
    merge_spans(m, &whole, &out);
    CHECK(out.len <= bytes.len * 3);
    return str_n(out.p, out.len);
}
