/* Event logs of clusters, written like access logs. Main thread. */
#pragma once

#include "cluster/event_log.h"

struct log_files;

/* event_files_sink makes a sink for the files; they live longer. */
struct event_sink event_files_sink(struct log_files *files);
