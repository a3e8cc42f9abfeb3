#include "tls/secret_files.h"

#include "base/log.h"
#include <errno.h>
#include <sys/inotify.h>
#include <unistd.h>

/* A secret as it came from its source, and what its files made of it since. */
struct watched_secret {
    struct list link;
    struct tls_secret *origin, *latest; /* references */
    struct list watchers;
};

struct watched_directory {
    struct list link;
    char *path;
    int wd;
    unsigned users;
};

struct secret_files {
    struct loop *loop;
    int fd;
    struct io_watch io;
    struct task reload;
    struct list secrets, directories;
};

/* --- directories ----------------------------------------------------------------------------- */

static struct watched_directory *find_directory(struct secret_files *f, struct str path)
{
    LIST_FOREACH(it, &f->directories) {
        struct watched_directory *d = CONTAINER_OF(it, struct watched_directory, link);
        if (str_eq(str_of(d->path), path))
            return d;
    }
    return NULL;
}

static void use_directory(struct secret_files *f, struct str path)
{
    struct watched_directory *d = find_directory(f, path);
    if (!d) {
        d = NEW(struct watched_directory);
        d->path = mem_strndup(path.p, path.len);
        d->wd = inotify_add_watch(f->fd, d->path, IN_MOVED_TO | IN_ONLYDIR);
        if (d->wd < 0)
            LOG_WARN(secret, "cannot watch %s: %s; its secrets are not read again", d->path,
                     strerrordesc_np(errno));
        list_push_tail(&f->directories, &d->link);
    }
    d->users++;
}

/* Two paths may name one directory and then share its wd. */
static bool wd_in_use(const struct secret_files *f, int wd)
{
    LIST_FOREACH(it, &f->directories) {
        if (CONTAINER_OF(it, struct watched_directory, link)->wd == wd)
            return true;
    }
    return false;
}

static void release_directory(struct secret_files *f, struct str path)
{
    struct watched_directory *d = find_directory(f, path);
    CHECK(d);
    if (--d->users)
        return;
    list_remove(&d->link);
    if (d->wd >= 0 && !wd_in_use(f, d->wd))
        inotify_rm_watch(f->fd, d->wd);
    mem_free(d->path);
    mem_free(d);
}

/* --- reading again ------------------------------------------------------------------------------
 */

static void reload_secret(struct secret_files *f, struct watched_secret *s)
{
    struct errors e;
    struct arena a;
    errors_init(&e);
    struct tls_secret *now = tls_secret_compile(s->origin->bytes, NULL, &e);
    if (!now) {
        arena_init(&a, 0);
        LOG_WARN(secret,
                 "the files of a secret have changed and are not good, the former stay: %.*s",
                 STR_ARG(errors_text(&e, &a)));
        arena_cleanup(&a);
    } else if (!tls_secret_same(now, s->latest)) {
        tls_secret_unref(s->latest);
        s->latest = tls_secret_ref(now);
        LIST_FOREACH(it, &s->watchers) {
            struct secret_watch *w = CONTAINER_OF(it, struct secret_watch, link);
            w->changed(w->arg, now);
        }
    }
    tls_secret_unref(now);
    errors_cleanup(&e);
}

static void run_reload(void *arg)
{
    struct secret_files *f = arg;
    LIST_FOREACH(it, &f->secrets)
        reload_secret(f, CONTAINER_OF(it, struct watched_secret, link));
}

static void on_inotify(void *arg, unsigned events)
{
    struct secret_files *f = arg;
    char bytes[4096];
    (void)events;
    while (read(f->fd, bytes, sizeof(bytes)) > 0)
        continue;
    /* Which directory it was does not matter: equal files make equal secrets. */
    loop_post(f->loop, &f->reload);
}

static struct secret_files *files_of(struct tls_secrets *s)
{
    if (s->files)
        return s->files;
    struct secret_files *f = s->files = NEW(struct secret_files);
    f->loop = s->loop;
    list_init(&f->secrets);
    list_init(&f->directories);
    task_init(&f->reload, run_reload, f);
    f->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (f->fd < 0)
        LOG_WARN(secret, "files of secrets cannot be watched: %s", strerrordesc_np(errno));
    else
        io_watch_init_level(&f->io, s->loop, f->fd, on_inotify, f);
    return f;
}

/* --- watches --- */

static struct watched_secret *find_secret(struct secret_files *f, const struct tls_secret *origin)
{
    LIST_FOREACH(it, &f->secrets) {
        struct watched_secret *s = CONTAINER_OF(it, struct watched_secret, link);
        if (s->origin == origin)
            return s;
    }
    return NULL;
}

void secret_files_watch(struct tls_secrets *secrets, struct tls_secret *secret,
                        struct secret_watch *w)
{
    if (!secret->num_directories)
        return;
    struct secret_files *f = files_of(secrets);
    struct watched_secret *s = find_secret(f, secret);
    if (!s) {
        s = NEW(struct watched_secret);
        s->origin = tls_secret_ref(secret);
        s->latest = tls_secret_ref(secret);
        list_init(&s->watchers);
        list_push_tail(&f->secrets, &s->link);
        for (size_t i = 0; i < secret->num_directories; i++)
            use_directory(f, secret->directories[i]);
        /* What changed between reading and watching is not missed. */
        loop_post(f->loop, &f->reload);
    }
    w->secret = s;
    list_push_tail(&s->watchers, &w->link);
}

void secret_files_unwatch(struct tls_secrets *secrets, struct secret_watch *w)
{
    struct watched_secret *s = w->secret;
    if (!s)
        return;
    w->secret = NULL;
    list_remove(&w->link);
    if (!list_empty(&s->watchers))
        return;
    for (size_t i = 0; i < s->origin->num_directories; i++)
        release_directory(secrets->files, s->origin->directories[i]);
    list_remove(&s->link);
    tls_secret_unref(s->origin);
    tls_secret_unref(s->latest);
    mem_free(s);
}

void secret_files_free(struct secret_files **f)
{
    if (!*f)
        return;
    CHECK(list_empty(&(*f)->secrets));
    task_cancel(&(*f)->reload);
    if ((*f)->fd >= 0) {
        io_watch_cleanup(&(*f)->io);
        close((*f)->fd);
    }
    mem_free(*f);
    *f = NULL;
}
