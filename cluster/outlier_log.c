#include "cluster/outlier_log.h"

#include <stdio.h>

static void put(struct json_writer *w, const char *key, struct str value)
{
    json_key(w, str_of(key));
    json_put_str(w, value);
}

/* Whole per cents, as the message has them. */
static void put_rate(struct json_writer *w, const char *key, double rate)
{
    json_key(w, str_of(key));
    json_put_u64(w, rate > 0 ? (uint64_t)rate : 0);
}

static void put_shape(struct json_writer *w, const struct outlier_event *ev)
{
    static const char *const names[] = {
        [OUTLIER_EVENT_ROW] = "eject_consecutive_event",
        [OUTLIER_EVENT_RATE] = "eject_success_rate_event",
        [OUTLIER_EVENT_PERCENTAGE] = "eject_failure_percentage_event",
    };
    json_key(w, str_of(names[ev->shape]));
    json_open(w, '{');
    if (ev->shape != OUTLIER_EVENT_ROW)
        put_rate(w, "host_success_rate", ev->rate);
    if (ev->shape == OUTLIER_EVENT_RATE) {
        put_rate(w, "cluster_average_success_rate", ev->average);
        put_rate(w, "cluster_success_rate_ejection_threshold", ev->threshold);
    }
    json_close(w, '}');
}

void outlier_log_event(const struct event_log *log, const struct outlier_event *ev)
{
    struct json_writer w;

    if (!log->file)
        return;
    json_writer_init(&w, false);
    json_open(&w, '{');
    put(&w, "type", str_of(ev->type));
    event_put_time(&w, ev->wall_us);
    if (ev->last_us) {
        char text[24];
        uint64_t ago = ev->wall_us > ev->last_us ? (ev->wall_us - ev->last_us) / 1000000 : 0;
        int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)ago);
        put(&w, "secs_since_last_action", str_n(text, (size_t)n));
    }
    put(&w, "cluster_name", ev->cluster);
    put(&w, "upstream_url", ev->host->address_text);
    put(&w, "action", ev->eject ? STR("EJECT") : STR("UNEJECT"));
    json_key(&w, STR("num_ejections"));
    json_put_u64(&w, ev->ejections);
    json_key(&w, STR("enforced"));
    json_put_bool(&w, ev->enforced);
    if (ev->eject)
        put_shape(&w, ev);
    json_close(&w, '}');
    event_log_line(log, &w);
}
