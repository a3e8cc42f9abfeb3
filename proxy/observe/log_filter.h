/* Filters of access logs: envoy.config.accesslog.v3.AccessLogFilter compiled. Immutable; any
 * thread.
 */
#pragma once

#include "base/arena.h"
#include "base/errors.h"
#include "proxy/observe/stream_info.h"
#include "proxy/router/matchers.h"

struct log_filter;

/* log_filter_compile compiles an AccessLogFilter message into arena a; expressions go to `regexes`.
 * NULL after an error in e. */
struct log_filter *log_filter_compile(struct arena *a, const void *msg, struct regex_list *regexes,
                                      struct errors *e);

/* log_filter_pass says whether the line is to be written. */
bool log_filter_pass(const struct log_filter *f, const struct stream_info *si);
