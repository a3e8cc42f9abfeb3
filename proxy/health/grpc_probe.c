#include "proxy/health/exchange.h"
#include "proxy/health/grpc_health.h"
#include "proxy/health/http_probe.h"
#include "proxy/health/probe_config.h"

enum { GRPC_ANSWER_MAX = 1024 };

static const struct probe_config *config_of(const struct exchange *x)
{
    return health_session_config(x->base.session)->special;
}

static struct exchange *of(struct health_probe *p)
{
    return CONTAINER_OF(p, struct exchange, base);
}

static bool is_serving(struct exchange *x)
{
    char text[GRPC_ANSWER_MAX];
    size_t n = x->answer.len;
    const struct headers *last = x->trailers ? x->trailers : x->response;
    const struct header *status = headers_known(last, HDR_GRPC_STATUS);

    if (x->response->status != 200 || !headers_is_grpc(x->response) || !status ||
        !str_eq(status->value, STR("0")) || x->answer_cut)
        return false;
    buffer_copy_out(&x->answer, 0, text, n);
    return grpc_health_serving(str_n(text, n));
}

static void done(struct exchange *x, bool reset)
{
    struct health_result r = {.failure = HEALTH_NETWORK};
    if (!reset) {
        r.failure = HEALTH_ACTIVE;
        r.ok = is_serving(x);
    }
    exchange_finish(x, &r);
}

static struct health_probe *make(struct health_session *s)
{
    struct exchange *x = NEW(struct exchange);
    x->done = done;
    x->answer_max = GRPC_ANSWER_MAX;
    exchange_init(x, &grpc_probe, &h2_client_protocol, s);
    return &x->base;
}

/* At most eight digits (the gRPC protocol over HTTP/2, "TimeoutValue"). */
static struct str grpc_timeout(struct arena *a, uint64_t ms)
{
    if (ms < 100000000)
        return arena_printf(a, "%llum", (unsigned long long)ms);
    return arena_printf(a, "%lluS", (unsigned long long)(ms / 1000 % 100000000));
}

static void check(struct health_probe *p)
{
    struct exchange *x = of(p);
    const struct probe_config *c = config_of(x);
    struct headers *h = exchange_request(x, health_session_hostname(p->session, c->host));

    h->method = STR("POST");
    h->path = STR("/grpc.health.v1.Health/Check");
    headers_add_known(h, HDR_TE, STR("trailers"));
    headers_add_known(h, HDR_CONTENT_TYPE, STR("application/grpc"));
    headers_add_known(h, HDR_USER_AGENT, STR("Envoy/HC"));
    headers_add_known(h, HDR_GRPC_TIMEOUT,
                      grpc_timeout(&x->arena, health_session_config(p->session)->timeout_ms));
    exchange_mutate(x, c->mutation);
    x->body = grpc_health_request(&x->arena, c->service_name);
    exchange_send(x);
}

static void abandon(struct health_probe *p)
{
    exchange_abandon(of(p));
}

static void probe_free(struct health_probe *p)
{
    struct exchange *x = of(p);
    exchange_cleanup(x);
    mem_free(x);
}

const struct health_probe_ops grpc_probe = {
    .name = "GRPC",
    .make = make,
    .check = check,
    .abandon = abandon,
    .free = probe_free,
};
