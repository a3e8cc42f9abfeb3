// covers: xds/delta.c
// covers: xds/discovery.c
// covers: xds/ingest.c
/* What a control plane says: the bytes are one message on an ADS stream, state of the world and
 * then incremental, whose client knows clusters (a wildcard type) and endpoints (named). The
 * compile step only looks at the bytes, so that what is found lies in xds. Whatever comes: at most
 * one answer, which is UTF-8 and parses, and nothing is removed that was not applied. */
#include "api-protos/message.h"
#include "api-protos/wire.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/utf8.h"
#include "xds/discovery.h"
#include "xds/transport.h"
#include "xds/xds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct xds_call {
    const struct xds_call_events *ev;
    void *arg;
    struct loop *loop;
    struct task sent;
    size_t num_sent;
    bool receiving, closed;
};

static struct xds_call call;
static bool speaks_delta;

static void *type_compile(void *owner, struct str name, struct str bytes, struct errors *e)
{
    if (!pb_walk(pb_find(STR("envoy.config.cluster.v3.Cluster")), bytes, e, NULL))
        return NULL;
    return mem_alloc(1);
}

static void type_ref(void *compiled)
{
    CHECK(false); /* nobody keeps one */
}

static bool type_apply(void *owner, struct str name, void *compiled, struct str version,
                       struct errors *e)
{
    CHECK(name.len && utf8_ok(name) && utf8_ok(version));
    if (name.p[0] != '!')
        return true;
    errors_add(e, "address", "is in use");
    return false;
}

static void type_remove(void *owner, struct str name)
{
    CHECK(name.len && name.p[0] != '!');
}

static bool type_name(struct str bytes, struct str *out)
{
    return discovery_name_of(bytes, 1, out);
}

static void on_update(void *arg, void *compiled)
{
}

static void on_absent(void *arg, enum xds_absent why)
{
}

static void count_ref(void *compiled)
{
    ++*(char *)compiled;
}

static void count_unref(void *compiled)
{
    if (--*(char *)compiled == 0)
        mem_free(compiled);
}

static void *named_compile(void *owner, struct str name, struct str bytes, struct errors *e)
{
    char *p = type_compile(owner, name, bytes, e);
    if (p)
        *p = 1;
    return p;
}

static struct resource_ops cds = {
    .type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    .label = "cds",
    .wildcard = true,
    .name_of = type_name,
    .compile = type_compile,
    .ref = type_ref,
    .unref = mem_free,
    .apply = type_apply,
    .remove = type_remove,
};

static const struct resource_ops eds = {
    .type_url = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    .label = "eds",
    .name_of = type_name,
    .compile = named_compile,
    .ref = count_ref,
    .unref = count_unref,
};

static const struct watcher_ops watcher = {on_update, on_absent, NULL};

/* --- the transport ---------------------------------------------------------------------------- */

static void *start(struct loop *main, size_t max_message)
{
    return main;
}

static void stop(void *transport)
{
}

static void on_sent(void *arg)
{
    call.ev->on_sent(call.arg);
}

static struct xds_call *open_call(void *transport, int fd, const struct xds_call_options *opts,
                                  const struct xds_call_events *ev, void *arg)
{
    call = (struct xds_call){.ev = ev, .arg = arg, .loop = transport};
    task_init(&call.sent, on_sent, NULL);
    return &call;
}

/* Node and error_detail, and the versions of an incremental request. */
static bool is_message(uint32_t field)
{
    return speaks_delta ? field == 1 || field == 5 || field == 7 : field == 2 || field == 6;
}

static void send_request(struct xds_call *c, struct str bytes)
{
    struct wire w;
    struct wire_field f;
    enum wire_result r;
    const char *why;
    c->num_sent++;
    wire_init(&w, bytes);
    while ((r = wire_next(&w, &f, &why)) == WIRE_FIELD)
        CHECK(f.type == WIRE_LEN && (is_message(f.number) || utf8_ok(f.bytes)));
    CHECK(r == WIRE_END);
    loop_post(c->loop, &c->sent);
}

static void receive(struct xds_call *c)
{
    c->receiving = true;
}

static void close_call(struct xds_call *c)
{
    task_cancel(&c->sent);
    c->closed = true;
}

static const struct xds_transport_ops transport = {start,        stop,    open_call,
                                                   send_request, receive, close_call};

static int dial(void *arg, struct str cluster, char *why, size_t why_len)
{
    return 1000;
}

static void run(struct loop *l)
{
    while (loop_run_once(l, false))
        ;
}

static void nothing(void *arg, const struct xds_resource_info *r)
{
    CHECK(r->name.len && (r->status != XDS_STATUS_NACKED || r->error.len));
}

/* Resources end, the stream breaks, and all is asked for again. */
static void reconnect(struct loop *loop)
{
    loop_advance(loop, 20000);
    run(loop);
    if (!call.closed)
        call.ev->on_close(call.arg, 14, STR("bye"));
    run(loop);
    loop_advance(loop, 60000);
    run(loop);
    CHECK(call.num_sent == 2 && call.receiving && !call.closed);
}

static void fuzz_stream(bool delta, const uint8_t *data, size_t len)
{
    static const struct xds_source ads = {.kind = XDS_SOURCE_ADS};
    struct xds_options opts = {.transport = &transport};
    struct xds_server server = {.cluster = STR("cp"), .delta = delta};
    log_set_all(LOG_LEVEL_OFF);
    speaks_delta = delta;
    cds.remove_first = len & 1; /* as clusters do it, or as listeners do */
    stats_init(1);
    struct loop *loop = loop_new(true);
    struct xds *x = xds_new(loop, &opts);
    xds_set_dial(x, dial, NULL);
    xds_set_ads(x, &server);
    xds_register(x, &cds, NULL);
    xds_register(x, &eds, NULL);
    xds_collect(x, &ads, &cds, NULL, NULL, NULL);
    struct subscription *s = xds_subscribe(x, &ads, &eds, STR("e"), NULL, &watcher, NULL);
    run(loop);
    CHECK(call.num_sent == 2 && call.receiving);
    for (int round = 0; round < 2 && !call.closed; round++) {
        call.receiving = false;
        call.ev->on_message(call.arg, str_n((const char *)data, len));
        run(loop);
        CHECK(call.closed || call.receiving);
        CHECK(call.num_sent <= (size_t)round + 3); /* one answer, or none to an unknown type */
    }
    xds_foreach(x, NULL, nothing, NULL);
    reconnect(loop);
    xds_unsubscribe(&s);
    xds_free(&x);
    loop_free(&loop);
    stats_cleanup();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    fuzz_stream(false, data, len);
    fuzz_stream(true, data, len);
    return 0;
}
