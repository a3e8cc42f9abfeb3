#include "proxy/observe/access_log.h"

#include "api-protos/message.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/config/core/v3/substitution_format_string.pb-c.h"
#include "envoy/extensions/access_loggers/file/v3/file.pb-c.h"
#include "envoy/extensions/access_loggers/stream/v3/stream.pb-c.h"
#include "envoy/extensions/formatter/req_without_query/v3/req_without_query.pb-c.h"
#include "proxy/observe/format.h"
#include "proxy/observe/log_filter.h"
#include "tls/data_source.h"
#include <errno.h>

typedef Envoy__Config__Accesslog__V3__AccessLog AccessLog;
typedef Envoy__Config__Core__V3__SubstitutionFormatString FormatString;
typedef Envoy__Extensions__AccessLoggers__File__V3__FileAccessLog FileAccessLog;
typedef Envoy__Extensions__AccessLoggers__Stream__V3__StdoutAccessLog StdoutAccessLog;
typedef Envoy__Extensions__AccessLoggers__Stream__V3__StderrAccessLog StderrAccessLog;
#define FILE_CASE(x) ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__##x
#define FORMAT_CASE(x) ENVOY__CONFIG__CORE__V3__SUBSTITUTION_FORMAT_STRING__FORMAT_##x

struct access_log {
    struct log_file *file;     /* NULL in --mode validate */
    struct log_filter *filter; /* NULL: every line */
    struct regex_list regexes;
    struct format *text; /* one of the two */
    struct json_format *json;
};

static const char default_format[] =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/* --- formats -----------------------------------------------------------------------------------
 */

/* A formatter brings operators of its own. REQ_WITHOUT_QUERY is built in here. */
static void check_formatters(const FormatString *m, struct arena *a, struct errors *e)
{
    for (size_t i = 0; i < m->n_formatters; i++) {
        struct pb_any any;
        size_t mark = errors_push_index(e, "formatters", i);
        enum pb_any_status status = pb_any_unpack(m->formatters[i]->typed_config, a, e, NULL, &any);
        bool known =
            any.type ==
            &envoy__extensions__formatter__req_without_query__v3__req_without_query__descriptor;
        if (status != PB_ANY_INVALID && !known)
            errors_add(e, "typed_config", "the formatter %.*s is not supported",
                       STR_ARG(any.type_name));
        errors_pop(e, mark);
    }
}

static void compile_text(struct access_log *l, struct arena *a, const char *field, struct str text,
                         bool omit_empty, struct errors *e)
{
    size_t mark = errors_push(e, field);
    l->text = format_compile(a, text, omit_empty, e);
    errors_pop(e, mark);
}

static void compile_json(struct access_log *l, struct arena *a, const char *field, const void *msg,
                         bool omit_empty, bool sort, struct errors *e)
{
    size_t mark = errors_push(e, field);
    l->json = json_format_compile(a, msg, omit_empty, sort, e);
    errors_pop(e, mark);
}

static void compile_default(struct access_log *l, struct arena *a, struct errors *e)
{
    l->text = format_compile(a, str_of(default_format), false, e);
}

static void compile_format_string(struct access_log *l, struct arena *a, const FormatString *m,
                                  struct errors *e)
{
    struct data_source source;
    bool sort = m->json_format_options && m->json_format_options->sort_properties;
    check_formatters(m, a, e);
    switch ((int)m->format_case) {
    case FORMAT_CASE(TEXT_FORMAT):
        compile_text(l, a, "text_format", str_of(m->text_format), m->omit_empty_values, e);
        return;
    case FORMAT_CASE(JSON_FORMAT):
        compile_json(l, a, "json_format", m->json_format, m->omit_empty_values, sort, e);
        return;
    case FORMAT_CASE(TEXT_FORMAT_SOURCE):
        if (data_source_read(m->text_format_source, a, e, "text_format_source", &source))
            compile_text(l, a, "text_format_source", source.bytes, m->omit_empty_values, e);
        return;
    }
    errors_add(e, "format", "is required");
}

static void compile_log_format(struct access_log *l, struct arena *a, const FormatString *m,
                               struct errors *e)
{
    if (!m) {
        compile_default(l, a, e);
        return;
    }
    size_t mark = errors_push(e, "log_format");
    compile_format_string(l, a, m, e);
    errors_pop(e, mark);
}

static void compile_file_format(struct access_log *l, struct arena *a, const FileAccessLog *m,
                                struct errors *e)
{
    switch ((int)m->access_log_format_case) {
    case FILE_CASE(ACCESS_LOG_FORMAT_FORMAT):
        if (m->format[0])
            compile_text(l, a, "format", str_of(m->format), false, e);
        else
            compile_default(l, a, e);
        return;
    case FILE_CASE(ACCESS_LOG_FORMAT_JSON_FORMAT):
        compile_json(l, a, "json_format", m->json_format, false, false, e);
        return;
    case FILE_CASE(ACCESS_LOG_FORMAT_TYPED_JSON_FORMAT):
        compile_json(l, a, "typed_json_format", m->typed_json_format, false, false, e);
        return;
    case FILE_CASE(ACCESS_LOG_FORMAT_LOG_FORMAT):
        compile_log_format(l, a, m->log_format, e);
        return;
    }
    compile_default(l, a, e);
}

/* --- loggers -----------------------------------------------------------------------------------
 */

/* Compiles the logger's own message; the path it writes to, empty after an error. */
static struct str compile_logger(struct access_log *l, struct arena *a, const struct pb_any *any,
                                 struct errors *e)
{
    if (any->type == &envoy__extensions__access_loggers__file__v3__file_access_log__descriptor) {
        const FileAccessLog *m = (const FileAccessLog *)any->message;
        compile_file_format(l, a, m, e);
        if (!m->path[0])
            errors_add(e, "path", "must not be empty");
        return str_of(m->path);
    }
    if (any->type ==
        &envoy__extensions__access_loggers__stream__v3__stdout_access_log__descriptor) {
        const StdoutAccessLog *m = (const StdoutAccessLog *)any->message;
        compile_log_format(l, a, m->log_format, e);
        return STR("/dev/stdout");
    }
    if (any->type ==
        &envoy__extensions__access_loggers__stream__v3__stderr_access_log__descriptor) {
        const StderrAccessLog *m = (const StderrAccessLog *)any->message;
        compile_log_format(l, a, m->log_format, e);
        return STR("/dev/stderr");
    }
    errors_add(e, NULL, "the access logger %.*s is not supported", STR_ARG(any->type_name));
    return STR_NULL;
}

static struct str compile_config(struct access_log *l, struct arena *a, const AccessLog *m,
                                 struct errors *e)
{
    struct pb_any any;
    switch (pb_any_unpack(m->typed_config, a, e, NULL, &any)) {
    case PB_ANY_OK:
        return compile_logger(l, a, &any, e);
    case PB_ANY_EMPTY:
        errors_add(e, NULL, "is required");
        break;
    case PB_ANY_UNKNOWN:
        errors_add(e, NULL, "the access logger %.*s is not supported", STR_ARG(any.type_name));
        break;
    case PB_ANY_INVALID:
        break;
    }
    return STR_NULL;
}

struct access_log *access_log_compile(struct arena *a, const void *msg, struct log_files *files,
                                      struct errors *e)
{
    const AccessLog *m = msg;
    size_t before = e->num_errors;
    struct access_log *l = ARENA_NEW(a, struct access_log);
    if (m->filter) {
        size_t mark = errors_push(e, "filter");
        l->filter = log_filter_compile(a, m->filter, &l->regexes, e);
        errors_pop(e, mark);
    }
    size_t mark = errors_push(e, "typed_config");
    struct str path = compile_config(l, a, m, e);
    if (files && e->num_errors == before) {
        l->file = log_files_open(files, path);
        if (!l->file)
            errors_add(e, "path", "cannot open %.*s: %s", STR_ARG(path), strerror(errno));
    }
    errors_pop(e, mark);
    if (e->num_errors == before)
        return l;
    access_log_release(l);
    return NULL;
}

void access_log_release(struct access_log *l)
{
    if (!l)
        return;
    log_file_unref(l->file);
    l->file = NULL;
    regex_list_free(&l->regexes);
}

void access_log_write(const struct access_log *l, const struct stream_info *si)
{
    struct buffer b;
    if (!l->file || (l->filter && !log_filter_pass(l->filter, si)))
        return;
    buffer_init(&b);
    if (l->json) {
        json_format_append(l->json, si, &b);
        buffer_add(&b, "\n", 1);
    } else {
        format_append(l->text, si, &b);
    }
    struct str line = buffer_peek(&b);
    log_file_write(l->file, line.len == b.len ? line : buffer_pullup(&b, b.len));
    buffer_cleanup(&b);
}
