// covers: proxy/http/h1_parse.c proxy/http/h1_scan.c proxy/http/h1_chunks.c
// covers: proxy/http/headers.c
/* Requests with their bodies, one after the other. However the bytes are cut, they must be read the
 * same; and what is read, written again, must be read as the same request: else a peer behind us
 * sees another one than we did. The first byte chooses the rules, the second the cut. */
#include "proxy/http/h1_parse.h"
#include "proxy/http/h1_scan.h"
#include "proxy/http/h1_write.h"
#include "test/support/h1_transcript.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void same_str(struct str a, struct str b)
{
    CHECK(str_eq(a, b));
}

static void same_fields(const struct headers *a, const struct headers *b)
{
    const struct header *g = b->v;
    HEADERS_FOREACH(f, a) {
        if (f->id == HDR_CONTENT_LENGTH)
            continue;
        while (g < b->v + b->n && (g->removed || g->id == HDR_CONTENT_LENGTH))
            g++;
        CHECK(g < b->v + b->n);
        same_str(f->name, g->name);
        same_str(f->value, g->value);
        g++;
    }
    while (g < b->v + b->n && (g->removed || g->id == HDR_CONTENT_LENGTH))
        g++;
    CHECK(g == b->v + b->n);
}

static void check_fields(const struct headers *h)
{
    uint32_t live = 0;
    HEADERS_FOREACH(f, h) {
        live++;
        CHECK(f->name.len > 0);
        for (size_t i = 0; i < f->name.len; i++)
            CHECK(h1_token_lower[(uint8_t)f->name.p[i]] == (uint8_t)f->name.p[i]);
        for (size_t i = 0; i < f->value.len; i++)
            CHECK(h1_value_char((uint8_t)f->value.p[i]));
        CHECK(f->id == header_id_of(f->name));
        struct str all;
        CHECK(headers_value(h, f->name, h->arena, &all));
    }
    CHECK(live == h->live);
}

static void edit(const struct headers *h)
{
    struct arena a;
    struct headers copy;
    arena_init(&a, 0);
    headers_copy(&copy, h, &a);
    headers_set(&copy, STR("x-a"), STR("1"));
    headers_set_known(&copy, HDR_VIA, STR("2"));
    headers_remove(&copy, STR("cookie"));
    headers_remove_known(&copy, HDR_DATE);
    check_fields(&copy);
    struct str v;
    CHECK(headers_value(&copy, STR(":method"), &a, &v) && str_eq(v, h->method));
    CHECK(headers_value(&copy, STR(":authority"), &a, &v) && str_eq(v, h->authority));
    CHECK(headers_value(&copy, STR(":path"), &a, &v) == (h->path.p != NULL));
    CHECK(!headers_value(&copy, STR(":status"), &a, &v));
    (void)headers_value(&copy, STR(":scheme"), &a, &v);
    arena_cleanup(&a);
}

static void write_again(const struct headers *h, const struct h1_message *m,
                        const struct h1_reading *r)
{
    static const struct h1_rules wide = {.max_bytes = 200000, .max_count = 200};
    struct buffer b;
    struct arena a;
    struct headers again;
    struct h1_message m2;
    struct h1_scan scan = {0};
    struct h1_error err;
    CHECK(h->bytes <= r->rules.max_bytes && h->n <= r->rules.max_count);
    check_fields(h);
    edit(h);
    buffer_init(&b);
    arena_init(&a, 0);
    headers_init(&again, &a);
    struct h1_out out = h1_write_request(&b, h, NULL, m->body == H1_BODY_NONE);
    CHECK(h1_scan_head(&scan, &b, &wide, false, &err) == H1_DONE);
    uint32_t lines = scan.lines;
    char *head = h1_scan_take(&scan, &b, &a);
    CHECK(b.len == 0);
    CHECK(h1_parse_request(head, lines, &wide, &again, &m2, &err));
    same_str(h->method, again.method);
    same_str(h->authority, again.authority);
    same_str(h->path, again.path);
    same_fields(h, &again);
    /* a length that Connection named is dropped, the body is then chunked */
    CHECK((m->body == H1_BODY_NONE) == (m2.body == H1_BODY_NONE));
    CHECK(m2.body != H1_BODY_LENGTH || m2.length == m->length);
    CHECK((out.framing == H1_OUT_NONE) == (m2.body == H1_BODY_NONE));
    arena_cleanup(&a);
    buffer_cleanup(&b);
    h1_scan_cleanup(&scan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    struct h1_reading whole = {
        .rules = {.max_bytes = data[0] & 1 ? 61440 : 300,
                  .max_count = data[0] & 2 ? 100 : 6,
                  .accept_http_10 = data[0] & 4,
                  .allow_chunked_length = data[0] & 8},
        .step = len,
        .on_head = write_again,
    };
    struct h1_reading cut = whole;
    cut.step = (size_t)data[1] + 1;
    cut.on_head = NULL;
    struct buffer a, b;
    buffer_init(&a);
    buffer_init(&b);
    h1_transcript(&a, data + 2, len - 2, &whole);
    h1_transcript(&b, data + 2, len - 2, &cut);
    CHECK(a.len == b.len);
    char *pa = mem_alloc(a.len + 1), *pb = mem_alloc(b.len + 1);
    CHECK(buffer_copy_out(&a, 0, pa, a.len) == buffer_copy_out(&b, 0, pb, b.len));
    CHECK(memcmp(pa, pb, a.len) == 0);
    mem_free(pa);
    mem_free(pb);
    buffer_cleanup(&a);
    buffer_cleanup(&b);
    return 0;
}
