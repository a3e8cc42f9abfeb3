#include "proxy/health/exchange.h"
#include "proxy/health/http_probe.h"
#include "proxy/health/probe_config.h"

static const struct probe_config *config_of(const struct exchange *x)
{
    return health_session_config(x->base.session)->special;
}

static struct exchange *of(struct health_probe *p)
{
    return CONTAINER_OF(p, struct exchange, base);
}

static bool has_payload(struct exchange *x, const struct probe_config *c)
{
    char *text;
    size_t n = x->answer.len;
    bool found;

    if (c->receive.n == 0)
        return true;
    text = mem_alloc(n);
    buffer_copy_out(&x->answer, 0, text, n);
    found = health_payloads_match(&c->receive, str_n(text, n));
    mem_free(text);
    return found;
}

/* Behind the address may be somebody else by now, who is quite healthy. */
static bool is_service(struct exchange *x, const struct probe_config *c)
{
    const struct header *f;
    if (!c->service)
        return true;
    health_session_verified(x->base.session);
    f = headers_find(x->response, STR("x-envoy-upstream-healthchecked-cluster"));
    return f && string_match(c->service, f->value);
}

static void done(struct exchange *x, bool reset)
{
    const struct probe_config *c = config_of(x);
    struct health_result r = {.failure = HEALTH_NETWORK};

    if (reset) {
        exchange_finish(x, &r);
        return;
    }
    r.failure = HEALTH_ACTIVE;
    r.status = x->response->status;
    if (c->expected.n ? !status_in(&c->expected, r.status) : r.status != 200)
        r.retriable = status_in(&c->retriable, r.status);
    else
        r.ok = has_payload(x, c) && is_service(x, c);
    r.degraded = r.ok && headers_find(x->response, STR("x-envoy-degraded"));
    exchange_finish(x, &r);
}

static struct health_probe *make(struct health_session *s)
{
    struct exchange *x = NEW(struct exchange);
    const struct probe_config *c = health_session_config(s)->special;
    x->done = done;
    exchange_init(x, &http_probe, c->http2 ? &h2_client_protocol : &h1_client_protocol, s);
    return &x->base;
}

static void check(struct health_probe *p)
{
    struct exchange *x = of(p);
    const struct probe_config *c = config_of(x);
    struct headers *h = exchange_request(x, health_session_hostname(p->session, c->host));

    h->method = c->method;
    h->path = c->path;
    headers_add_known(h, HDR_USER_AGENT, STR("Envoy/HC"));
    exchange_mutate(x, c->mutation);
    x->body = c->send;
    x->answer_max = c->receive.n ? c->answer_max : 0;
    if (c->send.len)
        headers_set_known(h, HDR_CONTENT_LENGTH, arena_printf(&x->arena, "%zu", c->send.len));
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

const struct health_probe_ops http_probe = {
    .name = "HTTP",
    .make = make,
    .check = check,
    .abandon = abandon,
    .free = probe_free,
};

const struct health_probe_kinds health_probes = {
    .http = &http_probe,
    .grpc = &grpc_probe,
    .compile = probe_config_compile,
    .release = probe_config_release,
};
