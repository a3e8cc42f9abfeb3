#include "base/log.h"
#include "base/stats.h"
#include "proxy/observe/access_log.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* --- helpers -------------------------------------------------------------------------------------
 */

static char dir[] = "/tmp/log_files_test.XXXXXX";
static char path_buf[256];
static struct log_files *files;

static void setup(void)
{
    stats_init(2);
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    char command[300];
    log_files_free(&files, 2000);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
    memcpy(dir + strlen(dir) - 6, "XXXXXX", 6);
    stats_cleanup();
}

static struct str path(const char *name)
{
    int n = snprintf(path_buf, sizeof(path_buf), "%s/%s", dir, name);
    return str_n(path_buf, (size_t)n);
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* The file's text, on the heap. */
static char *slurp(const char *name, size_t *len)
{
    FILE *f = fopen(path(name).p, "r");
    if (!f)
        return NULL;
    char *text = NULL;
    size_t cap = 0, n = 0, got;
    do {
        text = mem_grow_array(text, &cap, n + 65536, 1);
        got = fread(text + n, 1, 65535, f);
        n += got;
    } while (got);
    fclose(f);
    text[n] = '\0';
    if (len)
        *len = n;
    return text;
}

/* Waits for the file to have exactly that text. */
static void await_text(const char *name, const char *want)
{
    char *text = NULL;
    for (uint64_t end = now_ms() + 5000; now_ms() < end; sleep_ms(5)) {
        mem_free(text);
        text = slurp(name, NULL);
        if (text && strcmp(text, want) == 0)
            break;
    }
    ck_assert_ptr_nonnull(text);
    ck_assert_str_eq(text, want);
    mem_free(text);
}

static uint64_t stat_of(const char *scope, const char *name)
{
    uint64_t sum = 0;
    bool found = false;
    LIST_FOREACH(it, stats_scopes()) {
        struct stats_scope *s = CONTAINER_OF(it, struct stats_scope, link);
        struct str prefix = s->prefix;
        if (!str_starts(prefix, str_of(scope)))
            continue;
        for (uint32_t i = 0; i < s->table->num; i++) {
            if (strcmp(s->table->defs[i].name, name) != 0)
                continue;
            sum = stats_sum(s, i);
            found = true;
        }
    }
    ck_assert_msg(found, "there is no %s%s", scope, name);
    return sum;
}

static void put(struct log_file *f, const char *line)
{
    log_file_write(f, str_of(line));
}

/* --- one thread
 * -------------------------------------------------------------------------------------- */

START_TEST(test_flushed_by_timer)
{
    files = log_files_new(20, 65536);
    struct log_file *f = log_files_open(files, path("a"));
    ck_assert_ptr_nonnull(f);
    put(f, "one\n");
    put(f, "two\n");
    await_text("a", "one\ntwo\n");
    ck_assert_uint_eq(stat_of("filesystem.", "write_buffered"), 2);
    ck_assert_uint_ge(stat_of("filesystem.", "write_completed"), 1);
    ck_assert_uint_ge(stat_of("filesystem.", "flushed_by_timer"), 1);
    ck_assert_uint_eq(stat_of("filesystem.", "write_total_buffered"), 0);
    ck_assert_uint_eq(stat_of("filesystem.", "write_failed"), 0);
    ck_assert_uint_eq(stat_of("access_log.", "dropped"), 0);
    log_file_unref(f);
}
END_TEST

START_TEST(test_nothing_before_the_time)
{
    files = log_files_new(3600 * 1000, 65536);
    struct log_file *f = log_files_open(files, path("a"));
    put(f, "waits\n");
    sleep_ms(100);
    await_text("a", "");
    ck_assert_uint_eq(stat_of("filesystem.", "write_total_buffered"), 6);
    log_file_unref(f);
    await_text("a", "waits\n"); /* nobody has it any more: written and closed */
}
END_TEST

START_TEST(test_flushed_when_large)
{
    files = log_files_new(3600 * 1000, 100);
    struct log_file *f = log_files_open(files, path("a"));
    char line[121];
    memset(line, 'x', 120);
    line[119] = '\n';
    line[120] = '\0';
    put(f, line);
    await_text("a", line);
    ck_assert_uint_eq(stat_of("filesystem.", "flushed_by_timer"), 0);
    log_file_unref(f);
}
END_TEST

START_TEST(test_the_same_path_is_one_file)
{
    files = log_files_new(10, 65536);
    struct log_file *f = log_files_open(files, path("a"));
    struct log_file *g = log_files_open(files, path("a"));
    struct log_file *h = log_files_open(files, path("b"));
    ck_assert_ptr_eq(f, g);
    ck_assert_ptr_ne(f, h);
    log_file_unref(f);
    put(g, "still\n");
    await_text("a", "still\n");
    log_file_unref(g);
    f = log_files_open(files, path("a")); /* gone, going or still there: it must work */
    put(f, "again\n");
    await_text("a", "still\nagain\n");
    log_file_unref(f);
    log_file_unref(h);
}
END_TEST

START_TEST(test_open_fails)
{
    files = log_files_new(10, 65536);
    errno = 0;
    ck_assert_ptr_null(log_files_open(files, path("no/such/dir")));
    ck_assert_int_eq(errno, ENOENT);
    ck_assert_ptr_null(log_files_open(files, str_of(dir)));
    ck_assert_int_eq(errno, EISDIR);
    log_file_unref(NULL);
}
END_TEST

START_TEST(test_existing_file_is_appended_to)
{
    FILE *old = fopen(path("a").p, "w");
    fputs("old\n", old);
    fclose(old);
    files = log_files_new(10, 65536);
    struct log_file *f = log_files_open(files, path("a"));
    put(f, "new\n");
    await_text("a", "old\nnew\n");
    log_file_unref(f);
}
END_TEST

START_TEST(test_reopen)
{
    files = log_files_new(10, 65536);
    struct log_file *f = log_files_open(files, path("a"));
    char other[256];
    put(f, "before\n");
    await_text("a", "before\n");
    snprintf(other, sizeof(other), "%s/a.1", dir);
    ck_assert_int_eq(rename(path("a").p, other), 0);
    put(f, "still the old one\n");
    await_text("a.1", "before\nstill the old one\n");
    log_files_reopen(files);
    await_text("a", "");
    put(f, "after\n");
    await_text("a", "after\n");
    await_text("a.1", "before\nstill the old one\n");
    ck_assert_uint_eq(stat_of("filesystem.", "reopen_failed"), 0);
    log_file_unref(f);
}
END_TEST

START_TEST(test_reopen_fails)
{
    char moved[256], sub[256];
    log_set_all(LOG_LEVEL_OFF);
    snprintf(sub, sizeof(sub), "%s/sub", dir);
    snprintf(moved, sizeof(moved), "%s/moved", dir);
    ck_assert_int_eq(mkdir(sub, 0700), 0);
    files = log_files_new(10, 65536);
    struct log_file *f = log_files_open(files, path("sub/a"));
    ck_assert_int_eq(rename(sub, moved), 0);
    log_files_reopen(files);
    for (int i = 0; i < 500 && !stat_of("filesystem.", "reopen_failed"); i++)
        sleep_ms(10);
    ck_assert_uint_eq(stat_of("filesystem.", "reopen_failed"), 1);
    put(f, "kept\n"); /* the old one stays in use */
    await_text("moved/a", "kept\n");
    log_file_unref(f);
}
END_TEST

START_TEST(test_long_lines)
{
    files = log_files_new(10, 65536);
    struct log_file *f = log_files_open(files, path("a"));
    size_t sizes[] = {1, 16383, 16384, 16385, 100000, 7, 16384, 16384, 200001};
    char *want = NULL;
    size_t cap = 0, n = 0;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        want = mem_grow_array(want, &cap, n + sizes[i] + 1, 1);
        memset(want + n, 'a' + (int)i, sizes[i]);
        want[n + sizes[i] - 1] = '\n';
        log_file_write(f, str_n(want + n, sizes[i]));
        n += sizes[i];
    }
    want[n] = '\0';
    await_text("a", want);
    mem_free(want);
    log_file_unref(f);
}
END_TEST

/* A line over all that may ever wait is dropped, not cut; the next one is written. */
START_TEST(test_line_too_long)
{
    files = log_files_new(10, 65536);
    struct log_file *f = log_files_open(files, path("a"));
    size_t len = (4 << 20) + 1;
    char *big = mem_alloc(len);
    memset(big, 'b', len);
    log_file_write(f, str_n(big, len));
    put(f, "next\n");
    await_text("a", "next\n");
    ck_assert_uint_eq(stat_of("access_log.", "dropped"), 1);
    mem_free(big);
    log_file_unref(f);
}
END_TEST

/* A format without a line break gives pieces of text, one after the other. */
START_TEST(test_without_line_breaks)
{
    files = log_files_new(10, 65536);
    struct log_file *f = log_files_open(files, path("a"));
    put(f, "a");
    put(f, "");
    put(f, "b");
    await_text("a", "ab");
    log_files_reopen(files);
    put(f, "c");
    await_text("a", "abc");
    log_file_unref(f);
}
END_TEST

START_TEST(test_written_at_the_end)
{
    files = log_files_new(3600 * 1000, 65536);
    struct log_file *f = log_files_open(files, path("a"));
    put(f, "last\n");
    log_files_free(&files, 2000); /* with f still open, as when the process ends */
    ck_assert_ptr_null(files);
    await_text("a", "last\n");
}
END_TEST

START_TEST(test_end_without_files)
{
    files = log_files_new(10, 0);
    log_files_free(&files, 0);
    log_files_free(&files, 0);
}
END_TEST

/* --- files that do not take what they are given
 * --------------------------------------------------- */

/* RLIMIT_FSIZE stands for the full disk: write(2) takes a part, then fails (EFBIG; SIGXFSZ is
 * masked on the writer's thread). The file is a large one, because check writes a small one itself.
 */
enum { FILE_MAX_BYTES = 1 << 20 };

static struct rlimit old_limit;

static struct log_file *open_nearly_full(size_t room)
{
    struct rlimit small;
    FILE *large = fopen(path("a").p, "w");
    for (size_t i = 0; i < FILE_MAX_BYTES - room; i++)
        fputc('\n', large);
    fclose(large);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
    small = old_limit;
    small.rlim_cur = FILE_MAX_BYTES;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    return log_files_open(files, path("a"));
}

static void make_room(void)
{
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
}

static void await_end(const char *name, const char *want)
{
    char *text = NULL;
    for (uint64_t end = now_ms() + 5000; now_ms() < end; sleep_ms(5)) {
        size_t len = 0;
        mem_free(text);
        text = slurp(name, &len);
        if (text && str_ends(str_n(text, len), str_of(want)))
            break;
    }
    ck_assert_ptr_nonnull(text);
    ck_assert_str_eq(text + strlen(text) - strlen(want), want);
    mem_free(text);
}

/* The line that was cut is finished when there is room again. */
START_TEST(test_full_disk)
{
    log_set_all(LOG_LEVEL_OFF);
    files = log_files_new(10, 65536);
    struct log_file *f = open_nearly_full(10);
    put(f, "123456\n");
    put(f, "abcdef\n");
    for (int i = 0; i < 500 && !stat_of("filesystem.", "write_failed"); i++)
        sleep_ms(10);
    ck_assert_uint_ge(stat_of("filesystem.", "write_failed"), 1);
    await_end("a", "\n123456\nabc");
    put(f, "more\n"); /* and nobody waits */
    make_room();
    await_end("a", "\n123456\nabcdef\nmore\n");
    ck_assert_uint_eq(stat_of("access_log.", "dropped"), 0);
    log_file_unref(f);
}
END_TEST

/* The line that was cut goes whole into the new file. */
START_TEST(test_full_disk_then_reopened)
{
    char other[256];
    log_set_all(LOG_LEVEL_OFF);
    files = log_files_new(10, 65536);
    struct log_file *f = open_nearly_full(10);
    put(f, "123456\nabcdef\n");
    await_end("a", "\n123456\nabc");
    snprintf(other, sizeof(other), "%s/a.1", dir);
    ck_assert_int_eq(rename(path("a").p, other), 0);
    log_files_reopen(files);
    make_room();
    await_text("a", "abcdef\n");
    await_end("a.1", "\n123456\nabc");
    log_file_unref(f);
}
END_TEST

/* /dev/full fails every write: lines queue up to the bound, the rest is dropped, and it ends. */
START_TEST(test_dev_full)
{
    log_set_all(LOG_LEVEL_OFF);
    files = log_files_new(5, 65536);
    struct log_file *f = log_files_open(files, STR("/dev/full"));
    ck_assert_ptr_nonnull(f);
    char line[1024];
    memset(line, 'f', sizeof(line));
    line[sizeof(line) - 1] = '\n';
    enum { LINES = 10000 };
    for (int i = 0; i < LINES; i++)
        log_file_write(f, str_n(line, sizeof(line)));
    uint64_t buffered = stat_of("filesystem.", "write_buffered");
    uint64_t dropped = stat_of("access_log.", "dropped");
    ck_assert_uint_eq(buffered + dropped, LINES);
    ck_assert_uint_ge(buffered, 4000);
    ck_assert_uint_le(buffered, 4200);
    ck_assert_uint_le(stat_of("filesystem.", "write_total_buffered"), (4 << 20) + 16384);
    log_file_unref(f);
    for (int i = 0; i < 500 && stat_of("access_log.", "dropped") < LINES; i++)
        sleep_ms(10);
    ck_assert_uint_eq(stat_of("access_log.", "dropped"), LINES); /* nothing got there */
}
END_TEST

START_TEST(test_fifo_without_a_reader)
{
    ck_assert_int_eq(mkfifo(path("fifo").p, 0600), 0);
    files = log_files_new(10, 65536);
    ck_assert_ptr_null(log_files_open(files, path("fifo")));
    ck_assert_int_eq(errno, ENXIO);
}
END_TEST

/* --- stdout, a pipe nobody reads
 * ------------------------------------------------------------------ */

static int saved_stdout = -1, pipe_fds[2];

static void stdout_to_pipe(void)
{
    fflush(stdout);
    saved_stdout = dup(STDOUT_FILENO);
    ck_assert_int_eq(pipe(pipe_fds), 0);
    ck_assert_int_ge(dup2(pipe_fds[1], STDOUT_FILENO), 0);
    close(pipe_fds[1]);
}

static void stdout_back(void)
{
    ck_assert_int_ge(dup2(saved_stdout, STDOUT_FILENO), 0);
    close(saved_stdout);
}

enum { PRODUCERS = 4, PER_PRODUCER = 8000 };

struct producer {
    pthread_t thread;
    struct log_file *file;
    int id;
};

static void *produce(void *arg)
{
    struct producer *p = arg;
    char line[200];
    for (int i = 0; i < PER_PRODUCER; i++) {
        int pad = (i * 7 + p->id) % 100;
        int n = snprintf(
            line, sizeof(line), "%d %d %.*s.\n", p->id, i, pad,
            "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo"
            "oooooooooooooooooooooooooo");
        log_file_write(p->file, str_n(line, (size_t)n));
    }
    return NULL;
}

static void start_producers(struct producer *p, struct log_file *f)
{
    for (int i = 0; i < PRODUCERS; i++) {
        p[i].file = f;
        p[i].id = i;
        ck_assert_int_eq(pthread_create(&p[i].thread, NULL, produce, &p[i]), 0);
    }
}

static void join_producers(struct producer *p)
{
    for (int i = 0; i < PRODUCERS; i++)
        ck_assert_int_eq(pthread_join(p[i].thread, NULL), 0);
}

static bool line_ok(const char *p, const char *end, int *last)
{
    int id, i, used = 0;
    if (!end || sscanf(p, "%d %d %n", &id, &i, &used) != 2 || id < 0 || id >= PRODUCERS ||
        i <= last[id])
        return false;
    last[id] = i;
    int pad = (i * 7 + id) % 100;
    for (int k = 0; k < pad; k++) {
        if (p[used + k] != 'o')
            return false;
    }
    return p[used + pad] == '.' && end - p == used + pad + 1;
}

/* Every line whole, those of a producer in order. Returns how many there are. (An assertion for
 * each line would take seconds: check writes a message for every one.) */
static uint64_t check_lines(const char *text, size_t len)
{
    int last[PRODUCERS] = {-1, -1, -1, -1};
    uint64_t lines = 0;
    for (const char *p = text, *end; p < text + len; p = end + 1) {
        end = memchr(p, '\n', (size_t)(text + len - p));
        if (!line_ok(p, end, last))
            ck_abort_msg("not as written: %.*s", 60, p);
        lines++;
    }
    return lines;
}

START_TEST(test_producers)
{
    struct producer p[PRODUCERS];
    size_t len;
    files = log_files_new(1, 4096);
    struct log_file *f = log_files_open(files, path("a"));
    start_producers(p, f);
    for (int i = 0; i < 20; i++) {
        log_files_reopen(files); /* in the midst of it */
        (void)stat_of("filesystem.", "write_total_buffered");
        sleep_ms(1);
    }
    join_producers(p);
    log_file_unref(f);
    log_files_free(&files, 5000);
    char *text = slurp("a", &len);
    uint64_t lines = check_lines(text, len);
    ck_assert_uint_le(lines, (uint64_t)PRODUCERS * PER_PRODUCER);
    ck_assert_uint_gt(lines, 1000);
    mem_free(text);
}
END_TEST

/* Nobody reads: producers finish at once, other files go on, and what is read in the end is whole.
 */
START_TEST(test_blocked_stdout)
{
    struct producer p[PRODUCERS];
    stdout_to_pipe();
    files = log_files_new(5, 4096);
    struct log_file *f = log_files_open(files, STR("/dev/stdout"));
    struct log_file *other = log_files_open(files, path("other"));
    ck_assert_ptr_nonnull(f);
    uint64_t start = now_ms();
    for (int round = 0; round < 4; round++) {
        start_producers(p, f);
        join_producers(p);
    }
    ck_assert_uint_lt(now_ms() - start, 20000);
    ck_assert_uint_gt(stat_of("access_log.", "dropped"), 0);
    put(other, "not held up\n");
    await_text("other", "not held up\n");
    start = now_ms();
    log_file_unref(other);
    log_file_unref(f);
    log_files_free(&files, 200);
    ck_assert_uint_lt(now_ms() - start, 2000);
    stdout_back();
    ck_assert_int_eq(fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK), 0);
    static char text[1 << 20];
    size_t n = 0;
    ssize_t got;
    while ((got = read(pipe_fds[0], text + n, sizeof(text) - n)) > 0)
        n += (size_t)got;
    close(pipe_fds[0]);
    ck_assert_uint_gt(n, 30000);
    while (n && text[n - 1] != '\n')
        n--; /* no write was cut in two, but a line over PIPE_BUF could be */
    for (size_t at = 0, next; at < n; at = next) {
        const char *end = memchr(text + at, '\n', n - at);
        next = (size_t)(end - text) + 1;
        if (end[-1] != '.')
            ck_abort_msg("torn: %.*s", (int)(end - text - (ptrdiff_t)at), text + at);
    }
}
END_TEST

static void *read_slowly(void *arg)
{
    static char text[8 << 20];
    size_t *n = arg;
    ssize_t got;
    while ((got = read(pipe_fds[0], text + *n, 3000)) > 0) {
        *n += (size_t)got;
        if (*n % 5 == 0)
            sched_yield();
    }
    ck_assert_uint_gt(check_lines(text, *n), 1000);
    return NULL;
}

/* A reader that is slower than the writers: whole lines, each producer's in order, some dropped. */
START_TEST(test_slow_stdout)
{
    struct producer p[PRODUCERS];
    pthread_t reader;
    size_t n = 0;
    stdout_to_pipe();
    ck_assert_int_eq(pthread_create(&reader, NULL, read_slowly, &n), 0);
    files = log_files_new(2, 4096);
    struct log_file *f = log_files_open(files, STR("/dev/stdout"));
    start_producers(p, f);
    join_producers(p);
    log_file_unref(f);
    log_files_free(&files, 10000);
    stdout_back();
    ck_assert_int_eq(pthread_join(reader, NULL), 0);
    close(pipe_fds[0]);
    ck_assert_uint_gt(n, 100000);
}
END_TEST

/* The reader goes away: errors are counted, the process gets no SIGPIPE. */
START_TEST(test_broken_stdout)
{
    log_set_all(LOG_LEVEL_OFF);
    stdout_to_pipe();
    files = log_files_new(5, 64);
    struct log_file *f = log_files_open(files, STR("/dev/stdout"));
    close(pipe_fds[0]);
    for (int i = 0; i < 500 && !stat_of("filesystem.", "write_failed"); i++) {
        put(f, "into the void\n");
        sleep_ms(2);
    }
    ck_assert_uint_ge(stat_of("filesystem.", "write_failed"), 1);
    log_file_unref(f);
    log_files_free(&files, 100);
    stdout_back();
}
END_TEST

/* --- threads that come and go
 * --------------------------------------------------------------------- */

static void *one_line(void *arg)
{
    put(arg, "from a thread\n");
    return NULL;
}

START_TEST(test_many_short_threads)
{
    files = log_files_new(10, 65536);
    struct log_file *f = log_files_open(files, path("a"));
    enum { THREADS = 1500 }; /* more than there are numbers */
    for (int i = 0; i < THREADS; i++) {
        pthread_t t;
        CHECK(pthread_create(&t, NULL, one_line, f) == 0);
        CHECK(pthread_join(t, NULL) == 0);
    }
    ck_assert_uint_eq(stat_of("filesystem.", "write_buffered"), THREADS);
    log_file_unref(f);
    log_files_free(&files, 2000);
    size_t len;
    char *text = slurp("a", &len);
    ck_assert_uint_eq(len, THREADS * strlen("from a thread\n"));
    mem_free(text);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("log_files");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_flushed_by_timer);
    tcase_add_test(t, test_nothing_before_the_time);
    tcase_add_test(t, test_flushed_when_large);
    tcase_add_test(t, test_the_same_path_is_one_file);
    tcase_add_test(t, test_open_fails);
    tcase_add_test(t, test_existing_file_is_appended_to);
    tcase_add_test(t, test_reopen);
    tcase_add_test(t, test_reopen_fails);
    tcase_add_test(t, test_long_lines);
    tcase_add_test(t, test_line_too_long);
    tcase_add_test(t, test_without_line_breaks);
    tcase_add_test(t, test_written_at_the_end);
    tcase_add_test(t, test_end_without_files);
    tcase_add_test(t, test_full_disk);
    tcase_add_test(t, test_full_disk_then_reopened);
    tcase_add_test(t, test_dev_full);
    tcase_add_test(t, test_fifo_without_a_reader);
    tcase_add_test(t, test_producers);
    tcase_add_test(t, test_blocked_stdout);
    tcase_add_test(t, test_slow_stdout);
    tcase_add_test(t, test_broken_stdout);
    tcase_add_test(t, test_many_short_threads);
    Suite *s = suite_create("observe/log_files");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
