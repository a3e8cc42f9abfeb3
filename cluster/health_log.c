#include "cluster/health_log.h"

static void put(struct json_writer *w, const char *key, struct str value)
{
    json_key(w, str_of(key));
    json_put_str(w, value);
}

static void put_address(struct json_writer *w, const struct addr *a)
{
    char text[ADDR_TEXT_MAX];

    json_key(w, STR("host"));
    json_open(w, '{');
    if (addr_is_ip(a)) {
        json_key(w, STR("socket_address"));
        json_open(w, '{');
        put(w, "protocol", STR("TCP"));
        put(w, "address", addr_format_ip(a, text));
        json_key(w, STR("port_value"));
        json_put_u64(w, addr_port(a));
        put(w, "resolver_name", STR(""));
        json_key(w, STR("ipv4_compat"));
        json_put_bool(w, false);
        put(w, "network_namespace_filepath", STR(""));
    } else {
        json_key(w, STR("pipe"));
        json_open(w, '{');
        put(w, "path", addr_format(a, text));
        json_key(w, STR("mode"));
        json_put_u64(w, 0);
    }
    json_close(w, '}');
    json_close(w, '}');
}

static void put_event(struct json_writer *w, enum health_event ev,
                      const struct health_event_info *i)
{
    static const char *const names[] = {
        [HEALTH_EJECT] = "eject_unhealthy_event",
        [HEALTH_ADD] = "add_healthy_event",
        [HEALTH_FAILURE] = "health_check_failure_event",
        [HEALTH_DEGRADED] = "degraded_healthy_host",
        [HEALTH_NO_LONGER_DEGRADED] = "no_longer_degraded_host",
        [HEALTH_SUCCESS] = "successful_health_check_event",
    };
    static const char *const failures[] = {
        [HEALTH_ACTIVE] = "ACTIVE",
        [HEALTH_PASSIVE] = "PASSIVE",
        [HEALTH_NETWORK] = "NETWORK",
        [HEALTH_NETWORK_TIMEOUT] = "NETWORK_TIMEOUT",
    };
    bool failed = ev == HEALTH_EJECT || ev == HEALTH_FAILURE;

    json_key(w, str_of(names[ev]));
    json_open(w, '{');
    if (failed)
        put(w, "failure_type", str_of(failures[i->failure]));
    if (ev == HEALTH_ADD || ev == HEALTH_FAILURE) {
        json_key(w, STR("first_check"));
        json_put_bool(w, i->first);
    }
    if (failed) {
        json_key(w, STR("http_status_code"));
        json_put_u64(w, i->status);
    }
    json_close(w, '}');
}

void health_log_event(const struct health_config *c, enum health_event ev,
                      const struct health_event_info *i)
{
    struct json_writer w;
    bool early = ev == HEALTH_EJECT || ev == HEALTH_ADD; /* in the order of Envoy's numbers */

    if (!c->log.file)
        return;
    json_writer_init(&w, false);
    json_open(&w, '{');
    put(&w, "health_checker_type", str_of(c->probe->name));
    put_address(&w, &i->host->addr);
    put(&w, "cluster_name", i->cluster);
    if (early)
        put_event(&w, ev, i);
    event_put_time(&w, i->wall_us);
    if (!early && ev != HEALTH_SUCCESS)
        put_event(&w, ev, i);
    json_key(&w, STR("locality"));
    json_open(&w, '{');
    put(&w, "region", i->host->region);
    put(&w, "zone", i->host->zone);
    put(&w, "sub_zone", i->host->sub_zone);
    json_close(&w, '}');
    if (ev == HEALTH_SUCCESS)
        put_event(&w, ev, i);
    json_close(&w, '}');
    event_log_line(&c->log, &w);
}
