/* JSON: a parser to a tree in an arena, and a writer. The tree keeps line numbers and the digits of
 * numbers, so that who maps it to a message loses nothing; YAML (yaml.h) becomes the same tree.
 * RFC 8259; text must be UTF-8. Any thread. */
#pragma once

#include "base/alloc.h"
#include "base/arena.h"
#include "base/str.h"

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    struct json *next; /* the next element or member */
    struct str key;    /* the member's name, in an object */
    enum json_type type;
    uint32_t line;      /* where it begins, from 1 */
    bool boolean;       /* JSON_BOOL */
    struct str text;    /* JSON_STRING: decoded; JSON_NUMBER: as written */
    struct json *first; /* JSON_ARRAY, JSON_OBJECT: the children, in order */
    size_t count;       /* how many */
};

struct json_error {
    uint32_t line, column; /* from 1 */
    char text[128];
};

enum {
    JSON_TRAILING_COMMAS = 1, /* a comma before ] or } is fine */
    JSON_DUPLICATES_LAST = 2, /* of members with one name the last stays; else an error */
    JSON_REJECT_NUL = 4,      /* \u0000 in a string is an error */
};

enum { JSON_DEPTH_MAX = 1000 };

/* json_parse parses all of `text`; NULL and *err on any error. Strings without escapes point into
 * the text, which must live as long as the tree. */
struct json *json_parse(struct str text, unsigned flags, struct arena *a,
                        struct json_error *err) WARN_UNUSED;

/* json_get returns the member of an object, NULL if there is none or `o` is NULL or no object. */
const struct json *json_get(const struct json *o, const char *key);

/* json_duplicate returns a name that two members of an object share; p is NULL if there is none. */
struct str json_duplicate(const struct json *o);

/* json_str views a string; empty for anything else or NULL. */
struct str json_str(const struct json *j);

/* json_u64 and json_double read a number; false for anything else, or if it does not fit. */
bool json_u64(const struct json *j, uint64_t *out);
bool json_double(const struct json *j, double *out);

/* --- writing ------------------------------------------------------------------------------- */

/* Text that grows on the heap, with the commas and indentation of JSON. */
struct json_writer {
    char *p;
    size_t len, cap;
    bool pretty;     /* one space a level, "key": value */
    bool need_comma; /* something precedes in this array or object */
    bool after_key;  /* the next value belongs to a key */
    unsigned depth;
};

/* json_writer_init and json_writer_cleanup. json_writer_text views what is written so far. */
void json_writer_init(struct json_writer *w, bool pretty);
void json_writer_cleanup(struct json_writer *w);
static inline struct str json_writer_text(const struct json_writer *w)
{
    return str_n(w->p, w->len);
}

/* json_open writes '{' or '[', json_close '}' or ']'. */
void json_open(struct json_writer *w, char bracket);
void json_close(struct json_writer *w, char bracket);

/* json_key writes a member's name; the next value is its value. */
void json_key(struct json_writer *w, struct str key);

/* json_put_*: one value. A string's invalid UTF-8 becomes U+FFFD. json_put_raw writes text that is
 * a JSON value already. json_put_double: NaN and infinities become the strings of the proto3
 * mapping; the shortest digits that read back the same. */
void json_put_str(struct json_writer *w, struct str s);
void json_put_u64(struct json_writer *w, uint64_t v);
void json_put_i64(struct json_writer *w, int64_t v);
void json_put_double(struct json_writer *w, double v);
void json_put_float(struct json_writer *w, float v);
void json_put_bool(struct json_writer *w, bool v);
void json_put_null(struct json_writer *w);
void json_put_raw(struct json_writer *w, struct str s);

/* json_put_tree writes a parsed tree. */
void json_put_tree(struct json_writer *w, const struct json *j);

/* json_escape writes s escaped for a JSON string, without quotes, to out[0..cap) and returns how
 * many bytes it takes; nothing is written beyond cap, and the caller compares. */
size_t json_escape(struct str s, char *out, size_t cap);
