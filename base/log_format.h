/* The patterns of log lines, in spdlog's notation: parsed once, applied to each line. %v message
 * (%j escaped for JSON, %_ with its newlines escaped), %l %L level, %n component, %t thread, %P
 * process, %g %s file, %# line, %@ both, %! function, time in the local zone: %Y %y %m %b %B %d %a
 * %A %H %M %S %T %R %D %z, %e %f %F milli-, micro- and nanoseconds, %E seconds since the epoch; %8l
 * %-8l %=8l pad, %3!l also cuts. A format is immutable; a line belongs to its caller. Any thread.
 */
#pragma once

#include "base/alloc.h"
#include "base/str.h"
#include <time.h>

#define LOG_FORMAT_DEFAULT "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v"

struct log_op {
    char flag;       /* the letter after '%'; 0: a piece of text */
    uint8_t width;   /* %8l: padded to this many bytes; 0: not */
    char align;      /* '>' padding on the left (the default), '<' on the right, '=' both */
    bool truncate;   /* %3!l: and cut to it */
    struct str text; /* flag 0: into the format's copy of the pattern */
};

struct log_format {
    struct log_format *next; /* the owner's */
    char *pattern;
    struct log_op *ops;
    size_t num_ops;
};

struct log_record {
    const char *level, *component, *file, *func;
    struct str message;
    int line;
    int level_index;
    struct timespec time;
};

/* A line being built: on the stack as long as it fits. */
struct log_line {
    char *p;
    size_t len, cap;
    char small[2048];
};

/* log_format_new parses a pattern; NULL and a static text in *err when it holds an unknown flag. */
struct log_format *log_format_new(const char *pattern, const char **err);

/* log_format_free frees it; NULL is fine. */
void log_format_free(struct log_format *f);

/* log_format_apply appends the line and a newline to out. f NULL: the default format. */
void log_format_apply(const struct log_format *f, const struct log_record *r, struct log_line *out);

/* log_line_escape writes what is special in C, and what is not ASCII text, as escapes, but leaves
 * blanks and line feeds at the end as they are. */
void log_line_escape(struct log_line *l);

/* log_line_cleanup frees what did not fit on the stack. */
void log_line_cleanup(struct log_line *l);
