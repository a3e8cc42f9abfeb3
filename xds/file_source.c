#include "xds/file_source.h"

#include "api-protos/mapping.h"
#include "base/json.h"
#include "base/log.h"
#include "base/yaml.h"
#include "xds/client.h"
#include "xds/discovery.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

/* One inotify descriptor for all files of a client. */
struct xds_file_watch {
    struct io_watch io;
    int fd;
    struct xds *x;
};

enum file_format { FILE_JSON, FILE_YAML, FILE_PB, FILE_UNKNOWN };

static enum file_format format_of(struct str path)
{
    if (str_ends(path, STR(".json")))
        return FILE_JSON;
    if (str_ends(path, STR(".yaml")) || str_ends(path, STR(".yml")))
        return FILE_YAML;
    if (str_ends(path, STR(".pb")))
        return FILE_PB;
    return FILE_UNKNOWN;
}

bool xds_file_check(struct str path, struct errors *e)
{
    struct arena a;
    struct stat st;
    if (!path.len) {
        errors_add(e, NULL, "is empty");
        return false;
    }
    if (format_of(path) == FILE_UNKNOWN) {
        errors_add(e, NULL, "%.*s: expected a name that ends in .json, .yaml, .yml or .pb",
                   STR_ARG(path));
        return false;
    }
    arena_init(&a, 0);
    bool there = stat(arena_str(&a, path).p, &st) == 0;
    if (!there)
        errors_add(e, NULL, "%.*s: %s", STR_ARG(path), strerror(errno));
    arena_cleanup(&a);
    return there;
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool read_all(int fd, size_t max, struct arena *a, struct str *out, const char **why)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        *why = "not a regular file";
        return false;
    }
    if ((uint64_t)st.st_size > max) {
        *why = "too large";
        return false;
    }
    char *p = arena_bytes(a, (size_t)st.st_size + 1);
    size_t len = 0;
    while (len < (size_t)st.st_size) {
        ssize_t n = read(fd, p + len, (size_t)st.st_size - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    *out = str_n(p, len);
    *why = "changed while it was read";
    return len == (size_t)st.st_size;
}

static bool read_file(const struct xds_file *file, struct arena *a, struct str *out,
                      const char **why)
{
    int fd = open(file->path.p, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        *why = strerror(errno);
        return false;
    }
    bool ok = read_all(fd, file->x->max_message, a, out, why);
    close(fd);
    return ok;
}

static bool text_to_wire(const struct xds_file *file, enum file_format format, struct str text,
                         struct arena *a, struct errors *e, struct str *out)
{
    struct json_error bad;
    struct json *tree = format == FILE_YAML ? yaml_parse(text, a, &bad)
                                            : json_parse(text, JSON_TRAILING_COMMAS, a, &bad);
    if (!tree) {
        errors_add(e, NULL, "line %u column %u: %s", bad.line, bad.column, bad.text);
        return false;
    }
    if (tree->type != JSON_OBJECT) {
        errors_add(e, NULL, "a DiscoveryResponse is expected"); /* an empty file removes nothing */
        return false;
    }
    const ProtobufCMessageDescriptor *type = pb_find(
        STR("envoy.service.discovery.v3.DiscoveryResponse"));
    CHECK(type);
    return pb_json_to_wire(type, tree, a, e, &file->x->file_opts, out);
}

static bool load(struct xds_file *file, struct discovery_response *r, struct errors *e)
{
    enum file_format format = format_of(file->path);
    struct str bytes;
    const char *why;
    if (!read_file(file, &file->arena, &bytes, &why)) {
        errors_add(e, NULL, "%s", why);
        return false;
    }
    if (format != FILE_PB && !text_to_wire(file, format, bytes, &file->arena, e, &bytes))
        return false;
    if (!discovery_response_parse(bytes, r, &why)) {
        errors_add(e, NULL, "%s", why);
        return false;
    }
    struct str want = str_of(file->feed->type->ops->type_url);
    if (r->type_url.len && !str_eq(r->type_url, want)) {
        errors_add(e, "type_url", "is %.*s, expected %.*s", STR_ARG(r->type_url), STR_ARG(want));
        return false;
    }
    return true;
}

static void on_applied(void *arg)
{
    struct xds_file *file = arg;
    struct xds_feed *f = file->feed;
    if (file->ingest.num_errors)
        LOG_WARN(config, "%.*s: refused: %.*s", STR_ARG(file->path), STR_ARG(file->ingest.text));
    else
        xds_text_set(&f->version, file->version);
    file->version = STR_NULL;
    arena_reset(&file->arena);
    if (file->again)
        xds_file_kick(file);
    file->again = false;
}

static void on_load(void *arg)
{
    struct xds_file *file = arg;
    struct discovery_response r;
    struct errors e;
    if (file->ingest.feed) {
        file->again = true;
        return;
    }
    xds_feed_start_timers(file->feed);
    errors_init(&e);
    bool ok = load(file, &r, &e);
    if (!ok) {
        LOG_WARN(config, "%.*s: not read: %.*s", STR_ARG(file->path),
                 STR_ARG(errors_text(&e, &file->arena)));
        xds_feed_failed(file->feed);
        arena_reset(&file->arena);
    }
    errors_cleanup(&e);
    if (!ok)
        return;
    file->version = r.version_info;
    xds_ingest_start(&file->ingest, file->feed, &r, on_applied, file);
}

void xds_file_kick(struct xds_file *file)
{
    loop_post(file->x->loop, &file->load);
}

/* --- watching --------------------------------------------------------------------------------- */

static void handle_event(struct xds *x, const struct inotify_event *ev)
{
    struct str name = ev->len ? str_of(ev->name) : STR_NULL;
    LIST_FOREACH(it, &x->files) {
        struct xds_file *file = CONTAINER_OF(it, struct xds_file, link);
        if (ev->mask & IN_Q_OVERFLOW) {
            xds_file_kick(file);
            continue;
        }
        if (file->wd != ev->wd)
            continue;
        if (ev->mask & IN_IGNORED) {
            file->wd = -1;
            LOG_WARN(config, "%.*s: its directory is gone, changes are not seen any more",
                     STR_ARG(file->path));
            continue;
        }
        if (file->directory.len || str_eq(name, file->base))
            xds_file_kick(file);
    }
}

static void on_inotify(void *arg, unsigned io_events)
{
    struct xds_file_watch *w = arg;
    union {
        struct inotify_event ev;
        char bytes[4096];
    } buf;
    ssize_t n;
    while ((n = read(w->fd, buf.bytes, sizeof(buf.bytes))) > 0) {
        for (size_t at = 0; at < (size_t)n;) {
            const struct inotify_event *ev = (const void *)(buf.bytes + at);
            handle_event(w->x, ev);
            at += sizeof(*ev) + ev->len;
        }
    }
}

static struct xds_file_watch *watch_new(struct xds *x)
{
    struct xds_file_watch *w = NEW(struct xds_file_watch);
    w->x = x;
    w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (w->fd < 0) {
        LOG_ERROR(config, "files are not watched: %s", strerror(errno));
        mem_free(w);
        return NULL;
    }
    io_watch_init_level(&w->io, x->loop, w->fd, on_inotify, w);
    return w;
}

static void watch_start(struct xds_file *file)
{
    struct arena a;
    struct str dir = file->directory;
    if (!file->x->watch)
        file->x->watch = watch_new(file->x);
    if (!file->x->watch)
        return;
    arena_init(&a, 0);
    if (!dir.len)
        dir = str_n(file->path.p, (size_t)(file->base.p - file->path.p));
    dir = dir.len ? arena_str(&a, dir) : STR(".");
    file->wd = inotify_add_watch(file->x->watch->fd, dir.p, IN_MOVED_TO);
    if (file->wd < 0)
        LOG_WARN(config, "%.*s: changes are not seen: %s", STR_ARG(file->path), strerror(errno));
    arena_cleanup(&a);
}

static void watch_stop(struct xds_file *file)
{
    struct xds *x = file->x;
    LIST_FOREACH(it, &x->files) {
        const struct xds_file *other = CONTAINER_OF(it, struct xds_file, link);
        if (other->wd == file->wd)
            file->wd = -1;
    }
    if (file->wd >= 0)
        inotify_rm_watch(x->watch->fd, file->wd);
    file->wd = -1;
    if (!list_empty(&x->files) || !x->watch)
        return;
    io_watch_cleanup(&x->watch->io);
    close(x->watch->fd);
    mem_free(x->watch);
    x->watch = NULL;
}

/* --- life ------------------------------------------------------------------------------------- */

bool xds_file_is(const struct xds_file *file, const struct xds_source *src)
{
    return str_eq(file->path, src->path) && str_eq(file->directory, src->watched_directory);
}

struct xds_file *xds_file_new(struct xds *x, struct xds_feed *f, const struct xds_source *src)
{
    struct xds_file *file = NEW(struct xds_file);
    file->x = x;
    file->feed = f;
    f->file = file;
    xds_text_set(&file->path, src->path);
    xds_text_set(&file->directory, src->watched_directory);
    file->base = file->path;
    for (size_t i = 0; i < file->path.len; i++) {
        if (file->path.p[i] == '/')
            file->base = str_n(file->path.p + i + 1, file->path.len - i - 1);
    }
    file->wd = -1;
    arena_init(&file->arena, 0);
    xds_ingest_init(&file->ingest);
    task_init(&file->load, on_load, file);
    watch_start(file);
    list_push_tail(&x->files, &file->link);
    xds_file_kick(file);
    return file;
}

void xds_file_free(struct xds_file *file)
{
    file->feed->file = NULL;
    task_cancel(&file->load);
    xds_ingest_cleanup(&file->ingest);
    list_remove(&file->link);
    watch_stop(file);
    arena_cleanup(&file->arena);
    xds_text_set(&file->path, STR_NULL);
    xds_text_set(&file->directory, STR_NULL);
    mem_free(file);
}
