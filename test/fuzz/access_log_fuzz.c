// covers: proxy/observe/log_filter.c
// covers: proxy/observe/access_log.c
/* An AccessLog message, as JSON or (when the first byte is no '{') as bytes of a control plane:
 * compiled as in --mode validate, and its filter asked about two requests. */
#include "api-protos/mapping.h"
#include "api-protos/message.h"
#include "base/json.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "proxy/observe/access_log.h"
#include "proxy/observe/log_filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void try_filter(const void *msg, struct arena *a)
{
    struct errors e;
    struct regex_list regexes = {NULL};
    struct headers request, response;
    errors_init(&e);
    headers_init(&request, a);
    headers_init(&response, a);
    headers_add(&request, STR("x-y"), STR("abc"));
    headers_add(&response, STR("grpc-status"), STR("5"));
    static const struct stream_info none;
    struct stream_info si = {
        .request = &request,
        .response = &response,
        .response_code = 503,
        .start_us = 1,
        .end_us = 100000,
        .flags = FLAG(UPSTREAM_OVERFLOW),
        .request_id = STR("0123abCD-0000"),
    };
    struct log_filter *f = log_filter_compile(a, msg, &regexes, &e);
    CHECK((f == NULL) == (e.num_errors > 0));
    if (f) {
        (void)log_filter_pass(f, &si);
        (void)log_filter_pass(f, &none);
    }
    regex_list_free(&regexes);
    errors_cleanup(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const ProtobufCMessageDescriptor *type = &envoy__config__accesslog__v3__access_log__descriptor;
    struct str in = str_n((const char *)data, len), bytes = in;
    struct json_error err;
    struct arena a;
    struct errors e;
    bool ok = true;
    arena_init(&a, 0);
    errors_init(&e);
    if (len && in.p[0] == '{') {
        const struct json *tree = json_parse(in, 0, &a, &err);
        ok = tree && pb_json_to_wire(type, tree, &a, &e, NULL, &bytes);
    }
    const Envoy__Config__Accesslog__V3__AccessLog *m =
        ok ? (const void *)pb_unpack(type, bytes, &a, &e, NULL) : NULL;
    if (m) {
        struct access_log *l = access_log_compile(&a, m, NULL, NULL, &e);
        CHECK((l == NULL) == (e.num_errors > 0));
        access_log_release(l);
        if (m->filter)
            try_filter(m->filter, &a);
    }
    errors_cleanup(&e);
    arena_cleanup(&a);
    return 0;
}
