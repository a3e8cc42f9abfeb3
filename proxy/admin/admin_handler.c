#include "proxy/admin/admin_handler.h"

#include "base/regex.h"
#include "base/timefmt.h"
#include <stdarg.h>

void admin_error(struct admin_response *rs, unsigned status, const char *fmt, ...)
{
    struct arena a;
    va_list ap;
    arena_init(&a, 0);
    va_start(ap, fmt);
    buffer_add_str(&rs->body, arena_vprintf(&a, fmt, ap));
    va_end(ap);
    buffer_add_str(&rs->body, STR("\n"));
    arena_cleanup(&a);
    rs->status = status;
    rs->content_type = ADMIN_TEXT;
}

void admin_ok(struct admin_response *rs)
{
    buffer_add_str(&rs->body, STR("OK\n"));
}

void admin_put_json(struct admin_response *rs, struct json_writer *w)
{
    buffer_add_str(&rs->body, json_writer_text(w));
    buffer_add_str(&rs->body, STR("\n"));
    rs->content_type = ADMIN_JSON;
    json_writer_cleanup(w);
}

void admin_put_time(struct json_writer *w, const char *key, uint64_t wall_us)
{
    char text[TIMEFMT_ISO_LEN];
    if (wall_us == 0)
        return;
    timefmt_iso(wall_us, text);
    json_key(w, str_of(key));
    json_put_str(w, str_n(text, sizeof(text)));
}

void admin_put_html(struct buffer *b, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        switch (text.p[i]) {
        case '&':
            buffer_add_str(b, STR("&amp;"));
            break;
        case '<':
            buffer_add_str(b, STR("&lt;"));
            break;
        case '>':
            buffer_add_str(b, STR("&gt;"));
            break;
        case '"':
            buffer_add_str(b, STR("&quot;"));
            break;
        case '\'':
            buffer_add_str(b, STR("&#39;"));
            break;
        default:
            buffer_add(b, text.p + i, 1);
        }
    }
}

bool admin_flag(const struct admin_request *rq, const char *name)
{
    return admin_query_get(&rq->query, name, NULL);
}

bool admin_regex(const struct admin_request *rq, const char *name, struct regex **out,
                 struct str *err)
{
    struct str pattern;
    *out = NULL;
    if (!admin_query_get(&rq->query, name, &pattern) || pattern.len == 0)
        return true;
    *out = regex_new(pattern, 0, 0, rq->arena, err);
    return *out != NULL;
}

static const struct admin_page *find(struct str path)
{
    for (size_t i = 0; i < admin_num_pages; i++) {
        if (str_eq(path, str_of(admin_pages[i].path)))
            return &admin_pages[i];
    }
    return NULL;
}

void admin_respond(const struct admin_request *rq, struct admin_response *rs)
{
    const struct admin_page *page = find(rq->path);
    buffer_init(&rs->body);
    rs->status = 200;
    rs->content_type = ADMIN_TEXT;
    if (!page) {
        rs->status = 404;
        buffer_add_str(&rs->body, STR("invalid path. "));
        admin_help(rq, rs);
        return;
    }
    if (page->mutates && !str_eq(rq->method, STR("POST"))) {
        admin_error(rs, 405, "Method %.*s not allowed, POST required.", STR_ARG(rq->method));
        return;
    }
    page->run(rq, rs);
}

void admin_response_cleanup(struct admin_response *rs)
{
    if (rs->done)
        rs->done(rs->arg);
    rs->done = NULL;
    rs->more = NULL;
    buffer_cleanup(&rs->body);
}
