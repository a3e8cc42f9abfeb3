#include "proxy/observe/format_grpc.h"

static const char *const names[GRPC_NUM_STATUS][2] = {
    {"OK", "OK"},
    {"Canceled", "CANCELLED"},
    {"Unknown", "UNKNOWN"},
    {"InvalidArgument", "INVALID_ARGUMENT"},
    {"DeadlineExceeded", "DEADLINE_EXCEEDED"},
    {"NotFound", "NOT_FOUND"},
    {"AlreadyExists", "ALREADY_EXISTS"},
    {"PermissionDenied", "PERMISSION_DENIED"},
    {"ResourceExhausted", "RESOURCE_EXHAUSTED"},
    {"FailedPrecondition", "FAILED_PRECONDITION"},
    {"Aborted", "ABORTED"},
    {"OutOfRange", "OUT_OF_RANGE"},
    {"Unimplemented", "UNIMPLEMENTED"},
    {"Internal", "INTERNAL"},
    {"Unavailable", "UNAVAILABLE"},
    {"DataLoss", "DATA_LOSS"},
    {"Unauthenticated", "UNAUTHENTICATED"},
};

const char *grpc_status_name(int64_t status, bool snake)
{
    return status >= 0 && status < GRPC_NUM_STATUS ? names[status][snake] : NULL;
}

/* doc/http-grpc-status-mapping.md of gRPC. */
static int64_t of_http(unsigned code)
{
    switch (code) {
    case 0:
        return GRPC_STATUS_NONE;
    case 400:
        return 13;
    case 401:
        return 16;
    case 403:
        return 7;
    case 404:
        return 12;
    case 429:
    case 502:
    case 503:
    case 504:
        return 14;
    }
    return 2;
}

static bool of_headers(const struct headers *h, int64_t *out)
{
    uint64_t n;
    struct header *f = h ? headers_known(h, HDR_GRPC_STATUS) : NULL;
    if (!f || !f->value.len)
        return false;
    *out = str_to_u64(f->value, &n) && n <= INT64_MAX ? (int64_t)n : GRPC_STATUS_INVALID;
    return true;
}

int64_t grpc_status_of(const struct stream_info *si)
{
    int64_t status;
    if (of_headers(si->response_trailers, &status) || of_headers(si->response, &status))
        return status;
    return of_http(si->response_code);
}

static bool is_grpc(const struct headers *h)
{
    static const char type[] = "application/grpc";
    struct header *f = h ? headers_known(h, HDR_CONTENT_TYPE) : NULL;
    if (!f || !str_starts(f->value, str_of(type)))
        return false;
    return f->value.len == sizeof(type) - 1 || f->value.p[sizeof(type) - 1] == '+';
}

enum { GRPC_CAMEL, GRPC_SNAKE };

bool format_grpc_prepare(struct format_op *op, struct arena *a, struct str param, struct errors *e)
{
    op->option = GRPC_CAMEL;
    if (!param.len || str_eq(param, STR("CAMEL_STRING")))
        return true;
    op->option = GRPC_SNAKE;
    if (str_eq(param, STR("SNAKE_STRING")))
        return true;
    op->numeric = true;
    if (str_eq(param, STR("NUMBER")))
        return true;
    errors_add(e, NULL, "GRPC_STATUS: CAMEL_STRING, SNAKE_STRING or NUMBER, not %.*s",
               STR_ARG(param));
    return false;
}

bool format_grpc_get(const struct format_op *op, const struct stream_info *si, int64_t *out)
{
    if (!is_grpc(si->request))
        return false;
    *out = grpc_status_of(si);
    return *out != GRPC_STATUS_NONE;
}

bool format_grpc_put(const struct format_op *op, const struct stream_info *si, struct format_out *o)
{
    char digits[FORMAT_I64_MAX];
    int64_t status;
    if (!format_grpc_get(op, si, &status))
        return false;
    const char *name = grpc_status_name(status, op->option == GRPC_SNAKE);
    format_out_put(o, name ? str_of(name) : format_i64(status, digits));
    return true;
}
