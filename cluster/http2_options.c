#include "cluster/http2_options.h"

#include "api-protos/wkt.h"
#include "envoy/config/core/v3/protocol.pb-c.h"

typedef Envoy__Config__Core__V3__Http2ProtocolOptions H2;

/* Our safe defaults where the field is unset (docs/differences.md); the rest are Envoy's. */
enum {
    DEFAULT_STREAMS = 1024,
    DEFAULT_STREAM_WINDOW = 65536,
    DEFAULT_CONNECTION_WINDOW = 1048576,
    DEFAULT_HPACK_TABLE = 4096,
    DEFAULT_OUTBOUND = 10000,
    DEFAULT_OUTBOUND_CONTROL = 1000,
    DEFAULT_EMPTY = 1,
    DEFAULT_PRIORITY = 100,
    DEFAULT_WINDOW_UPDATES = 10,
    DEFAULT_JITTER = 15,
};

enum { /* RFC 9113 6.5.2, RFC 8441 3 */
       SETTING_TABLE = 1,
       SETTING_PUSH = 2,
       SETTING_STREAMS = 3,
       SETTING_WINDOW = 4,
       SETTING_CONNECT = 8
};

void http2_options_default(struct http2_options *out)
{
    *out = (struct http2_options){
        .max_concurrent_streams = DEFAULT_STREAMS,
        .stream_window = DEFAULT_STREAM_WINDOW,
        .connection_window = DEFAULT_CONNECTION_WINDOW,
        .hpack_table = DEFAULT_HPACK_TABLE,
        .max_outbound_frames = DEFAULT_OUTBOUND,
        .max_outbound_control_frames = DEFAULT_OUTBOUND_CONTROL,
        .max_empty_frames = DEFAULT_EMPTY,
        .max_priority_frames_per_stream = DEFAULT_PRIORITY,
        .max_window_updates_per_data_frame = DEFAULT_WINDOW_UPDATES,
    };
}

static void compile_keepalive(const Envoy__Config__Core__V3__KeepaliveSettings *k,
                              struct http2_options *out, struct errors *e)
{
    if (!k)
        return;
    size_t mark = errors_push(e, "connection_keepalive");
    out->ping_interval_ms = wkt_duration_ms(k->interval, 0, e, "interval");
    out->ping_timeout_ms = wkt_duration_ms(k->timeout, 0, e, "timeout");
    out->ping_idle_ms = wkt_duration_ms(k->connection_idle_interval, 0, e,
                                        "connection_idle_interval");
    out->ping_jitter = k->interval_jitter ? k->interval_jitter->value : DEFAULT_JITTER;
    errors_pop(e, mark);
}

/* A setting that has a field of its own must not be given twice with different values. */
static bool named_differently(const H2 *m, uint32_t id, uint32_t value)
{
    switch (id) {
    case SETTING_TABLE:
        return m->hpack_table_size && m->hpack_table_size->value != value;
    case SETTING_STREAMS:
        return m->max_concurrent_streams && m->max_concurrent_streams->value != value;
    case SETTING_WINDOW:
        return m->initial_stream_window_size && m->initial_stream_window_size->value != value;
    default:
        return false;
    }
}

static void compile_setting(const H2 *m, uint32_t id, uint32_t value, struct http2_setting *v,
                            struct http2_options *out, struct errors *e)
{
    for (uint32_t i = 0; i < out->num_settings; i++) {
        if (v[i].id == id && v[i].value != value) {
            errors_add(e, NULL, "setting 0x%x is given twice", id);
            return;
        }
    }
    if (named_differently(m, id, value)) {
        errors_add(e, NULL, "setting 0x%x is given by its own field too", id);
        return;
    }
    switch (id) {
    case SETTING_PUSH:
        if (value)
            errors_add(e, NULL, "server push is not supported (RFC 9113 8.4)");
        return;
    case SETTING_CONNECT:
        errors_add(e, NULL, "SETTINGS_ENABLE_CONNECT_PROTOCOL is set by allow_connect");
        return;
    case SETTING_TABLE:
        out->hpack_table = value;
        return;
    case SETTING_STREAMS:
        out->max_concurrent_streams = value;
        return;
    case SETTING_WINDOW:
        out->stream_window = value;
        return;
    default:
        v[out->num_settings++] = (struct http2_setting){(uint16_t)id, value};
    }
}

static void compile_settings(const H2 *m, struct http2_options *out, struct arena *a,
                             struct errors *e)
{
    struct http2_setting *v = arena_zalloc(a, (m->n_custom_settings_parameters + 1) * sizeof(*v));
    out->settings = v;
    for (size_t i = 0; i < m->n_custom_settings_parameters; i++) {
        const Envoy__Config__Core__V3__Http2ProtocolOptions__SettingsParameter *p =
            m->custom_settings_parameters[i];
        size_t mark = errors_push_index(e, "custom_settings_parameters", i);
        if (p->identifier && p->value)
            compile_setting(m, p->identifier->value, p->value->value, v, out, e);
        errors_pop(e, mark);
    }
}

/* Ranges and what is required are the rules of the message itself. */
void http2_options_compile(const void *msg, struct http2_options *out, struct arena *a,
                           struct errors *e)
{
    const H2 *m = msg;
    http2_options_default(out);
    if (!m)
        return;
    out->max_concurrent_streams = wkt_u32(m->max_concurrent_streams, out->max_concurrent_streams);
    out->stream_window = wkt_u32(m->initial_stream_window_size, out->stream_window);
    out->connection_window = wkt_u32(m->initial_connection_window_size, out->connection_window);
    out->hpack_table = wkt_u32(m->hpack_table_size, out->hpack_table);
    out->max_outbound_frames = wkt_u32(m->max_outbound_frames, out->max_outbound_frames);
    out->max_outbound_control_frames = wkt_u32(m->max_outbound_control_frames,
                                               out->max_outbound_control_frames);
    out->max_empty_frames = wkt_u32(m->max_consecutive_inbound_frames_with_empty_payload,
                                    out->max_empty_frames);
    out->max_priority_frames_per_stream = wkt_u32(m->max_inbound_priority_frames_per_stream,
                                                  out->max_priority_frames_per_stream);
    out->max_window_updates_per_data_frame = wkt_u32(
        m->max_inbound_window_update_frames_per_data_frame_sent,
        out->max_window_updates_per_data_frame);
    out->allow_connect = m->allow_connect;
    out->reset_on_malformed = wkt_bool(m->override_stream_error_on_invalid_http_message, false);
    compile_keepalive(m->connection_keepalive, out, e);
    compile_settings(m, out, a, e);
}
