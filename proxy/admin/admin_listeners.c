#include "base/addr.h"
#include "proxy/admin/admin_address.h"
#include "proxy/admin/admin_handler.h"
#include "proxy/listener/listeners.h"
#include "proxy/server.h"

void admin_put_address(struct json_writer *w, const struct addr *a)
{
    char text[ADDR_TEXT_MAX];
    bool ip = addr_is_ip(a);
    json_open(w, '{');
    json_key(w, ip ? STR("socket_address") : STR("pipe"));
    json_open(w, '{');
    json_key(w, ip ? STR("address") : STR("path"));
    json_put_str(w, ip ? addr_format_ip(a, text) : addr_format(a, text));
    if (ip) {
        json_key(w, STR("port_value"));
        json_put_u64(w, addr_port(a));
    }
    json_close(w, '}');
    json_close(w, '}');
}

static bool is_listening(const struct listener_view *v)
{
    return !v->warming && v->num_addresses;
}

static void put_text(void *arg, const struct listener_view *v)
{
    struct buffer *b = arg;
    char text[ADDR_TEXT_MAX];
    if (!is_listening(v))
        return;
    for (size_t i = 0; i < v->num_addresses; i++)
        buffer_printf(b, "%.*s::%.*s\n", STR_ARG(v->name),
                      STR_ARG(addr_format(&v->addresses[i], text)));
}

static void put_json(void *arg, const struct listener_view *v)
{
    struct json_writer *w = arg;
    if (!is_listening(v))
        return;
    json_open(w, '{');
    json_key(w, STR("name"));
    json_put_str(w, v->name);
    json_key(w, STR("local_address"));
    admin_put_address(w, &v->addresses[0]);
    if (v->num_addresses > 1) {
        json_key(w, STR("additional_local_addresses"));
        json_open(w, '[');
        for (size_t i = 1; i < v->num_addresses; i++)
            admin_put_address(w, &v->addresses[i]);
        json_close(w, ']');
    }
    json_close(w, '}');
}

void admin_listeners(const struct admin_request *rq, struct admin_response *rs)
{
    const struct listeners *l = rq->server->listeners;
    struct str format = STR_NULL;
    struct json_writer w;
    (void)admin_query_get(&rq->query, "format", &format);
    if (!str_eq(format, STR("json"))) {
        if (l)
            listeners_visit(l, put_text, &rs->body);
        return;
    }
    json_writer_init(&w, true);
    json_open(&w, '{');
    json_key(&w, STR("listener_statuses"));
    json_open(&w, '[');
    if (l)
        listeners_visit(l, put_json, &w);
    json_close(&w, ']');
    json_close(&w, '}');
    admin_put_json(rs, &w);
}
