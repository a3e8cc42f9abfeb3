#include "proxy/observe/log_filter.h"

#include "base/random.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/type/v3/percent.pb-c.h"
#include "proxy/observe/format.h"
#include "proxy/observe/format_grpc.h"

typedef Envoy__Config__Accesslog__V3__AccessLogFilter Filter;
typedef Envoy__Config__Accesslog__V3__ComparisonFilter Comparison;
typedef Envoy__Config__Accesslog__V3__RuntimeFilter Runtime;
typedef Envoy__Config__Accesslog__V3__ResponseFlagFilter ResponseFlags;
typedef Envoy__Config__Accesslog__V3__GrpcStatusFilter GrpcStatus;
typedef Envoy__Config__Accesslog__V3__LogTypeFilter LogTypes;
#define LOG(x) ENVOY__CONFIG__ACCESSLOG__V3__##x
#define SPECIFIER(x) ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_##x

enum filter_kind {
    FILTER_STATUS,
    FILTER_DURATION,
    FILTER_NOT_HEALTH_CHECK,
    FILTER_FRACTION,
    FILTER_AND,
    FILTER_OR,
    FILTER_HEADER,
    FILTER_FLAGS,
    FILTER_GRPC,
    FILTER_LOG_TYPE,
};

enum filter_op { OP_EQ, OP_GE, OP_LE, OP_NE };

struct log_filter {
    enum filter_kind kind;
    enum filter_op op;
    bool exclude;     /* FILTER_GRPC, FILTER_LOG_TYPE */
    bool independent; /* FILTER_FRACTION: by chance, not by the request's id */
    uint32_t value;   /* to compare with */
    uint32_t numerator, denominator;
    uint64_t bits; /* response flags, gRPC statuses or log types */
    const struct header_match *header;
    struct log_filter **children;
    size_t num_children;
};

struct compiler {
    struct arena *a;
    struct regex_list *regexes;
    struct errors *e;
};

static bool compile(struct compiler *c, struct log_filter *f, const Filter *m);

/* --- compiling ---------------------------------------------------------------------------------
 */

static bool compile_comparison(struct compiler *c, struct log_filter *f, const Comparison *m)
{
    size_t before = c->e->num_errors;
    size_t mark = errors_push(c->e, "comparison");
    if (!m || !m->value) {
        errors_add(c->e, m ? "value" : NULL, "is required");
        errors_pop(c->e, mark);
        return false;
    }
    f->value = m->value->default_value;
    switch ((int)m->op) {
    case LOG(COMPARISON_FILTER__OP__EQ):
        f->op = OP_EQ;
        break;
    case LOG(COMPARISON_FILTER__OP__GE):
        f->op = OP_GE;
        break;
    case LOG(COMPARISON_FILTER__OP__LE):
        f->op = OP_LE;
        break;
    case LOG(COMPARISON_FILTER__OP__NE):
        f->op = OP_NE;
        break;
    default:
        errors_add(c->e, "op", "value %d is not known", (int)m->op);
    }
    errors_pop(c->e, mark);
    return c->e->num_errors == before;
}

/* There is no runtime yet: the key is not looked up, and the default holds. */
static bool compile_runtime(struct compiler *c, struct log_filter *f, const Runtime *m)
{
    static const uint32_t denominators[] = {100, 10000, 1000000};
    f->independent = m->use_independent_randomness;
    f->denominator = 100;
    if (!m->percent_sampled)
        return true; /* 0 of 100, as in Envoy: nothing but the runtime would switch it on */
    unsigned d = (unsigned)m->percent_sampled->denominator;
    if (d >= ARRAY_LEN(denominators)) {
        errors_add(c->e, "percent_sampled.denominator", "value %u is not known", d);
        return false;
    }
    f->numerator = m->percent_sampled->numerator;
    f->denominator = denominators[d];
    return true;
}

static bool compile_flags(struct compiler *c, struct log_filter *f, const ResponseFlags *m)
{
    bool ok = true;
    for (size_t i = 0; i < m->n_flags; i++) {
        uint64_t bit = 0;
        size_t mark = errors_push_index(c->e, "flags", i);
        if (response_flag_find(str_of(m->flags[i]), &bit)) {
            f->bits |= bit;
        } else {
            errors_add(c->e, NULL, "there is no response flag \"%s\"", m->flags[i]);
            ok = false;
        }
        errors_pop(c->e, mark);
    }
    return ok;
}

static bool compile_grpc(struct compiler *c, struct log_filter *f, const GrpcStatus *m)
{
    f->exclude = m->exclude;
    for (size_t i = 0; i < m->n_statuses; i++) {
        int status = (int)m->statuses[i];
        if (status < 0 || status >= GRPC_NUM_STATUS) {
            errors_add(c->e, "statuses", "value %d is not known", status);
            return false;
        }
        f->bits |= 1ULL << status;
    }
    return true;
}

static bool compile_log_types(struct compiler *c, struct log_filter *f, const LogTypes *m)
{
    f->exclude = m->exclude;
    for (size_t i = 0; i < m->n_types; i++) {
        int type = (int)m->types[i];
        if (type < 0 || type >= NUM_LOG_TYPES) {
            errors_add(c->e, "types", "value %d is not known", type);
            return false;
        }
        f->bits |= 1ULL << type;
    }
    return true;
}

static bool compile_header(struct compiler *c, struct log_filter *f, void *msg)
{
    size_t before = c->e->num_errors;
    if (!msg) {
        errors_add(c->e, "header", "is required");
        return false;
    }
    void *const list[] = {msg};
    f->header = header_matches_compile(c->regexes, c->a, list, 1, "header", c->e);
    return c->e->num_errors == before;
}

static bool compile_children(struct compiler *c, struct log_filter *f, Filter *const *msgs,
                             size_t n)
{
    bool ok = true;
    if (n < 2) {
        errors_add(c->e, "filters", "at least 2 are required");
        return false;
    }
    f->children = arena_zalloc(c->a, n * sizeof(*f->children));
    for (size_t i = 0; i < n; i++) {
        size_t mark = errors_push_index(c->e, "filters", i);
        f->children[i] = ARENA_NEW(c->a, struct log_filter);
        ok = compile(c, f->children[i], msgs[i]) && ok;
        errors_pop(c->e, mark);
    }
    f->num_children = n;
    return ok;
}

static bool compile_kind(struct compiler *c, struct log_filter *f, const Filter *m)
{
    switch ((int)m->filter_specifier_case) {
    case SPECIFIER(STATUS_CODE_FILTER):
        f->kind = FILTER_STATUS;
        return compile_comparison(c, f, m->status_code_filter->comparison);
    case SPECIFIER(DURATION_FILTER):
        f->kind = FILTER_DURATION;
        return compile_comparison(c, f, m->duration_filter->comparison);
    case SPECIFIER(NOT_HEALTH_CHECK_FILTER):
        f->kind = FILTER_NOT_HEALTH_CHECK;
        return true;
    case SPECIFIER(RUNTIME_FILTER):
        f->kind = FILTER_FRACTION;
        return compile_runtime(c, f, m->runtime_filter);
    case SPECIFIER(AND_FILTER):
        f->kind = FILTER_AND;
        return compile_children(c, f, m->and_filter->filters, m->and_filter->n_filters);
    case SPECIFIER(OR_FILTER):
        f->kind = FILTER_OR;
        return compile_children(c, f, m->or_filter->filters, m->or_filter->n_filters);
    case SPECIFIER(HEADER_FILTER):
        f->kind = FILTER_HEADER;
        return compile_header(c, f, m->header_filter->header);
    case SPECIFIER(RESPONSE_FLAG_FILTER):
        f->kind = FILTER_FLAGS;
        return compile_flags(c, f, m->response_flag_filter);
    case SPECIFIER(GRPC_STATUS_FILTER):
        f->kind = FILTER_GRPC;
        return compile_grpc(c, f, m->grpc_status_filter);
    case SPECIFIER(LOG_TYPE_FILTER):
        f->kind = FILTER_LOG_TYPE;
        return compile_log_types(c, f, m->log_type_filter);
    }
    errors_add(c->e, NULL, "this kind of filter is not supported");
    return false;
}

static const char *specifier_name(const Filter *m)
{
    switch ((int)m->filter_specifier_case) {
    case SPECIFIER(STATUS_CODE_FILTER):
        return "status_code_filter";
    case SPECIFIER(DURATION_FILTER):
        return "duration_filter";
    case SPECIFIER(RUNTIME_FILTER):
        return "runtime_filter";
    case SPECIFIER(AND_FILTER):
        return "and_filter";
    case SPECIFIER(OR_FILTER):
        return "or_filter";
    case SPECIFIER(HEADER_FILTER):
        return "header_filter";
    case SPECIFIER(RESPONSE_FLAG_FILTER):
        return "response_flag_filter";
    case SPECIFIER(GRPC_STATUS_FILTER):
        return "grpc_status_filter";
    case SPECIFIER(LOG_TYPE_FILTER):
        return "log_type_filter";
    }
    return "filter_specifier";
}

static bool compile(struct compiler *c, struct log_filter *f, const Filter *m)
{
    size_t mark = errors_push(c->e, specifier_name(m));
    bool ok = compile_kind(c, f, m);
    errors_pop(c->e, mark);
    return ok;
}

struct log_filter *log_filter_compile(struct arena *a, const void *msg, struct regex_list *regexes,
                                      struct errors *e)
{
    struct compiler c = {.a = a, .regexes = regexes, .e = e};
    struct log_filter *f = ARENA_NEW(a, struct log_filter);
    return compile(&c, f, msg) ? f : NULL;
}

/* --- evaluating ----------------------------------------------------------------------------------
 */

static bool compare(const struct log_filter *f, uint64_t n)
{
    switch (f->op) {
    case OP_EQ:
        return n == f->value;
    case OP_GE:
        return n >= f->value;
    case OP_LE:
        return n <= f->value;
    case OP_NE:
        return n != f->value;
    }
    return false;
}

/* By the first digits of the request's id, so that all proxies on its way choose alike. */
static uint64_t sample_of(const struct log_filter *f, const struct stream_info *si)
{
    uint64_t n = 0;
    if (f->independent || si->request_id.len < 8)
        return random_u64();
    for (size_t i = 0; i < 8; i++) {
        char c = si->request_id.p[i];
        char low = (char)(c | 0x20);
        if (c >= '0' && c <= '9')
            n = n << 4 | (uint64_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            n = n << 4 | (uint64_t)(low - 'a' + 10);
        else
            return random_u64();
    }
    return n;
}

static bool pass_header(const struct log_filter *f, const struct stream_info *si)
{
    struct arena scratch, none;
    struct headers empty;
    arena_init(&scratch, 0);
    arena_init(&none, 0);
    headers_init(&empty, &none);
    bool pass = header_match(f->header, si->request ? si->request : &empty, &scratch);
    arena_cleanup(&none);
    arena_cleanup(&scratch);
    return pass;
}

static bool pass_grpc(const struct log_filter *f, const struct stream_info *si)
{
    int64_t status = grpc_status_of(si);
    if (status < 0 || status >= GRPC_NUM_STATUS)
        status = 2; /* UNKNOWN */
    bool listed = f->bits >> status & 1;
    return listed != f->exclude;
}

bool log_filter_pass(const struct log_filter *f, const struct stream_info *si)
{
    switch (f->kind) {
    case FILTER_STATUS:
        return compare(f, si->response_code);
    case FILTER_DURATION:
        return compare(f, si->end_us > si->start_us ? (si->end_us - si->start_us) / 1000 : 0);
    case FILTER_NOT_HEALTH_CHECK:
        return !si->health_check;
    case FILTER_FRACTION:
        return sample_of(f, si) % f->denominator < f->numerator;
    case FILTER_AND:
        for (size_t i = 0; i < f->num_children; i++) {
            if (!log_filter_pass(f->children[i], si))
                return false;
        }
        return true;
    case FILTER_OR:
        for (size_t i = 0; i < f->num_children; i++) {
            if (log_filter_pass(f->children[i], si))
                return true;
        }
        return false;
    case FILTER_HEADER:
        return pass_header(f, si);
    case FILTER_FLAGS:
        return f->bits ? (si->flags & f->bits) != 0 : si->flags != 0;
    case FILTER_GRPC:
        return pass_grpc(f, si);
    case FILTER_LOG_TYPE:
        return (f->bits >> si->log_type & 1) != f->exclude;
    }
    return false;
}
