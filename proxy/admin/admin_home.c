#include "proxy/admin/admin_handler.h"
#include "proxy/version.h"

void admin_help(const struct admin_request *rq, struct admin_response *rs)
{
    buffer_add_str(&rs->body, STR("admin commands are:\n"));
    for (size_t i = 0; i < admin_num_pages; i++) {
        const struct admin_page *p = &admin_pages[i];
        buffer_printf(&rs->body, "  %s%s: %s\n", p->path, p->mutates ? " (POST)" : "", p->help);
        for (const struct admin_param_help *h = p->params; h && h->name; h++)
            buffer_printf(&rs->body, "      %s: %s\n", h->name, h->help);
    }
}

static void put_params(struct buffer *b, const struct admin_param_help *h)
{
    if (!h)
        return;
    buffer_add_str(b, STR("<details><summary>parameters</summary><ul>"));
    for (; h->name; h++) {
        buffer_add_str(b, STR("<li><code>"));
        admin_put_html(b, str_of(h->name));
        buffer_add_str(b, STR("</code> "));
        admin_put_html(b, str_of(h->help));
        buffer_add_str(b, STR("</li>"));
    }
    buffer_add_str(b, STR("</ul></details>"));
}

/* What changes something is a form, so that following a link never does. */
static void put_page(struct buffer *b, const struct admin_page *p)
{
    buffer_add_str(b, STR("<tr><td>"));
    if (p->mutates)
        buffer_printf(b, "<form method=\"post\" action=\"%s\"><button>%s</button></form>",
                      p->path + 1, p->path + 1);
    else
        buffer_printf(b, "<a href=\"%s\">%s</a>", p->path[1] ? p->path + 1 : ".",
                      p->path[1] ? p->path + 1 : "/");
    buffer_add_str(b, STR("</td><td>"));
    admin_put_html(b, str_of(p->help));
    put_params(b, p->params);
    buffer_add_str(b, STR("</td></tr>\n"));
}

void admin_home(const struct admin_request *rq, struct admin_response *rs)
{
    struct buffer *b = &rs->body;
    rs->content_type = ADMIN_HTML;
    buffer_add_str(b, STR("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                          "<title>Attaché</title>\n<style>body{font:15px sans-serif;margin:2em}"
                          "td{padding:.3em .8em;vertical-align:top;border-bottom:1px solid #ddd}"
                          "form{margin:0}</style></head>\n<body><h1>Attaché " ATTACHE_VERSION
                          "</h1>\n<table>\n"));
    for (size_t i = 0; i < admin_num_pages; i++)
        put_page(b, &admin_pages[i]);
    buffer_add_str(b, STR("</table></body></html>\n"));
}
