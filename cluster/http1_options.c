#include "cluster/http1_options.h"

#include "api-protos/message.h"
#include "envoy/config/core/v3/protocol.pb-c.h"
#include "envoy/extensions/http/header_formatters/preserve_case/v3/preserve_case.pb-c.h"

typedef Envoy__Config__Core__V3__Http1ProtocolOptions Http1;
typedef Envoy__Extensions__Http__HeaderFormatters__PreserveCase__V3__PreserveCaseFormatterConfig
    PreserveCase;
#define PRESERVE(x)                                                                                \
    ENVOY__EXTENSIONS__HTTP__HEADER_FORMATTERS__PRESERVE_CASE__V3__PRESERVE_CASE_FORMATTER_CONFIG__##x

static void compile_formatter(struct http1_options *out,
                              const Envoy__Config__Core__V3__TypedExtensionConfig *m,
                              struct errors *e)
{
    struct arena scratch;
    struct pb_any any;
    arena_init(&scratch, 0);
    size_t mark = errors_push(e, "stateful_formatter.typed_config");
    enum pb_any_status st = pb_any_unpack(m->typed_config, &scratch, e, NULL, &any);
    if (st == PB_ANY_OK &&
        any.type ==
            &envoy__extensions__http__header_formatters__preserve_case__v3__preserve_case_formatter_config__descriptor) {
        const PreserveCase *p = (const void *)any.message;
        out->preserve_case = true;
        out->forward_reason = p->forward_reason_phrase;
        out->proper_case_added = p->formatter_type_on_envoy_headers ==
                                 PRESERVE(FORMATTER_TYPE_ON_ENVOY_HEADERS__PROPER_CASE);
    } else if (st != PB_ANY_INVALID) {
        errors_add(e, NULL, "header formatter '%s' (%.*s) is not supported", m->name,
                   STR_ARG(any.type_name));
    }
    errors_pop(e, mark);
    arena_cleanup(&scratch);
}

void http1_options_compile(struct http1_options *out, const void *msg, struct errors *e)
{
    const Http1 *m = msg;
    *out = (struct http1_options){0};
    if (!m)
        return;
    out->trailers = m->enable_trailers;
    out->full_url = m->send_fully_qualified_url;
    out->chunked_length = m->allow_chunked_length;
    if (!m->header_key_format)
        return;
    size_t mark = errors_push(e, "header_key_format");
    switch (m->header_key_format->header_format_case) {
    case ENVOY__CONFIG__CORE__V3__HTTP1_PROTOCOL_OPTIONS__HEADER_KEY_FORMAT__HEADER_FORMAT_PROPER_CASE_WORDS:
        out->proper_case = true;
        break;
    case ENVOY__CONFIG__CORE__V3__HTTP1_PROTOCOL_OPTIONS__HEADER_KEY_FORMAT__HEADER_FORMAT_STATEFUL_FORMATTER:
        compile_formatter(out, m->header_key_format->stateful_formatter, e);
        break;
    default:
        errors_add(e, NULL, "proper_case_words or stateful_formatter is required");
    }
    errors_pop(e, mark);
}
