// covers: base/json.c
// covers: base/json_write.c
/* JSON text. What parses must print, pretty or not, and parse again to the same tree. The first
 * byte chooses the flags. */
#include "base/json.h"
#include "test/support/json_same.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_printed(const struct json *j, unsigned flags, bool pretty)
{
    struct arena a;
    struct json_writer w;
    struct json_error err;
    arena_init(&a, 0);
    json_writer_init(&w, pretty);
    json_put_tree(&w, j);
    struct json *again = json_parse(json_writer_text(&w), flags & ~JSON_TRAILING_COMMAS, &a, &err);
    CHECK(again && json_same(j, again));
    json_writer_cleanup(&w);
    arena_cleanup(&a);
}

static void check_values(const struct json *j)
{
    uint64_t u;
    double d;
    char out[64];
    struct json_writer w;
    json_writer_init(&w, false);
    json_open(&w, '[');
    for (const struct json *c = j->first; c; c = c->next) {
        if (json_u64(c, &u)) {
            json_put_u64(&w, u);
            json_put_i64(&w, (int64_t)u);
        }
        if (json_double(c, &d)) {
            json_put_double(&w, d);
            json_put_float(&w, (float)d);
        }
        json_put_str(&w, json_str(c));
        (void)json_escape(json_str(c), out, sizeof(out));
        (void)json_get(c, "a");
        (void)json_duplicate(c);
    }
    json_close(&w, ']');
    struct arena a;
    struct json_error err;
    arena_init(&a, 0);
    CHECK(json_parse(json_writer_text(&w), 0, &a, &err));
    arena_cleanup(&a);
    json_writer_cleanup(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    unsigned flags = data[0] & (JSON_TRAILING_COMMAS | JSON_DUPLICATES_LAST | JSON_REJECT_NUL);
    struct arena a;
    struct json_error err;
    arena_init(&a, 0);
    struct json *j = json_parse(str_n((const char *)data + 1, len - 1), flags, &a, &err);
    if (j) {
        check_printed(j, flags, false);
        check_printed(j, flags, true);
        check_values(j);
    } else {
        CHECK(err.line > 0 && err.column > 0 && err.text[0] != '\0');
    }
    arena_cleanup(&a);
    return 0;
}
