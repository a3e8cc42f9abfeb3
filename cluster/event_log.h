/* Event logs of health checks and of outlier detection: lines of JSON with Envoy's fields. Where
 * the lines go is passed in. Main thread. */
#pragma once

#include "base/errors.h"
#include "base/json.h"
#include "cluster/host.h"

/* Files by their path; what writes them lies above this layer. */
struct event_sink {
    /* open gives a reference to the file, NULL with errno. */
    void *(*open)(void *arg, struct str path);
    /* write never blocks; the line ends with its newline. */
    void (*write)(void *file, struct str line);
    void (*close)(void *file);
    void *arg;
};

struct event_log { /* an open file; NULL file: no log */
    const struct event_sink *sink;
    void *file;
};

/* event_log_open opens the file, or adds an error at the current path. With sink NULL nothing is
 * opened. event_log_close closes; a log that is not open is fine. */
void event_log_open(struct event_log *log, const struct event_sink *sink, struct str path,
                    struct errors *e);
void event_log_close(struct event_log *log);

/* event_log_line writes what was written by w as a line, and cleans w up. */
void event_log_line(const struct event_log *log, struct json_writer *w);

/* event_put_time writes the key "timestamp" with a wall clock time. */
void event_put_time(struct json_writer *w, uint64_t wall_us);
