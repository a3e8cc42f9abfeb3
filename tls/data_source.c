#include "tls/data_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool read_fd(int fd, size_t len, struct arena *a, struct str *out)
{
    char *p = arena_bytes(a, len + 1);
    size_t got = 0;
    while (got < len) {
        ssize_t n = read(fd, p + got, len - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    p[got] = 0;
    *out = str_n(p, got);
    return true;
}

static bool read_file(const char *path, struct arena *a, struct errors *e, const char *field,
                      struct str *out)
{
    struct stat st;
    /* Without O_NONBLOCK a FIFO would block the main thread; it is refused below. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        errors_add(e, field, "cannot open file %s: %s", path, strerrordesc_np(errno));
        return false;
    }
    bool ok = false;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        errors_add(e, field, "%s is not a regular file", path);
    else if (st.st_size > DATA_SOURCE_MAX)
        errors_add(e, field, "file %s is larger than %d bytes", path, DATA_SOURCE_MAX);
    else if (!read_fd(fd, (size_t)st.st_size, a, out))
        errors_add(e, field, "cannot read file %s: %s", path, strerrordesc_np(errno));
    else if (out->len == 0)
        errors_add(e, field, "file %s is empty", path);
    else
        ok = true;
    close(fd);
    return ok;
}

static bool read_env(const char *name, struct arena *a, struct errors *e, const char *field,
                     struct str *out)
{
    const char *value = getenv(name);
    if (!value) {
        errors_add(e, field, "environment variable %s is not set", name);
        return false;
    }
    *out = arena_str(a, str_of(value));
    return true;
}

bool data_source_read(const Envoy__Config__Core__V3__DataSource *ds, struct arena *a,
                      struct errors *e, const char *field, struct data_source *out)
{
    *out = (struct data_source){.path = STR("<inline>")};
    switch (ds ? ds->specifier_case : ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER__NOT_SET) {
    case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_FILENAME:
        out->path = arena_str(a, str_of(ds->filename));
        out->is_file = true;
        return read_file(ds->filename, a, e, field, &out->bytes);
    case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_BYTES:
        out->bytes = arena_str(a, str_n((const char *)ds->inline_bytes.data, ds->inline_bytes.len));
        break;
    case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_STRING:
        out->bytes = arena_str(a, str_of(ds->inline_string));
        break;
    case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_ENVIRONMENT_VARIABLE:
        if (!read_env(ds->environment_variable, a, e, field, &out->bytes))
            return false;
        break;
    case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER__NOT_SET:
    default:
        errors_add(e, field, "a data source is required");
        return false;
    }
    if (out->bytes.len)
        return true;
    errors_add(e, field, "is empty");
    return false;
}
