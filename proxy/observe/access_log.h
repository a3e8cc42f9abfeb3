/* Access logs: compiled loggers with their filters (immutable, main), written by the workers
 * through a bounded buffer that a thread of its own empties to the files: a blocked stdout or a
 * full disk stalls nobody; what does not fit is dropped and counted (access_log.<...>). Files are
 * reopened on log_files_reopen (SIGUSR1, /reopen_logs). */
#pragma once

#include "base/arena.h"
#include "base/errors.h"
#include "proxy/observe/stream_info.h"

/* --- files --- */

struct log_files; /* all files of the process, by path */
struct log_file;

/* log_files_new starts the writer thread. Main. `flush_ms` and `flush_bytes`:
 * --file-flush-interval-msec (10 s) and
 * --file-flush-min-size-kb (64). Statistics filesystem.* as Envoy's. */
struct log_files *log_files_new(uint64_t flush_ms, size_t flush_bytes);

/* log_files_free writes what is left, for at most `wait_ms`, and stops the thread. */
void log_files_free(struct log_files **f, uint64_t wait_ms);

/* log_files_open finds or opens a path (/dev/stdout and /dev/stderr included); NULL with errno.
 * Main; counted. */
struct log_file *log_files_open(struct log_files *f, struct str path);
void log_file_unref(struct log_file *f);

/* log_files_reopen closes and opens all files again, by the writer thread, soon. */
void log_files_reopen(struct log_files *f);

/* log_file_write queues one line (with its newline); never blocks, drops when the buffer is full.
 * Any thread. */
void log_file_write(struct log_file *f, struct str line);

/* --- loggers --- */

struct pb_opts;
struct access_log; /* one entry of an access_log list */

/* access_log_compile compiles an envoy.config.accesslog.v3.AccessLog message into arena a; NULL
 * after an error in e. With `files` NULL (--mode validate) nothing is opened. `pb` says how fields
 * that are unknown or not honoured are treated (NULL: as in dynamic resources). access_log_release
 * gives the file back; the rest goes with the arena. Main. */
struct access_log *access_log_compile(struct arena *a, const void *msg, struct log_files *files,
                                      const struct pb_opts *pb, struct errors *e);
void access_log_release(struct access_log *l);

/* access_logs_write writes to each of the loggers whose filter passes; `si` is told what moment it
 * is. Worker. */
void access_logs_write(struct access_log *const *logs, size_t n, struct stream_info *si,
                       enum log_type type);

/* access_log_write evaluates the filter and writes. Worker. */
void access_log_write(const struct access_log *l, const struct stream_info *si);
