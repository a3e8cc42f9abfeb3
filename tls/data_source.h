/* Reading what a DataSource of the configuration names: a file, bytes or text in place, or an
 * environment variable. Any thread. */
#pragma once

#include "base/errors.h"
#include "envoy/config/core/v3/base.pb-c.h"

enum { DATA_SOURCE_MAX = 64 * 1024 * 1024 };

struct data_source {
    struct str bytes; /* also NUL-terminated, so that text can be used as a C string */
    struct str path;  /* the file, or "<inline>" */
    bool is_file;
};

/* data_source_read reads `ds` into the arena. `field` is its name below the current path, for
 * errors: no file, too large, no such variable, empty, nothing set. A NULL ds is an error too. */
bool data_source_read(const Envoy__Config__Core__V3__DataSource *ds, struct arena *a,
                      struct errors *e, const char *field, struct data_source *out) WARN_UNUSED;
