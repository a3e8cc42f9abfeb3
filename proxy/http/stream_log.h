/* When a stream is logged: at its end, and before it where access_log_options say so. Worker. */
#pragma once

#include "proxy/observe/stream_info.h"

struct stream;

/* stream_log_init arms the timer of the lines written in between; stream_log_stop disarms it. */
void stream_log_init(struct stream *s);
void stream_log_stop(struct stream *s);

/* stream_log writes a line to each access log of the connection manager. */
void stream_log(struct stream *s, enum log_type type);
