#include "proxy/http/stream_log.h"

#include "proxy/http/stream.h"
#include "proxy/observe/access_log.h"
#include "proxy/worker.h"

void stream_log(struct stream *s, enum log_type type)
{
    const struct hcm_config *cfg = s->hc->config;
    if (s->state != STREAM_DONE) /* how long it has taken so far */
        s->info.end_us = loop_now_us(s->worker->loop);
    access_logs_write(cfg->logs, cfg->num_logs, &s->info, type);
}

static void on_interval(void *arg)
{
    struct stream *s = arg;
    timer_arm(&s->log_interval, s->hc->config->log_interval_ms);
    stream_log(s, LOG_TYPE_DOWNSTREAM_PERIODIC);
}

void stream_log_init(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    if (!cfg->log_interval_ms || !cfg->num_logs)
        return;
    timer_init(&s->log_interval, s->worker->loop, on_interval, s);
    timer_arm(&s->log_interval, cfg->log_interval_ms);
}

void stream_log_stop(struct stream *s)
{
    if (s->hc->config->log_interval_ms && s->hc->config->num_logs)
        timer_disarm(&s->log_interval);
}
