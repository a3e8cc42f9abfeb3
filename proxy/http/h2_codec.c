#include "proxy/http/h2_codec.h"

#include "base/alloc.h"
#include "proxy/http/h2_guard.h"
#include "proxy/http/h2_memory.h"
#include <nghttp2/nghttp2.h>

enum {
    STACK_FIELDS = 64,
    MAX_SETTINGS = 32,
    INITIAL_PEER_STREAMS = 100, /* before its SETTINGS say so (RFC 9113 6.5.2) */
    MAX_BLOCK = 1 << 20,        /* of what we send */
    NO_LIMIT = 1 << 30,
};

struct h2_session {
    nghttp2_session *ng;
    const struct h2_session_events *events;
    void *user;
    bool server;
    bool broken;
    struct h2_memory memory;
};

/* --- events --- */

static void *stream_of(struct h2_session *s, int32_t id)
{
    return nghttp2_session_get_stream_user_data(s->ng, id);
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *f, void *arg)
{
    struct h2_session *s = arg;
    s->events->on_head_begin(s->user, f->hd.stream_id, stream_of(s, f->hd.stream_id));
    return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
    struct h2_session *s = arg;
    bool go_on = s->events->on_field(s->user, str_n((const char *)name, name_len),
                                     str_n((const char *)value, value_len));
    return go_on ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_data_chunk(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p,
                         size_t len, void *arg)
{
    struct h2_session *s = arg;
    s->events->on_data(s->user, id, stream_of(s, id), p, len);
    return 0;
}

static void on_ping(struct h2_session *s, const nghttp2_frame *f)
{
    uint64_t opaque;
    if (!(f->hd.flags & NGHTTP2_FLAG_ACK))
        return;
    memcpy(&opaque, f->ping.opaque_data, sizeof(opaque));
    s->events->on_ping_ack(s->user, opaque);
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *f, void *arg)
{
    struct h2_session *s = arg;
    int32_t id = f->hd.stream_id;
    bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
    switch (f->hd.type) {
    case NGHTTP2_DATA:
        s->events->on_data_end(s->user, id, stream_of(s, id), end);
        break;
    case NGHTTP2_HEADERS:
        s->events->on_head_end(s->user, id, stream_of(s, id), end);
        break;
    case NGHTTP2_RST_STREAM:
        s->events->on_reset(s->user, id, stream_of(s, id), f->rst_stream.error_code);
        break;
    case NGHTTP2_GOAWAY:
        s->events->on_goaway(s->user, f->goaway.last_stream_id, f->goaway.error_code);
        break;
    case NGHTTP2_SETTINGS:
        if (!(f->hd.flags & NGHTTP2_FLAG_ACK))
            s->events->on_settings(s->user);
        break;
    case NGHTTP2_PING:
        on_ping(s, f);
        break;
    default:
        break;
    }
    return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *arg)
{
    struct h2_session *s = arg;
    s->events->on_close(s->user, id, stream_of(s, id), code);
    return 0;
}

static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *f, void *arg)
{
    struct h2_session *s = arg;
    s->events->on_sent(s->user, f->hd.stream_id, stream_of(s, f->hd.stream_id), f->hd.type,
                       f->hd.flags);
    return 0;
}

static int on_frame_not_send(nghttp2_session *ng, const nghttp2_frame *f, int error, void *arg)
{
    struct h2_session *s = arg;
    if (f->hd.type == NGHTTP2_HEADERS)
        s->events->on_not_sent(s->user, f->hd.stream_id);
    return 0;
}

static ssize_t want_data(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t max, uint32_t *flags,
                         nghttp2_data_source *source, void *arg)
{
    struct h2_session *s = arg;
    bool end = false, trailers = false;
    size_t n = s->events->on_want_data(s->user, id, source->ptr, max, &end, &trailers);
    if (n == 0 && !end)
        return NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (end)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (trailers)
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    return (ssize_t)n;
}

static int write_data(nghttp2_session *ng, nghttp2_frame *f, const uint8_t *head, size_t len,
                      nghttp2_data_source *source, void *arg)
{
    struct h2_session *s = arg;
    struct str h = str_n((const char *)head, H2_FRAME_HEADER);
    switch (s->events->on_write_data(s->user, source->ptr, h, len)) {
    case H2_WRITTEN:
        return 0;
    case H2_BLOCKED:
        return NGHTTP2_ERR_WOULDBLOCK;
    case H2_DROPPED:
        break;
    }
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* --- life --- */

static nghttp2_session_callbacks *make_callbacks(void)
{
    nghttp2_session_callbacks *cb;
    CHECK(nghttp2_session_callbacks_new(&cb) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_frame_not_send);
    nghttp2_session_callbacks_set_send_data_callback(cb, write_data);
    return cb;
}

/* Messages are judged by h2_head and their lengths by who counts them, alike for both sides and for
 * HTTP/1; the rate of resets and the number of CONTINUATIONs by h2_guard, which can say why. */
static nghttp2_option *make_options(const struct http2_options *o)
{
    nghttp2_option *opt;
    CHECK(nghttp2_option_new(&opt) == 0);
    nghttp2_option_set_no_auto_window_update(opt, 1);
    nghttp2_option_set_no_http_messaging(opt, 1);
    nghttp2_option_set_no_closed_streams(opt, 1);
    nghttp2_option_set_peer_max_concurrent_streams(opt, INITIAL_PEER_STREAMS);
    nghttp2_option_set_max_deflate_dynamic_table_size(opt, o->hpack_table);
    nghttp2_option_set_max_settings(opt, MAX_SETTINGS);
    nghttp2_option_set_max_send_header_block_length(opt, MAX_BLOCK);
    nghttp2_option_set_max_outbound_ack(opt, NO_LIMIT);
    nghttp2_option_set_stream_reset_rate_limit(opt, NO_LIMIT, NO_LIMIT);
    return opt;
}

static void submit_settings(struct h2_session *s, const struct http2_options *o)
{
    nghttp2_settings_entry *v = mem_alloc((o->num_settings + 6) * sizeof(*v));
    size_t n = 0;
    v[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                                      o->max_concurrent_streams};
    v[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, o->stream_window};
    if (o->hpack_table != NGHTTP2_DEFAULT_HEADER_TABLE_SIZE)
        v[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, o->hpack_table};
    if (!s->server)
        v[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    /* No tree of priorities, which a client could grow (CVE-2019-9513). */
    v[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1};
    if (o->allow_connect && s->server)
        v[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1};
    for (uint32_t i = 0; i < o->num_settings; i++)
        v[n++] = (nghttp2_settings_entry){o->settings[i].id, o->settings[i].value};
    if (nghttp2_submit_settings(s->ng, NGHTTP2_FLAG_NONE, v, n) != 0)
        s->broken = true;
    mem_free(v);
    (void)nghttp2_session_set_local_window_size(s->ng, NGHTTP2_FLAG_NONE, 0,
                                                (int32_t)o->connection_window);
}

struct h2_session *h2_session_new(bool server, const struct http2_options *options,
                                  const struct h2_session_events *events, void *user)
{
    struct h2_session *s = NEW(struct h2_session);
    nghttp2_session_callbacks *cb = make_callbacks();
    nghttp2_option *opt = make_options(options);
    s->events = events;
    s->user = user;
    s->server = server;
    h2_memory_init(&s->memory);
    nghttp2_mem mem = {&s->memory, h2_memory_malloc, h2_memory_free, h2_memory_calloc,
                       h2_memory_realloc};
    int rv = server ? nghttp2_session_server_new3(&s->ng, cb, s, opt, &mem)
                    : nghttp2_session_client_new3(&s->ng, cb, s, opt, &mem);
    CHECK(rv == 0); /* out of memory */
    h2_memory_made(&s->memory);
    nghttp2_option_del(opt);
    nghttp2_session_callbacks_del(cb);
    submit_settings(s, options);
    return s;
}

void h2_session_free(struct h2_session **sp)
{
    struct h2_session *s = *sp;
    if (!s)
        return;
    *sp = NULL;
    nghttp2_session_del(s->ng);
    mem_free(s);
}

/* --- bytes --- */

bool h2_session_feed(struct h2_session *s, const char *p, size_t len)
{
    ssize_t n = nghttp2_session_mem_recv(s->ng, (const uint8_t *)p, len);
    if (n < 0)
        s->broken = true;
    return n >= 0;
}

bool h2_session_pull(struct h2_session *s, struct str *out)
{
    const uint8_t *p;
    ssize_t n = nghttp2_session_mem_send(s->ng, &p);
    if (n < 0)
        s->broken = true;
    if (n <= 0)
        return false;
    *out = str_n((const char *)p, (size_t)n);
    return true;
}

bool h2_session_broken(const struct h2_session *s)
{
    return s->broken;
}

bool h2_session_over(const struct h2_session *s)
{
    return !nghttp2_session_want_read(s->ng) && !nghttp2_session_want_write(s->ng);
}

void h2_session_trim(struct h2_session *s)
{
    if (!nghttp2_session_want_write(s->ng))
        h2_memory_trim(&s->memory);
}

size_t h2_session_queued(const struct h2_session *s)
{
    return nghttp2_session_get_outbound_queue_size(s->ng);
}

bool h2_session_knows(const struct h2_session *s, int32_t id)
{
    return nghttp2_session_find_stream(s->ng, id) != NULL;
}

void h2_session_set_stream(struct h2_session *s, int32_t id, void *stream)
{
    (void)nghttp2_session_set_stream_user_data(s->ng, id, stream);
}

/* --- heads --- */

static nghttp2_nv make_nv(struct str name, struct str value, uint8_t flags)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name.p,
                        .namelen = name.len,
                        .value = (uint8_t *)(uintptr_t)(value.p ? value.p : ""),
                        .valuelen = value.len,
                        .flags = flags};
}

/* RFC 9113 8.2.2; the pseudo-headers stand for Host. */
static bool leaves_out(const struct header *f)
{
    switch (f->id) {
    case HDR_CONNECTION:
    case HDR_KEEP_ALIVE:
    case HDR_PROXY_CONNECTION:
    case HDR_TRANSFER_ENCODING:
    case HDR_UPGRADE:
    case HDR_HOST:
        return true;
    case HDR_TE:
        return !str_ieq(f->value, STR("trailers"));
    default:
        return false;
    }
}

/* What is different in each message only pushes better entries out of the table, of both peers. */
static uint8_t nv_flags(const struct header *f)
{
    bool unique = f->id == HDR_X_REQUEST_ID || f->id == HDR_X_ENVOY_UPSTREAM_SERVICE_TIME;
    return unique ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
}

static size_t put_fields(nghttp2_nv *v, const struct headers *h, bool no_length)
{
    size_t n = 0;
    HEADERS_FOREACH(f, h) {
        if (leaves_out(f) || (no_length && f->id == HDR_CONTENT_LENGTH))
            continue;
        v[n++] = make_nv(f->name, f->value, nv_flags(f));
    }
    return n;
}

static nghttp2_nv *fields_for(nghttp2_nv *stack, const struct headers *h)
{
    size_t need = h->live + 8;
    return need <= STACK_FIELDS ? stack : mem_alloc(need * sizeof(*stack));
}

static void fields_done(nghttp2_nv *v, const nghttp2_nv *stack)
{
    if (v != stack)
        mem_free(v);
}

static size_t put_request(nghttp2_nv *v, const struct headers *h)
{
    size_t n = 0;
    struct header *upgrade = h->upgrade ? headers_known(h, HDR_UPGRADE) : NULL;
    bool connect = str_eq(h->method, STR("CONNECT"));
    v[n++] = make_nv(STR(":method"), upgrade ? STR("CONNECT") : h->method, 0);
    if (upgrade)
        v[n++] = make_nv(STR(":protocol"), upgrade->value, 0);
    if (!connect) {
        v[n++] = make_nv(STR(":scheme"), h->scheme.len ? h->scheme : STR("http"), 0);
        v[n++] = make_nv(STR(":path"), h->path, 0);
    }
    v[n++] = make_nv(STR(":authority"), h->authority, 0);
    return n + put_fields(v + n, h, false);
}

int32_t h2_session_request(struct h2_session *s, const struct headers *h, bool end, void *stream)
{
    nghttp2_nv stack[STACK_FIELDS], *v = fields_for(stack, h);
    nghttp2_data_provider body = {.source = {.ptr = stream}, .read_callback = want_data};
    size_t n = put_request(v, h);
    int32_t id = nghttp2_submit_request(s->ng, NULL, v, n, end ? NULL : &body, stream);
    fields_done(v, stack);
    return id > 0 ? id : 0;
}

static size_t put_status(nghttp2_nv *v, unsigned status, char text[4])
{
    text[0] = (char)('0' + status / 100 % 10);
    text[1] = (char)('0' + status / 10 % 10);
    text[2] = (char)('0' + status % 10);
    v[0] = make_nv(STR(":status"), str_n(text, 3), 0);
    return 1;
}

void h2_session_response(struct h2_session *s, int32_t id, const struct headers *h, unsigned status,
                         bool end, void *stream)
{
    nghttp2_nv stack[STACK_FIELDS], *v = fields_for(stack, h);
    nghttp2_data_provider body = {.source = {.ptr = stream}, .read_callback = want_data};
    char text[4];
    size_t n = put_status(v, status ? status : h->status, text);
    n += put_fields(v + n, h, h->status == 204 || h->status < 200);
    int rv = nghttp2_submit_response(s->ng, id, v, n, end ? NULL : &body);
    fields_done(v, stack);
    if (rv != 0)
        h2_session_reset(s, id, H2_INTERNAL_ERROR);
    else /* turn by turn, not one after the other (RFC 9218 4.2) */
        (void)nghttp2_session_change_extpri_stream_priority(
            s->ng, id, &(nghttp2_extpri){.urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1}, 1);
}

void h2_session_informational(struct h2_session *s, int32_t id, const struct headers *h)
{
    nghttp2_nv stack[STACK_FIELDS], *v = fields_for(stack, h);
    char text[4];
    size_t n = put_status(v, h->status, text);
    n += put_fields(v + n, h, true);
    (void)nghttp2_submit_headers(s->ng, NGHTTP2_FLAG_NONE, id, NULL, v, n, NULL);
    fields_done(v, stack);
}

void h2_session_trailers(struct h2_session *s, int32_t id, const struct headers *h)
{
    nghttp2_nv stack[STACK_FIELDS], *v = fields_for(stack, h);
    size_t n = put_fields(v, h, true);
    int rv = nghttp2_submit_trailer(s->ng, id, v, n);
    fields_done(v, stack);
    if (rv != 0)
        h2_session_reset(s, id, H2_INTERNAL_ERROR);
}

/* --- the rest --- */

void h2_session_resume(struct h2_session *s, int32_t id)
{
    (void)nghttp2_session_resume_data(s->ng, id); /* not deferred: it is asked anyway */
}

void h2_session_consume(struct h2_session *s, int32_t id, size_t len)
{
    if (nghttp2_session_consume(s->ng, id, len) != 0)
        (void)nghttp2_session_consume_connection(s->ng, len);
}

size_t h2_session_window(const struct h2_session *s, int32_t id)
{
    int32_t stream = nghttp2_session_get_stream_remote_window_size(s->ng, id);
    int32_t all = nghttp2_session_get_remote_window_size(s->ng);
    int32_t least = stream < all ? stream : all;
    return least > 0 ? (size_t)least : 0;
}

void h2_session_reset(struct h2_session *s, int32_t id, uint32_t code)
{
    (void)nghttp2_submit_rst_stream(s->ng, NGHTTP2_FLAG_NONE, id, code);
}

void h2_session_ping(struct h2_session *s, uint64_t opaque)
{
    uint8_t bytes[8];
    memcpy(bytes, &opaque, sizeof(bytes));
    (void)nghttp2_submit_ping(s->ng, NGHTTP2_FLAG_NONE, bytes);
}

void h2_session_notice(struct h2_session *s)
{
    (void)nghttp2_submit_shutdown_notice(s->ng);
}

void h2_session_goaway(struct h2_session *s)
{
    (void)nghttp2_submit_goaway(s->ng, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(s->ng), NGHTTP2_NO_ERROR,
                                NULL, 0);
}

void h2_session_terminate(struct h2_session *s, uint32_t code)
{
    (void)nghttp2_session_terminate_session(s->ng, code);
}

uint32_t h2_session_peer_streams(const struct h2_session *s)
{
    return nghttp2_session_get_remote_settings(s->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

bool h2_session_peer_connect(const struct h2_session *s)
{
    return nghttp2_session_get_remote_settings(s->ng, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL);
}
