#include "api-protos/mapping.h"
#include "base/log.h"
#include "envoy/admin/v3/server_info.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "proxy/admin/admin_handler.h"
#include "proxy/bootstrap.h"
#include "proxy/server.h"
#include "proxy/version.h"

typedef Envoy__Admin__V3__CommandLineOptions command_line;

static char *text_of(const char *s)
{
    return (char *)(uintptr_t)(s ? s : "");
}

static void fill_times(command_line *c, const struct options *o, Google__Protobuf__Duration d[3])
{
    for (int i = 0; i < 3; i++)
        google__protobuf__duration__init(&d[i]);
    d[0].seconds = (int64_t)(o->file_flush_interval_ms / 1000);
    d[0].nanos = (int32_t)(o->file_flush_interval_ms % 1000 * 1000000);
    d[1].seconds = (int64_t)o->drain_time_s;
    d[2].seconds = (int64_t)o->parent_shutdown_time_s;
    c->file_flush_interval = &d[0];
    c->drain_time = &d[1];
    c->parent_shutdown_time = &d[2];
}

static void fill_options(command_line *c, const struct server *s)
{
    const struct options *o = s->options;
    envoy__admin__v3__command_line_options__init(c);
    c->base_id = o->base_id;
    c->concurrency = s->num_workers;
    c->config_path = text_of(o->config_path);
    c->config_yaml = text_of(o->config_yaml);
    c->allow_unknown_static_fields = o->allow_unknown_static;
    c->reject_unknown_dynamic_fields = o->reject_unknown_dynamic;
    c->admin_address_path = text_of(o->admin_address_path);
    c->local_address_ip_version = o->local_v6
                                      ? ENVOY__ADMIN__V3__COMMAND_LINE_OPTIONS__IP_VERSION__v6
                                      : ENVOY__ADMIN__V3__COMMAND_LINE_OPTIONS__IP_VERSION__v4;
    c->log_level = text_of(o->log_level);
    c->component_log_level = text_of(o->component_levels);
    c->log_format = text_of(o->log_format);
    c->log_format_escaped = o->log_format_escaped;
    c->log_path = text_of(o->log_path);
    c->service_cluster = text_of(o->service_cluster);
    c->service_node = text_of(o->service_node);
    c->service_zone = text_of(o->service_zone);
    c->drain_strategy = o->drain_immediate
                            ? ENVOY__ADMIN__V3__COMMAND_LINE_OPTIONS__DRAIN_STRATEGY__Immediate
                            : ENVOY__ADMIN__V3__COMMAND_LINE_OPTIONS__DRAIN_STRATEGY__Gradual;
    c->mode = o->mode == MODE_VALIDATE    ? ENVOY__ADMIN__V3__COMMAND_LINE_OPTIONS__MODE__Validate
              : o->mode == MODE_INIT_ONLY ? ENVOY__ADMIN__V3__COMMAND_LINE_OPTIONS__MODE__InitOnly
                                          : ENVOY__ADMIN__V3__COMMAND_LINE_OPTIONS__MODE__Serve;
    c->disable_hot_restart = o->disable_hot_restart;
    c->restart_epoch = (uint32_t)o->restart_epoch;
    c->enable_core_dump = o->enable_core_dump;
}

/* The node as the control plane was told; NULL if there is none to be shown. */
static Envoy__Config__Core__V3__Node *node_of(const struct server *s, struct arena *a)
{
    struct errors e;
    if (!s->bootstrap)
        return NULL;
    errors_init(&e);
    Envoy__Config__Core__V3__Node *n = PB_UNPACK(Envoy__Config__Core__V3__Node,
                                                 envoy__config__core__v3__node, s->bootstrap->node,
                                                 a, &e, NULL);
    errors_cleanup(&e);
    return n;
}

void admin_server_info(const struct admin_request *rq, struct admin_response *rs)
{
    const struct server *s = rq->server;
    Envoy__Admin__V3__ServerInfo info;
    command_line options;
    Google__Protobuf__Duration times[3], up;
    envoy__admin__v3__server_info__init(&info);
    fill_options(&options, s);
    fill_times(&options, s->options, times);
    google__protobuf__duration__init(&up);
    up.seconds = (int64_t)((loop_now_ms(s->loop) - s->start_ms) / 1000);
    info.version = text_of(ATTACHE_VERSION_TEXT);
    info.state = (Envoy__Admin__V3__ServerInfo__State)s->state;
    if (s->state == SERVER_LIVE && s->health_failed)
        info.state = ENVOY__ADMIN__V3__SERVER_INFO__STATE__DRAINING;
    info.uptime_current_epoch = info.uptime_all_epochs = &up;
    info.hot_restart_version = text_of("disabled");
    info.command_line_options = &options;
    info.node = node_of(s, rq->arena);
    struct str text = pb_message_to_json(
        &info.base, PB_JSON_PRETTY | PB_JSON_DEFAULTS | PB_JSON_REDACT, rq->arena);
    buffer_add_str(&rs->body, text);
    buffer_add_str(&rs->body, STR("\n"));
    rs->content_type = ADMIN_JSON;
}
