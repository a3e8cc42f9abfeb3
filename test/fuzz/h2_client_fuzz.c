// covers: proxy/http/h2_client.c
/* A server's frames on a pooled HTTP/2 connection, in pieces, with users that ask, send bodies,
 * pause, and leave. The first byte chooses their ways, the second how the bytes are cut; the rest
 * are frames, after SETTINGS of ours. At the end no slot is in use. */
#include "cluster/cluster_stats.h"
#include "proxy/http/codec.h"
#include "test/support/cluster_fixture.h"
#include "test/support/far_end.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { ASKERS = 4 };

struct asker {
    struct pool_request slot;
    struct codec_stream *cs;
    struct arena arena;
    struct headers request;
    bool ended, sent_all, paused;
};

static struct cluster_fixture f;
static struct host *host;
static int listener = -1;
static struct asker askers[ASKERS];
static uint8_t ways;

static struct asker *asker_of(void *arg)
{
    struct asker *a = arg;
    CHECK(a >= askers && a < askers + ASKERS && a->cs && !a->ended);
    return a;
}

/* The response is whole: who has not sent all resets. */
static void whole(struct asker *a)
{
    a->ended = true;
    if (!a->sent_all)
        a->cs->ops->reset(a->cs, RESET_LOCAL);
    a->cs = NULL;
}

static void check_fields(const struct headers *h)
{
    HEADERS_FOREACH(hf, h) {
        CHECK(hf->name.len && hf->name.p[0] != ':');
        for (size_t i = 0; i < hf->value.len; i++)
            CHECK(hf->value.p[i] != '\n' && hf->value.p[i] != '\r' && hf->value.p[i] != 0);
    }
}

static void on_informational(void *user, struct headers *h)
{
    (void)asker_of(user);
    CHECK(h->status >= 100 && h->status < 200 && h->status != 101);
}

static void on_headers(void *user, struct headers *h, bool end)
{
    struct asker *a = asker_of(user);
    CHECK(h->status >= 200 || (h->status == 101 && h->upgrade));
    check_fields(h);
    if (end) {
        whole(a);
    } else if (ways & 1) {
        a->cs->ops->pause(a->cs);
        a->paused = true;
    } else if (ways & 2) {
        a->cs->ops->reset(a->cs, RESET_LOCAL);
        a->cs = NULL;
    }
}

static void on_data(void *user, struct buffer *b, bool end)
{
    struct asker *a = asker_of(user);
    CHECK(!a->paused);
    buffer_drain(b, b->len / 2);
    if (end)
        whole(a);
}

static void on_trailers(void *user, struct headers *h)
{
    struct asker *a = asker_of(user);
    CHECK(!a->paused);
    check_fields(h);
    whole(a);
}

static void on_reset(void *user, enum reset_reason why, struct str detail)
{
    asker_of(user)->cs = NULL;
}

static void on_mark(void *user)
{
    (void)asker_of(user);
}

static const struct codec_events events = {
    .on_informational = on_informational,
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_above = on_mark,
    .on_below = on_mark,
};

static void send_body(struct asker *a, size_t n, bool end)
{
    struct buffer b;
    buffer_init(&b);
    for (size_t i = 0; i < n; i++)
        buffer_add(&b, "0123456789", 10);
    a->sent_all = end;
    a->cs->ops->data(a->cs, &b, end);
    buffer_cleanup(&b);
}

static void on_slot(void *arg, struct pool_conn *pc, enum pool_result r, struct str detail)
{
    static const struct http_client_limits limits = {.max_headers_bytes = 2000,
                                                     .max_headers_count = 20};
    struct asker *a = arg;
    unsigned i = (unsigned)(a - askers);
    struct headers *h = &a->request;
    if (r != POOL_READY)
        return;
    a->cs = http_client_stream(pc, &a->arena, &limits, &events, a);
    headers_init(h, &a->arena);
    h->method = i == 1 ? STR("HEAD") : i == 2 ? STR("POST") : STR("GET");
    h->path = STR("/");
    h->authority = STR("a");
    h->scheme = STR("http");
    if (i == 3 && (ways & 4)) {
        h->upgrade = true;
        headers_add_known(h, HDR_UPGRADE, STR("websocket"));
        headers_add_known(h, HDR_CONNECTION, STR("upgrade"));
    }
    bool with_body = i == 2 || h->upgrade;
    a->sent_all = !with_body;
    a->cs->ops->headers(a->cs, h, !with_body);
    if (with_body)
        send_body(a, 3000, ways & 8);
}

static void start_once(void)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sin);
    char address[32];
    fixture_start(&f);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(listener, (struct sockaddr *)&sin, sizeof(sin)) == 0 && listen(listener, 16) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&sin, &len) == 0);
    snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(sin.sin_port));
    host = fixture_host(&f, address);
    struct cluster_config *config = cluster_config_new(&f.home, STR("c"));
    config->connect_timeout_ms = 1000;
    config->buffer_limit = 8192;
    config->http = UPSTREAM_HTTP2;
    http2_options_default(&config->http2_options);
    config->http2_options.allow_connect = true;
    config->http2_options.reset_on_malformed = true;
    struct host *h = host_ref(host);
    fixture_publish(&f, config, &h, 1);
}

static void resume_some(void)
{
    for (unsigned i = 0; i < ASKERS; i++) {
        struct asker *a = &askers[i];
        if (!a->cs || !a->paused)
            continue;
        a->paused = false;
        a->cs->ops->resume(a->cs);
    }
}

static void drop_all(void)
{
    for (unsigned i = 0; i < ASKERS; i++) {
        struct asker *a = &askers[i];
        pool_cancel(&a->slot);
        if (a->cs)
            a->cs->ops->reset(a->cs, RESET_LOCAL);
        a->cs = NULL;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct far_end far = {0};
    int on = 1;
    if (len < 2)
        return 0;
    if (listener < 0)
        start_once();
    ways = data[0];
    size_t cut = data[1] ? data[1] : 4096;
    struct cluster *c = worker_clusters_find(f.worker, STR("c"));
    for (unsigned i = 0; i < ASKERS; i++) {
        struct asker *a = &askers[i];
        *a = (struct asker){0};
        arena_init(&a->arena, 0);
        pool_acquire(c, host, &h2_client_protocol, NULL, PRIORITY_DEFAULT, &a->slot, on_slot, a);
    }
    far = (struct far_end){.loop = f.loop, .fd = accept(listener, NULL, NULL)};
    buffer_init(&far.got);
    fcntl(far.fd, F_SETFL, O_NONBLOCK);
    setsockopt(far.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    far_end_spin(&far, true);
    if (ways & 16)
        far_end_send(&far, "\0\0\0\4\0\0\0\0\0", 9);
    else
        far_end_send(&far, "\0\0\6\4\0\0\0\0\0\0\10\0\0\0\1", 15);
    for (size_t at = 2; at < len; at += cut) {
        far_end_spin(&far, true);
        if (far.ended || far.reset)
            break;
        far_end_send(&far, data + at, len - at < cut ? len - at : cut);
        far_end_spin(&far, true);
        resume_some();
    }
    far_end_spin(&far, true);
    drop_all();
    far_end_spin(&far, true);
    far_end_hang_up(&far);
    far_end_close(&far);
    fixture_turn(&f, 20);
    loop_advance(f.loop, 2000);
    fixture_turn(&f, 20);
    CHECK(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_ACTIVE) == 0);
    for (unsigned i = 0; i < ASKERS; i++)
        arena_cleanup(&askers[i].arena);
    return 0;
}
