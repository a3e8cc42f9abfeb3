#include "proxy/observe/format_string.h"

#include "api-protos/message.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/config/core/v3/substitution_format_string.pb-c.h"
#include "envoy/extensions/formatter/req_without_query/v3/req_without_query.pb-c.h"
#include "tls/data_source.h"

typedef Envoy__Config__Core__V3__SubstitutionFormatString FormatString;
#define FORMAT_CASE(x) ENVOY__CONFIG__CORE__V3__SUBSTITUTION_FORMAT_STRING__FORMAT_##x

/* A formatter brings operators of its own. REQ_WITHOUT_QUERY is built in here. */
static void check_formatters(const FormatString *m, struct arena *a, const struct pb_opts *pb,
                             struct errors *e)
{
    for (size_t i = 0; i < m->n_formatters; i++) {
        struct pb_any any;
        size_t mark = errors_push_index(e, "formatters", i);
        enum pb_any_status status = pb_any_unpack(m->formatters[i]->typed_config, a, e, pb, &any);
        bool known =
            any.type ==
            &envoy__extensions__formatter__req_without_query__v3__req_without_query__descriptor;
        if (status != PB_ANY_INVALID && !known)
            errors_add(e, "typed_config", "the formatter %.*s is not supported",
                       STR_ARG(any.type_name));
        errors_pop(e, mark);
    }
}

static void compile_text(struct format_string *f, struct arena *a, const char *field,
                         struct str text, bool omit_empty, struct errors *e)
{
    size_t mark = errors_push(e, field);
    f->text = format_compile(a, text, omit_empty, e);
    errors_pop(e, mark);
}

static void compile_json(struct format_string *f, struct arena *a, const FormatString *m,
                         struct errors *e)
{
    bool sort = m->json_format_options && m->json_format_options->sort_properties;
    size_t mark = errors_push(e, "json_format");
    f->json = json_format_compile(a, m->json_format, m->omit_empty_values, sort, e);
    errors_pop(e, mark);
}

bool format_string_compile(struct format_string *f, struct arena *a, const void *msg,
                           const struct pb_opts *pb, struct errors *e)
{
    const FormatString *m = msg;
    size_t before = e->num_errors;
    struct data_source source;
    *f = (struct format_string){.content_type = arena_str(a, str_of(m->content_type))};
    check_formatters(m, a, pb, e);
    switch ((int)m->format_case) {
    case FORMAT_CASE(TEXT_FORMAT):
        compile_text(f, a, "text_format", str_of(m->text_format), m->omit_empty_values, e);
        break;
    case FORMAT_CASE(JSON_FORMAT):
        compile_json(f, a, m, e);
        break;
    case FORMAT_CASE(TEXT_FORMAT_SOURCE):
        if (data_source_read(m->text_format_source, a, e, "text_format_source", &source))
            compile_text(f, a, "text_format_source", source.bytes, m->omit_empty_values, e);
        break;
    default:
        errors_add(e, "format", "is required");
    }
    return e->num_errors == before;
}

void format_string_append(const struct format_string *f, const struct stream_info *si,
                          struct buffer *b)
{
    if (!f->json) {
        format_append(f->text, si, b);
        return;
    }
    json_format_append(f->json, si, b);
    buffer_add(b, "\n", 1);
}
