#include "test/support/h2_wire.h"

#include "proxy/http/h2_guard.h"
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <string.h>

void h2_wire_init(struct h2_wire *w, struct far_end *far)
{
    nghttp2_hd_inflater *d;
    CHECK(nghttp2_hd_inflate_new(&d) == 0);
    *w = (struct h2_wire){far, d};
}

void h2_wire_free(struct h2_wire *w)
{
    nghttp2_hd_inflate_del(w->decoder);
    w->decoder = NULL;
}

static void put_u32(uint8_t *p, uint32_t n)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(n >> (24 - 8 * i));
}

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

void h2_wire_frame(struct h2_wire *w, int type, int flags, int id, const void *p, size_t len)
{
    uint8_t *all = mem_alloc(H2_FRAME_HEADER + len);
    put_u32(all, (uint32_t)len << 8 | (uint32_t)type);
    all[4] = (uint8_t)flags;
    put_u32(all + 5, (uint32_t)id);
    if (len)
        memcpy(all + H2_FRAME_HEADER, p, len);
    far_end_send(w->far, all, H2_FRAME_HEADER + len);
    mem_free(all);
}

void h2_wire_number(struct h2_wire *w, int type, int id, uint32_t number)
{
    uint8_t p[4];
    put_u32(p, number);
    h2_wire_frame(w, type, 0, id, p, sizeof(p));
}

void h2_wire_setting(struct h2_wire *w, uint16_t setting, uint32_t value)
{
    uint8_t p[6] = {(uint8_t)(setting >> 8), (uint8_t)setting};
    put_u32(p + 2, value);
    h2_wire_frame(w, H2_SETTINGS, 0, 0, p, sizeof(p));
}

/* A literal without indexing, its name literal too (RFC 7541 6.2.2). */
static size_t put_field(uint8_t *out, const char *name, size_t name_len, const char *value,
                        size_t value_len)
{
    CHECK(name_len < 127 && value_len < 127);
    size_t n = 0;
    out[n++] = 0;
    out[n++] = (uint8_t)name_len;
    memcpy(out + n, name, name_len);
    n += name_len;
    out[n++] = (uint8_t)value_len;
    memcpy(out + n, value, value_len);
    return n + value_len;
}

void h2_wire_head(struct h2_wire *w, int flags, int id, const char *fields)
{
    uint8_t block[4096];
    size_t n = 0;
    while (*fields) {
        size_t len = strcspn(fields, " ");
        const char *equals = memchr(fields, '=', len);
        CHECK(equals && n + len + 3 < sizeof(block));
        n += put_field(block + n, fields, (size_t)(equals - fields), equals + 1,
                       (size_t)(fields + len - equals - 1));
        fields += len + (fields[len] == ' ');
    }
    h2_wire_frame(w, H2_HEADERS, flags | H2_FLAG_END_HEADERS, id, block, n);
}

static void tell_block(struct h2_wire *w, struct buffer *out, const uint8_t *p, size_t len)
{
    int flags = 0;
    while (!(flags & NGHTTP2_HD_INFLATE_FINAL)) {
        nghttp2_nv nv;
        ssize_t n = nghttp2_hd_inflate_hd2(w->decoder, &nv, &flags, p, len, 1);
        CHECK(n >= 0);
        p += n;
        len -= (size_t)n;
        if (flags & NGHTTP2_HD_INFLATE_EMIT)
            buffer_printf(out, " %s=%s", nv.name, nv.value);
    }
    nghttp2_hd_inflate_end_headers(w->decoder);
}

static void tell(struct h2_wire *w, struct buffer *out, const struct h2_frame *f, const uint8_t *p,
                 bool windows)
{
    const char *end = f->flags & H2_FLAG_END_STREAM ? " end" : "";
    switch (f->type) {
    case H2_HEADERS:
        buffer_printf(out, "HEADERS %u", f->stream);
        tell_block(w, out, p, f->length);
        buffer_printf(out, "%s;", end);
        break;
    case H2_DATA:
        buffer_printf(out, "DATA %u %u%s;", f->stream, f->length, end);
        break;
    case H2_RST_STREAM:
        buffer_printf(out, "RST %u %u;", f->stream, get_u32(p));
        break;
    case H2_GOAWAY:
        buffer_printf(out, "GOAWAY %u %u;", get_u32(p), get_u32(p + 4));
        break;
    case H2_PING:
        buffer_printf(out, "PING%s;", f->flags & H2_FLAG_ACK ? " ack" : "");
        break;
    case H2_WINDOW_UPDATE:
        if (windows)
            buffer_printf(out, "WINDOW %u %u;", f->stream, get_u32(p));
        break;
    default:
        break;
    }
}

char *h2_wire_text(struct h2_wire *w, bool windows)
{
    struct buffer out, *got = &w->far->got;
    buffer_init(&out);
    while (got->len >= H2_FRAME_HEADER) {
        struct str v = buffer_pullup(got, got->len);
        bool preface = v.len >= 24 && memcmp(v.p, "PRI ", 4) == 0;
        if (preface) {
            buffer_drain(got, 24);
            continue;
        }
        struct h2_frame f = h2_frame_parse((const uint8_t *)v.p);
        if (v.len < H2_FRAME_HEADER + f.length)
            break;
        tell(w, &out, &f, (const uint8_t *)v.p + H2_FRAME_HEADER, windows);
        buffer_drain(got, H2_FRAME_HEADER + f.length);
    }
    char *text = mem_alloc(out.len + 1);
    text[buffer_copy_out(&out, 0, text, out.len)] = '\0';
    buffer_cleanup(&out);
    return text;
}
