// covers: proxy/http/h1_write.c
/* Responses with their bodies, one after the other. However the bytes are cut, they must be read
 * the same; and what is read, written again for a client, must be read as the same response. The
 * first byte chooses the rules and the client, the second the cut. */
#include "cluster/http1_options.h"
#include "proxy/http/h1_parse.h"
#include "proxy/http/h1_scan.h"
#include "proxy/http/h1_write.h"
#include "test/support/h1_transcript.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static bool old_client, closing, with_trailers;

/* A body as long as was announced, if that is not too long. */
static void write_body(struct h1_out out, struct buffer *wire, uint64_t length)
{
    struct buffer body;
    buffer_init(&body);
    size_t n = out.framing == H1_OUT_LENGTH && length < 100000 ? (size_t)length : 100;
    for (size_t i = 0; i < n; i++)
        buffer_add(&body, "b", 1);
    bool whole = n == length || out.framing != H1_OUT_LENGTH;
    if (out.framing == H1_OUT_CHUNKED && with_trailers) {
        struct arena a;
        struct headers t;
        arena_init(&a, 0);
        headers_init(&t, &a);
        headers_add(&t, STR("grpc-status"), STR("0"));
        CHECK(h1_write_data(&out, wire, &body, false));
        CHECK(h1_write_trailers(&out, wire, &t));
        arena_cleanup(&a);
    } else {
        CHECK(h1_write_data(&out, wire, &body, true) == whole);
    }
    CHECK(body.len == 0);
    buffer_cleanup(&body);
}

static void check_written(const struct headers *h, const struct h1_message *m, struct buffer *wire,
                          bool to_head)
{
    static const struct h1_rules wide = {.max_bytes = 200000, .max_count = 200};
    struct arena a;
    struct headers again;
    struct h1_message m2;
    struct h1_scan scan = {0};
    struct h1_error err;
    arena_init(&a, 0);
    headers_init(&again, &a);
    CHECK(h1_scan_head(&scan, wire, &wide, false, &err) == H1_DONE);
    uint32_t lines = scan.lines;
    char *head = h1_scan_take(&scan, wire, &a);
    CHECK(h1_parse_response(head, lines, &wide, to_head, &again, &m2, &err));
    CHECK(h->status == again.status);
    if (m->body == H1_BODY_LENGTH && m2.body == H1_BODY_LENGTH)
        CHECK(m->length == m2.length);
    CHECK((m->body == H1_BODY_NONE) == (m2.body == H1_BODY_NONE));
    CHECK(h->status < 200 || m2.keep_alive == (!closing && m2.body != H1_BODY_CLOSE));
    arena_cleanup(&a);
    h1_scan_cleanup(&scan);
}

/* How names may be written. */
static const struct http1_options forms[] = {
    {0},
    {.proper_case = true, .full_url = true},
    {.preserve_case = true, .proper_case_added = true, .forward_reason = true},
};

/* The same fields as a request: what a response says of its body must not make two of one. */
static void write_request(const struct headers *h, const struct h1_message *m)
{
    static const char *const methods[] = {"GET", "POST", "DELETE"};
    static const struct h1_rules wide = {.max_bytes = 200000, .max_count = 200};
    struct buffer wire;
    struct arena a;
    struct headers request, again;
    struct h1_message m2;
    struct h1_scan scan = {0};
    struct h1_error err;
    buffer_init(&wire);
    arena_init(&a, 0);
    headers_copy(&request, h, &a);
    request.method = str_of(methods[h->status % 3]);
    request.path = STR("/");
    request.authority = STR("a");
    request.upgrade = false; /* nobody granted it to this one */
    bool end = m->body == H1_BODY_NONE;
    struct h1_out out = h1_write_request(&wire, &request, &forms[h->n % 3], end);
    CHECK(h1_scan_head(&scan, &wire, &wide, false, &err) == H1_DONE);
    uint32_t lines = scan.lines;
    headers_init(&again, &a);
    CHECK(h1_parse_request(h1_scan_take(&scan, &wire, &a), lines, &wide, &again, &m2, &err));
    CHECK(end == (m2.body == H1_BODY_NONE) && end == (out.framing == H1_OUT_NONE));
    buffer_cleanup(&wire);
    arena_cleanup(&a);
    h1_scan_cleanup(&scan);
}

static void write_again(const struct headers *h, const struct h1_message *m,
                        const struct h1_reading *r)
{
    struct buffer wire;
    buffer_init(&wire);
    if (h->status < 200) {
        h1_write_informational(&wire, h);
    } else {
        struct h1_reply how = {
            .end = m->body == H1_BODY_NONE,
            .to_head = r->to_head,
            .minor = !old_client,
            .options = &forms[(h->n + 1) % 3],
            .close = closing,
        };
        struct h1_out out = h1_write_response(&wire, h, &how);
        if (m->body != H1_BODY_NONE)
            write_body(out, &wire, m->length);
    }
    check_written(h, m, &wire, r->to_head);
    write_request(h, m);
    buffer_drain(&wire, wire.len);
    h1_write_error(&wire, h->status, r->to_head);
    CHECK(wire.len > 0);
    buffer_cleanup(&wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    struct h1_reading whole = {
        .rules = {.max_bytes = data[0] & 1 ? 61440 : 300, .max_count = data[0] & 2 ? 100 : 6},
        .responses = true,
        .to_head = data[0] & 4,
        .step = len,
        .on_head = write_again,
    };
    old_client = data[0] & 8;
    closing = data[0] & 16;
    with_trailers = data[0] & 32;
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
