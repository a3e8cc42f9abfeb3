#include "base/log.h"
#include "base/log_format.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
    LINE_ON_STACK = 2048,
    LINE_MAX = 64 * 1024, /* a longer message is cut */
};

#define LEVEL_INFO(name) [LOG_COMP_##name] = LOG_LEVEL_INFO,
_Atomic(uint8_t) log_levels[LOG_NUM_COMPONENTS] = {LOG_COMPONENTS(LEVEL_INFO)};

#define NAME_OF(name) [LOG_COMP_##name] = #name,
static const char *const component_names[LOG_NUM_COMPONENTS] = {LOG_COMPONENTS(NAME_OF)};

static const char *const level_names[] = {"trace", "debug",    "info", "warning",
                                          "error", "critical", "off"};

/* Writers hold neither a lock nor a reference: the format is never freed while threads run (a new
 * one is put beside it), and the fd number stays the same over a reopen (dup2). */
static _Atomic(struct log_format *) format;
static struct log_format *retired; /* formats replaced while running */
static char *file_path;
static bool escape_lines; /* written before there are threads */
static _Atomic(int) log_fd = STDERR_FILENO;

static bool use_format(const char *pattern, const char **err)
{
    struct log_format *f = log_format_new(pattern, err);
    if (!f)
        return false;
    struct log_format *old = atomic_exchange_explicit(&format, f, memory_order_acq_rel);
    if (old) {
        old->next = retired;
        retired = old;
    }
    return true;
}

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
}

bool log_init(enum log_level level, const char *pattern, const char *path, const char **err)
{
    int fd = path ? open_file(path) : STDERR_FILENO;
    if (fd < 0) {
        *err = "the log file cannot be opened";
        return false;
    }
    if (!use_format(pattern ? pattern : LOG_FORMAT_DEFAULT, err)) {
        if (path)
            (void)close(fd);
        return false;
    }
    mem_free(file_path);
    file_path = mem_strdup(path);
    int old = atomic_exchange(&log_fd, fd);
    if (old != STDERR_FILENO && old != fd)
        (void)close(old);
    log_set_all(level);
    return true;
}

bool log_set_format(const char *pattern, const char **err)
{
    return use_format(pattern, err);
}

void log_set_escaped(bool escaped)
{
    escape_lines = escaped;
}

bool log_reopen(void)
{
    if (!file_path)
        return true;
    int fd = open_file(file_path);
    if (fd < 0)
        return false;
    bool ok = dup3(fd, atomic_load(&log_fd), O_CLOEXEC) >= 0;
    (void)close(fd);
    return ok;
}

void log_close(void)
{
    int fd = atomic_exchange(&log_fd, STDERR_FILENO);
    if (fd != STDERR_FILENO)
        (void)close(fd);
    struct log_format *f = atomic_exchange(&format, NULL);
    log_format_free(f);
    while (retired) {
        f = retired;
        retired = f->next;
        log_format_free(f);
    }
    mem_free(file_path);
    file_path = NULL;
    escape_lines = false;
}

/* One write(2), so that lines of several threads and processes do not mix. */
static void write_line(const char *p, size_t len)
{
    int fd = atomic_load_explicit(&log_fd, memory_order_relaxed);
    ssize_t n;
    do {
        n = write(fd, p, len);
    } while (n < 0 && errno == EINTR);
}

void log_write(enum log_component comp, enum log_level level, const char *file, int line,
               const char *func, const char *fmt, ...)
{
    char small[LINE_ON_STACK], *msg = small;
    va_list ap, again;
    int saved_errno = errno; /* a line of log must not change what is being reported */
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    size_t len = n > 0 ? (size_t)n : 0;
    if (len >= sizeof(small)) {
        len = len < LINE_MAX ? len : LINE_MAX - 1;
        msg = mem_alloc(len + 1);
        (void)vsnprintf(msg, len + 1, fmt, again);
    }
    va_end(again);
    va_end(ap);

    struct log_record rec = {
        .level = level_names[level],
        .component = component_names[comp],
        .message = str_n(msg, len),
        .file = file,
        .line = line,
        .func = func,
        .level_index = level,
    };
    (void)clock_gettime(CLOCK_REALTIME, &rec.time);
    struct log_line out = {.p = out.small, .cap = sizeof(out.small)};
    log_format_apply(atomic_load_explicit(&format, memory_order_acquire), &rec, &out);
    if (escape_lines)
        log_line_escape(&out);
    write_line(out.p, out.len);
    log_line_cleanup(&out);
    if (msg != small)
        mem_free(msg);
    errno = saved_errno;
}

bool log_limit_pass(struct log_limit *l, uint64_t ms, uint64_t *dropped)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    /* + 1: a zeroed limit has never passed a line, whatever the clock says. */
    uint64_t now = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000 + 1;
    uint64_t next = atomic_load_explicit(&l->next_ms, memory_order_relaxed);
    if (now < next ||
        !atomic_compare_exchange_strong_explicit(&l->next_ms, &next, now + ms, memory_order_relaxed,
                                                 memory_order_relaxed)) {
        atomic_fetch_add_explicit(&l->dropped, 1, memory_order_relaxed);
        return false;
    }
    *dropped = atomic_exchange_explicit(&l->dropped, 0, memory_order_relaxed);
    return true;
}

void log_set_level(enum log_component comp, enum log_level level)
{
    atomic_store_explicit(&log_levels[comp], (uint8_t)level, memory_order_relaxed);
}

void log_set_all(enum log_level level)
{
    for (int i = 0; i < LOG_NUM_COMPONENTS; i++)
        log_set_level((enum log_component)i, level);
}

enum log_level log_get_level(enum log_component comp)
{
    return (enum log_level)atomic_load_explicit(&log_levels[comp], memory_order_relaxed);
}

bool log_parse_level(struct str name, enum log_level *out)
{
    if (str_eq(name, STR("warn")))
        name = STR("warning");
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (!str_eq(name, str_of(level_names[i])))
            continue;
        *out = (enum log_level)i;
        return true;
    }
    return false;
}

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

const char *log_component_name(enum log_component comp)
{
    return component_names[comp];
}

bool log_find_component(struct str name, enum log_component *out)
{
    for (int i = 0; i < LOG_NUM_COMPONENTS; i++) {
        if (!str_eq(name, str_of(component_names[i])))
            continue;
        *out = (enum log_component)i;
        return true;
    }
    return false;
}

bool log_set_components(struct str list, struct str *bad)
{
    uint8_t wanted[LOG_NUM_COMPONENTS];
    struct str item;
    for (int i = 0; i < LOG_NUM_COMPONENTS; i++)
        wanted[i] = (uint8_t)log_get_level((enum log_component)i);
    if (list.len == 0)
        return true;
    while (str_next(&list, ',', &item)) {
        enum log_component comp;
        enum log_level level;
        ptrdiff_t colon = str_chr(item, ':');
        *bad = item;
        if (colon < 0 || !log_find_component(str_n(item.p, (size_t)colon), &comp))
            return false;
        if (!log_parse_level(str_n(item.p + colon + 1, item.len - (size_t)colon - 1), &level))
            return false;
        wanted[comp] = (uint8_t)level;
    }
    for (int i = 0; i < LOG_NUM_COMPONENTS; i++)
        log_set_level((enum log_component)i, (enum log_level)wanted[i]);
    return true;
}
