#include "cluster/event_log.h"

#include "base/timefmt.h"
#include <errno.h>
#include <string.h>

void event_log_open(struct event_log *log, const struct event_sink *sink, struct str path,
                    struct errors *e)
{
    *log = (struct event_log){0};
    if (!sink || path.len == 0)
        return;
    log->sink = sink;
    log->file = sink->open(sink->arg, path);
    if (!log->file)
        errors_add(e, NULL, "unable to open file '%.*s': %s", STR_ARG(path), strerror(errno));
}

void event_log_close(struct event_log *log)
{
    if (log->file)
        log->sink->close(log->file);
    *log = (struct event_log){0};
}

void event_log_line(const struct event_log *log, struct json_writer *w)
{
    struct str text = json_writer_text(w);
    char *line = mem_alloc(text.len + 1);
    memcpy(line, text.p, text.len);
    line[text.len] = '\n';
    log->sink->write(log->file, str_n(line, text.len + 1));
    mem_free(line);
    json_writer_cleanup(w);
}

void event_put_time(struct json_writer *w, uint64_t wall_us)
{
    char text[TIMEFMT_ISO_LEN];
    timefmt_iso(wall_us, text);
    json_key(w, STR("timestamp"));
    json_put_str(w, str_n(text, sizeof(text)));
}
