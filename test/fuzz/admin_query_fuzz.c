// covers: proxy/admin/admin_query.c
// covers: proxy/admin/admin_mask.c
/* The parameters of an admin request, and the masks of /config_dump. The first byte says whether
 * the rest is a query, a form, or a mask and the JSON it is applied to (a NUL between them). */
#include "proxy/admin/admin_dump.h"
#include "proxy/admin/admin_query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static bool is_inside(struct arena *a, struct str s)
{
    return s.len == 0 || (s.p != NULL && a->used >= s.len);
}

static void check_query(struct str text, bool form)
{
    struct arena a;
    struct admin_query q;
    size_t total = 0;
    arena_init(&a, 0);
    if (admin_query_parse(&q, text, form, &a)) {
        CHECK(q.num <= ADMIN_PARAMS_MAX);
        for (size_t i = 0; i < q.num; i++) {
            CHECK(is_inside(&a, q.params[i].name) && is_inside(&a, q.params[i].value));
            total += q.params[i].name.len + q.params[i].value.len;
        }
        CHECK(total <= text.len);
        struct str value = STR_NULL;
        if (admin_query_get(&q, "a", &value))
            CHECK(is_inside(&a, value));
    }
    arena_cleanup(&a);
}

/* What is left is JSON again, and the mask takes nothing more from it. */
static void check_mask(struct str paths, struct str text)
{
    struct arena a;
    struct json_error err;
    struct json_writer once, twice;
    arena_init(&a, 0);
    json_writer_init(&once, false);
    json_writer_init(&twice, false);
    const struct json *j = json_parse(text, JSON_DUPLICATES_LAST, &a, &err);
    struct admin_mask m = admin_mask_parse(paths, &a);
    if (j && j->type == JSON_OBJECT && m.num) {
        admin_mask_put(&once, j, &m, &a);
        j = json_parse(json_writer_text(&once), 0, &a, &err);
        CHECK(j && j->type == JSON_OBJECT);
        admin_mask_put(&twice, j, &m, &a);
        CHECK(str_eq(json_writer_text(&once), json_writer_text(&twice)));
    }
    json_writer_cleanup(&once);
    json_writer_cleanup(&twice);
    arena_cleanup(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    struct str s = str_n((const char *)data + 1, len - 1);
    ptrdiff_t cut = str_chr(s, '\0');
    if (data[0] == 'm' && cut >= 0)
        check_mask(str_n(s.p, (size_t)cut), str_n(s.p + cut + 1, s.len - (size_t)cut - 1));
    else
        check_query(s, data[0] == 'f');
    return 0;
}
