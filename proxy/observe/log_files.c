#include "proxy/observe/access_log.h"

#include "base/list.h"
#include "base/log.h"
#include "base/stats.h"
#include "proxy/observe/log_queue.h"
#include "proxy/observe/log_thread.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* How much may wait for one file, beyond a chunk a thread: some seconds of a busy proxy. */
enum { QUEUED_MAX = 4 << 20 };

#define FILE_STATS(X)                                                                              \
    X(FILES_WRITE_BUFFERED, "write_buffered", COUNTER)                                             \
    X(FILES_WRITE_COMPLETED, "write_completed", COUNTER)                                           \
    X(FILES_WRITE_FAILED, "write_failed", COUNTER)                                                 \
    X(FILES_FLUSHED_BY_TIMER, "flushed_by_timer", COUNTER)                                         \
    X(FILES_REOPEN_FAILED, "reopen_failed", COUNTER)                                               \
    X(FILES_WRITE_TOTAL_BUFFERED, "write_total_buffered", GAUGE)
#define LOG_STATS(X) X(LOG_DROPPED, "dropped", COUNTER)

enum { FILE_STATS(STATS_ENUM) FILES_NUM_STATS };
enum { LOG_STATS(STATS_ENUM) };

static const struct stats_def file_defs[] = {FILE_STATS(STATS_DEF)};
static struct stats_table file_table = STATS_TABLE(file_defs);
static const struct stats_def log_defs[] = {LOG_STATS(STATS_DEF)};
static struct stats_table log_table = STATS_TABLE(log_defs);

struct log_file {
    struct list link; /* log_files.files; under the mutex */
    struct log_files *files;
    struct str path; /* owned */
    uint32_t refs;   /* under the mutex; 0: the writer empties and frees it */
    _Atomic(size_t) budget;
    _Atomic(bool) kicked; /* more than flush_bytes wait */
    _Atomic(struct log_queue *) queues[LOG_THREADS_MAX];
    /* the writer's */
    int fd;
    bool shared;  /* stdout, stderr: not opened here, not reopened */
    bool regular; /* takes any length at once */
    bool blocked; /* waits for POLLOUT */
    bool cut;     /* the last write ended inside what it was given */
    unsigned cut_queue;
    uint64_t retry_ms; /* after an error, no sooner than this */
};

struct log_files {
    pthread_mutex_t mutex; /* the list of files and their refs; never held over a system call */
    struct list files;
    uint64_t flush_ms;
    size_t flush_bytes;
    pthread_t thread;
    int wake_fd;
    _Atomic(bool) wake_sent, stop, reopen;
    _Atomic(uint64_t) stop_by_ms;
    struct stats_scope *stats, *log_stats;
    /* of what the writer did, and of files that are gone */
    _Atomic(uint64_t) counts[FILES_NUM_STATS], dropped;
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void count(struct log_files *f, unsigned stat, uint64_t n)
{
    atomic_fetch_add_explicit(&f->counts[stat], n, memory_order_relaxed);
}

static void wake(struct log_files *f)
{
    if (atomic_exchange_explicit(&f->wake_sent, true, memory_order_acq_rel))
        return;
    uint64_t one = 1;
    ssize_t n = write(f->wake_fd, &one, sizeof(one));
    CHECK(n == sizeof(one) || errno == EAGAIN);
}

/* --- producers ---------------------------------------------------------------------------------
 */

static struct log_queue *queue_of(struct log_file *f, unsigned thread)
{
    struct log_queue *q = atomic_load_explicit(&f->queues[thread], memory_order_acquire);
    if (UNLIKELY(!q)) {
        q = log_queue_new();
        atomic_store_explicit(&f->queues[thread], q, memory_order_release);
    }
    return q;
}

void log_file_write(struct log_file *f, struct str line)
{
    unsigned thread;
    if (UNLIKELY(!log_thread_index(&thread))) {
        atomic_fetch_add_explicit(&f->files->dropped, 1, memory_order_relaxed);
        return;
    }
    struct log_queue *q = queue_of(f, thread);
    if (!log_queue_add(q, line, &f->budget, QUEUED_MAX))
        return;
    uint64_t bytes = atomic_load_explicit(&q->bytes, memory_order_relaxed);
    if (LIKELY(bytes - q->kicked_at < f->files->flush_bytes))
        return;
    q->kicked_at = bytes;
    atomic_store_explicit(&f->kicked, true, memory_order_release);
    wake(f->files);
}

/* --- the writer's thread -------------------------------------------------------------------------
 */

/* What may be written without waiting, given that the file is ready: of a pipe or a terminal no
 * more than PIPE_BUF bytes, which it takes whole (POSIX write), cut after a line where there is
 * one. */
static size_t write_len(const struct log_file *f, struct str s)
{
    if (f->regular || s.len <= PIPE_BUF)
        return s.len;
    const char *end = memrchr(s.p, '\n', PIPE_BUF);
    return end ? (size_t)(end - s.p) + 1 : PIPE_BUF;
}

static bool is_ready(const struct log_file *f)
{
    if (f->regular)
        return true;
    struct pollfd p = {.fd = f->fd, .events = POLLOUT};
    return poll(&p, 1, 0) > 0;
}

enum flush_result { FLUSH_DONE, FLUSH_BLOCKED, FLUSH_FAILED };

static enum flush_result write_some(struct log_file *f, struct log_queue *q, struct str s)
{
    if (!is_ready(f))
        return FLUSH_BLOCKED;
    size_t want = write_len(f, s);
    ssize_t n = write(f->fd, s.p, want);
    if (n < 0 && errno == EINTR)
        return FLUSH_DONE;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return FLUSH_BLOCKED;
    if (n <= 0) {
        LOG_EVERY(10000, file, LOG_LEVEL_WARN, "cannot write to %.*s: %s", STR_ARG(f->path),
                  n ? strerror(errno) : "nothing was written");
        count(f->files, FILES_WRITE_FAILED, 1);
        return FLUSH_FAILED;
    }
    count(f->files, FILES_WRITE_COMPLETED, 1);
    log_queue_take(q, (size_t)n);
    f->cut = s.p[n - 1] != '\n';
    return FLUSH_DONE;
}

static bool past_end(const struct log_files *f)
{
    return atomic_load_explicit(&f->stop, memory_order_acquire) &&
           now_ms() >= atomic_load_explicit(&f->stop_by_ms, memory_order_relaxed);
}

/* A line that was begun is finished before another thread's queue has its turn. */
static enum flush_result flush_queue(struct log_file *f, unsigned i)
{
    struct log_queue *q = atomic_load_explicit(&f->queues[i], memory_order_acquire);
    struct str s;
    if (!q)
        return FLUSH_DONE;
    while ((s = log_queue_peek(q, &f->budget)).len) {
        if (past_end(f->files))
            return FLUSH_BLOCKED;
        enum flush_result r = write_some(f, q, s);
        f->cut_queue = i;
        if (r != FLUSH_DONE)
            return r;
    }
    return FLUSH_DONE;
}

static enum flush_result flush_queues(struct log_file *f)
{
    enum flush_result r = f->cut ? flush_queue(f, f->cut_queue) : FLUSH_DONE;
    for (unsigned i = 0; r == FLUSH_DONE && i < log_thread_count(); i++)
        r = flush_queue(f, i);
    return r;
}

static void flush_file(struct log_file *f)
{
    uint64_t now = now_ms();
    if (now < f->retry_ms)
        return;
    f->retry_ms = 0;
    enum flush_result r = flush_queues(f);
    f->blocked = r == FLUSH_BLOCKED;
    if (r == FLUSH_FAILED)
        f->retry_ms = now + (f->files->flush_ms < 1000 ? f->files->flush_ms : 1000) + 1;
}

static uint64_t file_backlog(struct log_file *f)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < log_thread_count(); i++) {
        struct log_queue *q = atomic_load_explicit(&f->queues[i], memory_order_acquire);
        n += q ? log_queue_backlog(q) : 0;
    }
    return n;
}

static int open_path(struct str path)
{
    /* not blocking: a FIFO without a reader must not hold up anything */
    return open(path.p, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);
}

static void set_fd(struct log_file *f, int fd)
{
    struct stat st;
    f->fd = fd;
    f->regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static void reopen_file(struct log_file *f)
{
    if (f->shared)
        return;
    int fd = open_path(f->path);
    if (fd < 0) {
        LOG_WARN(file, "cannot open %.*s again: %s", STR_ARG(f->path), strerror(errno));
        count(f->files, FILES_REOPEN_FAILED, 1);
        return;
    }
    struct log_queue *q = f->cut ? atomic_load(&f->queues[f->cut_queue]) : NULL;
    if (q)
        log_queue_rewind(q); /* the whole line goes to the new file */
    f->cut = false;
    f->retry_ms = 0;
    close(f->fd);
    set_fd(f, fd);
}

/* How many lines are left unwritten. */
static uint64_t count_rest(struct log_queue *q, _Atomic(size_t) *budget)
{
    uint64_t lines = 0;
    struct str s;
    while ((s = log_queue_peek(q, budget)).len) {
        for (const char *p = s.p; (p = memchr(p, '\n', (size_t)(s.p + s.len - p))); p++)
            lines++;
        log_queue_take(q, s.len);
    }
    return lines;
}

static void free_file(struct log_file *f)
{
    struct log_files *files = f->files;
    uint64_t lines = 0, dropped = 0;
    for (unsigned i = 0; i < LOG_THREADS_MAX; i++) {
        struct log_queue *q = atomic_load(&f->queues[i]);
        if (!q)
            continue;
        lines += atomic_load(&q->lines);
        dropped += atomic_load(&q->dropped) + count_rest(q, &f->budget);
        log_queue_free(&q);
    }
    count(files, FILES_WRITE_BUFFERED, lines);
    atomic_fetch_add(&files->dropped, dropped);
    close(f->fd);
    mem_free((void *)(uintptr_t)f->path.p);
    mem_free(f);
}

/* The next file after f (NULL: the first). Files are unlinked by the writer alone, so f stays where
 * it is. */
static struct log_file *next_file(struct log_files *files, struct log_file *f)
{
    pthread_mutex_lock(&files->mutex);
    struct list *l = f ? f->link.next : files->files.next;
    pthread_mutex_unlock(&files->mutex);
    return l == &files->files ? NULL : CONTAINER_OF(l, struct log_file, link);
}

static bool is_unused(struct log_files *files, struct log_file *f)
{
    pthread_mutex_lock(&files->mutex);
    bool unused = f->refs == 0;
    pthread_mutex_unlock(&files->mutex);
    return unused;
}

/* Frees f if nobody has opened it again. */
static void let_go(struct log_files *files, struct log_file *f)
{
    pthread_mutex_lock(&files->mutex);
    bool gone = f->refs == 0;
    if (gone)
        list_remove(&f->link);
    pthread_mutex_unlock(&files->mutex);
    if (gone)
        free_file(f);
}

static void service_files(struct log_files *files, bool all, bool reopen)
{
    struct log_file *next;
    for (struct log_file *f = next_file(files, NULL); f; f = next) {
        next = next_file(files, f);
        if (reopen)
            reopen_file(f);
        bool kicked = atomic_exchange_explicit(&f->kicked, false, memory_order_acq_rel);
        bool unused = is_unused(files, f); /* before the last flush: nobody adds to it any more */
        if (all && !kicked && file_backlog(f))
            count(files, FILES_FLUSHED_BY_TIMER, 1);
        if (all || kicked || f->blocked || reopen)
            flush_file(f);
        if (unused && !f->blocked)
            let_go(files, f);
    }
}

enum { POLL_MAX = 64 };

/* Sleeps until it is woken, a blocked file is ready, or the time has come. */
static void wait_for_work(struct log_files *files, uint64_t until)
{
    struct pollfd p[POLL_MAX] = {{.fd = files->wake_fd, .events = POLLIN}};
    nfds_t n = 1;
    for (struct log_file *f = next_file(files, NULL); f; f = next_file(files, f)) {
        if (f->blocked && n < POLL_MAX)
            p[n++] = (struct pollfd){.fd = f->fd, .events = POLLOUT};
    }
    uint64_t now = now_ms(), wait = until > now ? until - now : 0;
    (void)poll(p, n, wait > 60000 ? 60000 : (int)wait);
    uint64_t woken;
    if (read(files->wake_fd, &woken, sizeof(woken)) < 0)
        CHECK(errno == EAGAIN || errno == EINTR);
    /* reads what the last one to wake it wrote, so that its `kicked` is seen below */
    (void)atomic_exchange_explicit(&files->wake_sent, false, memory_order_acq_rel);
}

static bool all_written(struct log_files *files)
{
    for (struct log_file *f = next_file(files, NULL); f; f = next_file(files, f)) {
        if (file_backlog(f))
            return false;
    }
    return true;
}

static void *run(void *arg)
{
    struct log_files *files = arg;
    uint64_t next_flush = now_ms() + files->flush_ms;
    while (!atomic_load_explicit(&files->stop, memory_order_acquire)) {
        wait_for_work(files, next_flush);
        uint64_t now = now_ms();
        bool timer = now >= next_flush;
        bool reopen = atomic_exchange_explicit(&files->reopen, false, memory_order_acq_rel);
        if (timer)
            next_flush = now + files->flush_ms;
        service_files(files, timer, reopen);
    }
    for (;;) {
        service_files(files, true, false);
        uint64_t by = atomic_load(&files->stop_by_ms), now = now_ms();
        if (all_written(files) || now >= by)
            return NULL;
        wait_for_work(files, by - now < 20 ? by : now + 20);
    }
}

/* --- main ----------------------------------------------------------------------------------------
 */

static bool read_stat(void *arg, uint32_t idx, uint64_t *out)
{
    struct log_files *files = arg;
    *out = atomic_load_explicit(&files->counts[idx], memory_order_relaxed);
    if (idx != FILES_WRITE_BUFFERED && idx != FILES_WRITE_TOTAL_BUFFERED)
        return true;
    pthread_mutex_lock(&files->mutex);
    LIST_FOREACH(it, &files->files) {
        struct log_file *f = CONTAINER_OF(it, struct log_file, link);
        for (unsigned i = 0; i < log_thread_count(); i++) {
            struct log_queue *q = atomic_load_explicit(&f->queues[i], memory_order_acquire);
            if (q && idx == FILES_WRITE_BUFFERED)
                *out += atomic_load_explicit(&q->lines, memory_order_relaxed);
            else if (q)
                *out += log_queue_backlog(q);
        }
    }
    pthread_mutex_unlock(&files->mutex);
    return true;
}

static bool read_dropped(void *arg, uint32_t idx, uint64_t *out)
{
    struct log_files *files = arg;
    *out = atomic_load_explicit(&files->dropped, memory_order_relaxed);
    pthread_mutex_lock(&files->mutex);
    LIST_FOREACH(it, &files->files) {
        struct log_file *f = CONTAINER_OF(it, struct log_file, link);
        for (unsigned i = 0; i < log_thread_count(); i++) {
            struct log_queue *q = atomic_load_explicit(&f->queues[i], memory_order_acquire);
            *out += q ? atomic_load_explicit(&q->dropped, memory_order_relaxed) : 0;
        }
    }
    pthread_mutex_unlock(&files->mutex);
    return true;
}

struct log_files *log_files_new(uint64_t flush_ms, size_t flush_bytes)
{
    struct log_files *f = NEW(struct log_files);
    pthread_mutex_init(&f->mutex, NULL);
    list_init(&f->files);
    f->flush_ms = flush_ms ? flush_ms : 1;
    f->flush_bytes = flush_bytes;
    f->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(f->wake_fd >= 0);
    f->stats = stats_scope_named(&file_table, STR("filesystem"));
    stats_scope_set_reader(f->stats, read_stat, f);
    f->log_stats = stats_scope_named(&log_table, STR("access_log"));
    stats_scope_set_reader(f->log_stats, read_dropped, f);
    sigset_t all, old;
    sigfillset(&all); /* the thread inherits it: signals are main's, and no SIGPIPE */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int err = pthread_create(&f->thread, NULL, run, f);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    CHECK(err == 0);
    return f;
}

/* A thread that hangs in write(2) (a dead network file system) cannot be ended: it keeps what it
 * uses, and the process goes. */
static bool join(struct log_files *f, uint64_t wait_ms)
{
    struct timespec by;
    clock_gettime(CLOCK_REALTIME, &by);
    uint64_t ms = wait_ms + 500;
    by.tv_sec += (time_t)(ms / 1000);
    by.tv_nsec += (long)(ms % 1000) * 1000000;
    if (by.tv_nsec >= 1000000000) {
        by.tv_sec++;
        by.tv_nsec -= 1000000000;
    }
    return pthread_timedjoin_np(f->thread, NULL, &by) == 0;
}

void log_files_free(struct log_files **files, uint64_t wait_ms)
{
    struct log_files *f = *files;
    *files = NULL;
    if (!f)
        return;
    atomic_store(&f->stop_by_ms, now_ms() + wait_ms);
    atomic_store_explicit(&f->stop, true, memory_order_release);
    atomic_store(&f->wake_sent, false);
    wake(f);
    stats_scope_free(&f->stats);
    stats_scope_free(&f->log_stats);
    if (!join(f, wait_ms))
        return;
    while (!list_empty(&f->files)) {
        struct log_file *file = CONTAINER_OF(f->files.next, struct log_file, link);
        list_remove(&file->link);
        free_file(file);
    }
    close(f->wake_fd);
    pthread_mutex_destroy(&f->mutex);
    mem_free(f);
}

static struct log_file *find_file(struct log_files *files, struct str path)
{
    LIST_FOREACH(it, &files->files) {
        struct log_file *f = CONTAINER_OF(it, struct log_file, link);
        if (str_eq(f->path, path))
            return f;
    }
    return NULL;
}

/* What is behind stdout may be anything, and others write to it too: it is used as it is, not
 * opened anew (which the user may not be allowed to do) and not made non-blocking. */
static int open_any(struct str path, bool *shared)
{
    int std = str_eq(path, STR("/dev/stdout"))   ? STDOUT_FILENO
              : str_eq(path, STR("/dev/stderr")) ? STDERR_FILENO
                                                 : -1;
    *shared = std >= 0;
    return std >= 0 ? fcntl(std, F_DUPFD_CLOEXEC, 3) : open_path(path);
}

struct log_file *log_files_open(struct log_files *files, struct str path)
{
    pthread_mutex_lock(&files->mutex);
    struct log_file *f = find_file(files, path);
    if (f)
        f->refs++;
    pthread_mutex_unlock(&files->mutex);
    if (f)
        return f;
    bool shared;
    char *copy = mem_strndup(path.p, path.len);
    int fd = open_any(str_n(copy, path.len), &shared);
    if (fd < 0) {
        int err = errno;
        mem_free(copy);
        errno = err;
        return NULL;
    }
    f = NEW(struct log_file);
    f->files = files;
    f->path = str_n(copy, path.len);
    f->refs = 1;
    f->shared = shared;
    set_fd(f, fd);
    pthread_mutex_lock(&files->mutex);
    list_push_tail(&files->files, &f->link);
    pthread_mutex_unlock(&files->mutex);
    return f;
}

void log_file_unref(struct log_file *f)
{
    if (!f)
        return;
    struct log_files *files = f->files;
    pthread_mutex_lock(&files->mutex);
    CHECK(f->refs > 0);
    bool last = --f->refs == 0;
    if (last)
        atomic_store(&f->kicked, true); /* written out, then freed */
    pthread_mutex_unlock(&files->mutex);
    if (last)
        wake(files);
}

void log_files_reopen(struct log_files *files)
{
    atomic_store_explicit(&files->reopen, true, memory_order_release);
    wake(files);
}
