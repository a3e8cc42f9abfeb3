#include "proxy/observe/access_log.h"

#include "api-protos/message.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/config/core/v3/substitution_format_string.pb-c.h"
#include "envoy/extensions/access_loggers/file/v3/file.pb-c.h"
#include "envoy/extensions/access_loggers/stream/v3/stream.pb-c.h"
#include "proxy/observe/format_string.h"
#include "proxy/observe/log_filter.h"
#include <errno.h>

typedef Envoy__Config__Accesslog__V3__AccessLog AccessLog;
typedef Envoy__Config__Core__V3__SubstitutionFormatString FormatString;
typedef Envoy__Extensions__AccessLoggers__File__V3__FileAccessLog FileAccessLog;
typedef Envoy__Extensions__AccessLoggers__Stream__V3__StdoutAccessLog StdoutAccessLog;
typedef Envoy__Extensions__AccessLoggers__Stream__V3__StderrAccessLog StderrAccessLog;
#define FILE_CASE(x) ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__##x

struct access_log {
    struct log_file *file;     /* NULL in --mode validate */
    struct log_filter *filter; /* NULL: every line */
    struct regex_list regexes;
    struct format_string format;
};

static const char default_format[] =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

struct compiler {
    struct access_log *l;
    struct arena *a;
    const struct pb_opts *pb;
    struct errors *e;
};

/* --- formats -----------------------------------------------------------------------------------
 */

static void compile_text(struct compiler *c, const char *field, struct str text, bool omit_empty)
{
    size_t mark = errors_push(c->e, field);
    c->l->format.text = format_compile(c->a, text, omit_empty, c->e);
    errors_pop(c->e, mark);
}

static void compile_json(struct compiler *c, const char *field, const void *msg, bool omit_empty,
                         bool sort)
{
    size_t mark = errors_push(c->e, field);
    c->l->format.json = json_format_compile(c->a, msg, omit_empty, sort, c->e);
    errors_pop(c->e, mark);
}

static void compile_default(struct compiler *c)
{
    c->l->format.text = format_compile(c->a, str_of(default_format), false, c->e);
}

static void compile_log_format(struct compiler *c, const FormatString *m)
{
    if (!m) {
        compile_default(c);
        return;
    }
    size_t mark = errors_push(c->e, "log_format");
    (void)format_string_compile(&c->l->format, c->a, m, c->pb, c->e);
    errors_pop(c->e, mark);
}

static void compile_file_format(struct compiler *c, const FileAccessLog *m)
{
    switch ((int)m->access_log_format_case) {
    case FILE_CASE(ACCESS_LOG_FORMAT_FORMAT):
        if (m->format[0])
            compile_text(c, "format", str_of(m->format), false);
        else
            compile_default(c);
        return;
    case FILE_CASE(ACCESS_LOG_FORMAT_JSON_FORMAT):
        compile_json(c, "json_format", m->json_format, false, false);
        return;
    case FILE_CASE(ACCESS_LOG_FORMAT_TYPED_JSON_FORMAT):
        compile_json(c, "typed_json_format", m->typed_json_format, false, false);
        return;
    case FILE_CASE(ACCESS_LOG_FORMAT_LOG_FORMAT):
        compile_log_format(c, m->log_format);
        return;
    }
    compile_default(c);
}

/* --- loggers -----------------------------------------------------------------------------------
 */

/* Compiles the logger's own message; the path it writes to, empty after an error. */
static struct str compile_logger(struct compiler *c, const struct pb_any *any)
{
    if (any->type == &envoy__extensions__access_loggers__file__v3__file_access_log__descriptor) {
        const FileAccessLog *m = (const FileAccessLog *)any->message;
        compile_file_format(c, m);
        if (!m->path[0])
            errors_add(c->e, "path", "must not be empty");
        return str_of(m->path);
    }
    if (any->type ==
        &envoy__extensions__access_loggers__stream__v3__stdout_access_log__descriptor) {
        const StdoutAccessLog *m = (const StdoutAccessLog *)any->message;
        compile_log_format(c, m->log_format);
        return STR("/dev/stdout");
    }
    if (any->type ==
        &envoy__extensions__access_loggers__stream__v3__stderr_access_log__descriptor) {
        const StderrAccessLog *m = (const StderrAccessLog *)any->message;
        compile_log_format(c, m->log_format);
        return STR("/dev/stderr");
    }
    errors_add(c->e, NULL, "the access logger %.*s is not supported", STR_ARG(any->type_name));
    return STR_NULL;
}

static struct str compile_config(struct compiler *c, const AccessLog *m)
{
    struct pb_any any;
    switch (pb_any_unpack(m->typed_config, c->a, c->e, c->pb, &any)) {
    case PB_ANY_OK:
        return compile_logger(c, &any);
    case PB_ANY_EMPTY:
        errors_add(c->e, NULL, "is required");
        break;
    case PB_ANY_UNKNOWN:
        errors_add(c->e, NULL, "the access logger %.*s is not supported", STR_ARG(any.type_name));
        break;
    case PB_ANY_INVALID:
        break;
    }
    return STR_NULL;
}

struct access_log *access_log_compile(struct arena *a, const void *msg, struct log_files *files,
                                      const struct pb_opts *pb, struct errors *e)
{
    const AccessLog *m = msg;
    size_t before = e->num_errors;
    struct access_log *l = ARENA_NEW(a, struct access_log);
    struct compiler c = {l, a, pb, e};
    if (m->filter) {
        size_t mark = errors_push(e, "filter");
        l->filter = log_filter_compile(a, m->filter, &l->regexes, e);
        errors_pop(e, mark);
    }
    size_t mark = errors_push(e, "typed_config");
    struct str path = compile_config(&c, m);
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
    format_string_append(&l->format, si, &b);
    struct str line = buffer_peek(&b);
    log_file_write(l->file, line.len == b.len ? line : buffer_pullup(&b, b.len));
    buffer_cleanup(&b);
}

void access_logs_write(struct access_log *const *logs, size_t n, struct stream_info *si,
                       enum log_type type)
{
    si->log_type = type;
    for (size_t i = 0; i < n; i++)
        access_log_write(logs[i], si);
}
