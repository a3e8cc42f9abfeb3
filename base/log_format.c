#include "base/log_format.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static const char known_flags[] = "vj_lLntPYyCmdHMSTXRDxeFfEzabABh^$gsG#@!%";
static const char *const weekdays[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};
static const char *const months[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};

static void line_add(struct log_line *l, const char *p, size_t len)
{
    if (l->cap - l->len < len) {
        char *old = l->p == l->small ? NULL : l->p;
        char *bigger = mem_grow_array(old, &l->cap, l->len + len, 1);
        if (!old)
            memcpy(bigger, l->small, l->len);
        l->p = bigger;
    }
    if (len)
        memcpy(l->p + l->len, p, len);
    l->len += len;
}

void log_line_cleanup(struct log_line *l)
{
    if (l->p != l->small)
        mem_free(l->p);
    l->p = l->small;
    l->cap = sizeof(l->small);
    l->len = 0;
}

static void add_text(struct log_line *l, const char *s)
{
    line_add(l, s, strlen(s));
}

static void PRINTF_LIKE(2, 3) add_fmt(struct log_line *l, const char *fmt, ...)
{
    char buf[128];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(buf, sizeof(buf), fmt, ap);
    va_end(ap);
    if (n > 0)
        line_add(l, buf, (size_t)n < sizeof(buf) ? (size_t)n : sizeof(buf) - 1);
}

/* RFC 8259 section 7; bytes above 0x7f pass as they are. */
static void add_json(struct log_line *l, struct str s)
{
    size_t done = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        line_add(l, s.p + done, i - done);
        done = i + 1;
        if (c == '\n')
            add_text(l, "\\n");
        else if (c == '\r')
            add_text(l, "\\r");
        else if (c == '\t')
            add_text(l, "\\t");
        else if (c < 0x20)
            add_fmt(l, "\\u%04x", c);
        else
            add_fmt(l, "\\%c", c);
    }
    line_add(l, s.p + done, s.len - done);
}

static void add_one_line(struct log_line *l, struct str s)
{
    struct str part;
    bool first = true;
    while (str_next(&s, '\n', &part)) {
        if (!first)
            add_text(l, "\\n");
        first = false;
        line_add(l, part.p, part.len);
    }
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static pid_t thread_id(void)
{
    static _Thread_local pid_t tid, tid_of_pid;
    pid_t pid = getpid();
    if (tid_of_pid != pid) { /* also after a fork */
        tid = gettid();
        tid_of_pid = pid;
    }
    return tid;
}

static void add_zone(struct log_line *l, const struct tm *tm)
{
    long minutes = tm->tm_gmtoff / 60;
    unsigned long off = (unsigned long)(minutes < 0 ? -minutes : minutes);
    add_fmt(l, "%c%02lu:%02lu", minutes < 0 ? '-' : '+', off / 60, off % 60);
}

static void add_time(struct log_line *l, char flag, const struct log_record *r, const struct tm *tm)
{
    int year = tm->tm_year + 1900;
    switch (flag) {
    case 'Y':
        add_fmt(l, "%04d", year);
        break;
    case 'y':
    case 'C':
        add_fmt(l, "%02d", year % 100);
        break;
    case 'm':
        add_fmt(l, "%02d", tm->tm_mon + 1);
        break;
    case 'd':
        add_fmt(l, "%02d", tm->tm_mday);
        break;
    case 'H':
        add_fmt(l, "%02d", tm->tm_hour);
        break;
    case 'M':
        add_fmt(l, "%02d", tm->tm_min);
        break;
    case 'S':
        add_fmt(l, "%02d", tm->tm_sec);
        break;
    case 'R':
        add_fmt(l, "%02d:%02d", tm->tm_hour, tm->tm_min);
        break;
    case 'T':
    case 'X':
        add_fmt(l, "%02d:%02d:%02d", tm->tm_hour, tm->tm_min, tm->tm_sec);
        break;
    case 'D':
    case 'x':
        add_fmt(l, "%02d/%02d/%02d", tm->tm_mon + 1, tm->tm_mday, year % 100);
        break;
    case 'e':
        add_fmt(l, "%03ld", r->time.tv_nsec / 1000000);
        break;
    case 'f':
        add_fmt(l, "%06ld", r->time.tv_nsec / 1000);
        break;
    case 'F':
        add_fmt(l, "%09ld", r->time.tv_nsec);
        break;
    case 'E':
        add_fmt(l, "%lld", (long long)r->time.tv_sec);
        break;
    case 'z':
        add_zone(l, tm);
        break;
    case 'a':
        line_add(l, weekdays[tm->tm_wday], 3);
        break;
    case 'A':
        add_text(l, weekdays[tm->tm_wday]);
        break;
    case 'b':
    case 'h':
        line_add(l, months[tm->tm_mon], 3);
        break;
    case 'B':
        add_text(l, months[tm->tm_mon]);
        break;
    default:
        break; /* a char has no list of values to be complete over */
    }
}

static void add_flag(struct log_line *l, char flag, const struct log_record *r, const struct tm *tm)
{
    switch (flag) {
    case 'v':
        line_add(l, r->message.p, r->message.len);
        break;
    case 'j':
        add_json(l, r->message);
        break;
    case '_':
        add_one_line(l, r->message);
        break;
    case 'l':
        add_text(l, r->level);
        break;
    case 'L':
        add_fmt(l, "%c", "TDIWECO"[r->level_index]);
        break;
    case 'n':
        add_text(l, r->component);
        break;
    case 't':
        add_fmt(l, "%d", (int)thread_id());
        break;
    case 'P':
        add_fmt(l, "%d", (int)getpid());
        break;
    case 'g':
    case 'G':
        add_text(l, r->file);
        break;
    case 's':
        add_text(l, base_name(r->file));
        break;
    case '#':
        add_fmt(l, "%d", r->line);
        break;
    case '@':
        add_fmt(l, "%s:%d", r->file, r->line);
        break;
    case '!':
        add_text(l, r->func);
        break;
    case '%':
        add_text(l, "%");
        break;
    case '^':
    case '$':
        break; /* where colour would begin and end */
    default:
        add_time(l, flag, r, tm);
        break;
    }
}

static void pad(struct log_line *l, size_t start, const struct log_op *op)
{
    size_t len = l->len - start, width = op->width;
    if (len >= width) {
        if (op->truncate)
            l->len = start + width;
        return;
    }
    size_t total = width - len;
    size_t before = op->align == '<' ? 0 : op->align == '=' ? total / 2 : total;
    char spaces[256];
    memset(spaces, ' ', sizeof(spaces));
    line_add(l, spaces, total);
    memmove(l->p + start + before, l->p + start, len);
    memset(l->p + start, ' ', before);
    memset(l->p + start + before + len, ' ', total - before);
}

/* Parses what follows a '%' at *p: [-=][width][!]flag. */
static bool parse_op(const char **p, struct log_op *op, const char **err)
{
    const char *s = *p;
    unsigned width = 0;
    op->align = '>';
    if (*s == '-' || *s == '=')
        op->align = *s++ == '-' ? '<' : '=';
    for (; *s >= '0' && *s <= '9'; s++) {
        width = width * 10 + (unsigned)(*s - '0');
        if (width > 64) {
            *err = "a log format pads to at most 64";
            return false;
        }
    }
    op->width = (uint8_t)width;
    if (width && *s == '!') {
        op->truncate = true;
        s++;
    }
    if (*s == '\0' || !strchr(known_flags, *s)) {
        *err = "a log format has an unknown flag";
        return false;
    }
    op->flag = *s++;
    *p = s;
    return true;
}

struct log_format *log_format_new(const char *pattern, const char **err)
{
    struct log_format *f = NEW(struct log_format);
    size_t cap = 0;
    f->pattern = mem_strdup(pattern);
    for (const char *p = f->pattern; *p;) {
        struct log_op op = {0};
        if (*p == '%') {
            p++;
            if (!parse_op(&p, &op, err)) {
                log_format_free(f);
                return NULL;
            }
        } else {
            size_t len = strcspn(p, "%");
            op.text = str_n(p, len);
            p += len;
        }
        f->ops = mem_grow_array(f->ops, &cap, f->num_ops + 1, sizeof(*f->ops));
        f->ops[f->num_ops++] = op;
    }
    return f;
}

void log_format_free(struct log_format *f)
{
    if (!f)
        return;
    mem_free(f->pattern);
    mem_free(f->ops);
    mem_free(f);
}

void log_format_apply(const struct log_format *f, const struct log_record *r, struct log_line *out)
{
    struct tm tm = {0};
    (void)localtime_r(&r->time.tv_sec, &tm);
    if (!f) { /* before log_init: the default format, by hand */
        add_fmt(out, "[%04d-%02d-%02d %02d:%02d:%02d.%03ld][%d][%s][%s] [%s:%d] ",
                tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                r->time.tv_nsec / 1000000, (int)thread_id(), r->level, r->component, r->file,
                r->line);
        line_add(out, r->message.p, r->message.len);
    }
    for (size_t i = 0; f && i < f->num_ops; i++) {
        const struct log_op *op = &f->ops[i];
        size_t start = out->len;
        if (!op->flag)
            line_add(out, op->text.p, op->text.len);
        else
            add_flag(out, op->flag, r, &tm);
        if (op->width)
            pad(out, start, op);
    }
    line_add(out, "\n", 1);
}

static void add_c_escape(struct log_line *l, unsigned char c)
{
    static const char special[] = "\n\r\t\"'\\", letters[] = "nrt\"'\\";
    const char *at = c ? strchr(special, c) : NULL;
    char one = (char)c;
    if (at)
        add_fmt(l, "\\%c", letters[at - special]);
    else if (c < 0x20 || c >= 0x7f)
        add_fmt(l, "\\%03o", c);
    else
        line_add(l, &one, 1);
}

void log_line_escape(struct log_line *l)
{
    struct log_line made = {.p = made.small, .cap = sizeof(made.small)};
    size_t end = l->len;
    while (end && strchr(" \n\t\r", l->p[end - 1]) && l->p[end - 1])
        end--;
    for (size_t i = 0; i < end; i++)
        add_c_escape(&made, (unsigned char)l->p[i]);
    line_add(&made, l->p + end, l->len - end);
    log_line_cleanup(l);
    line_add(l, made.p, made.len);
    log_line_cleanup(&made);
}
