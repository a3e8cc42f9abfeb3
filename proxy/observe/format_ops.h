/* The command operators of format strings: one row each, with what they take in parentheses and how
 * they are evaluated. Used by format.c and json_format.c. */
#pragma once

#include "base/errors.h"
#include "proxy/observe/format_out.h"
#include "proxy/observe/format_time.h"
#include "proxy/observe/stream_info.h"

struct format_op;

/* What may follow the name: (param), :length. */
enum format_args {
    FORMAT_ARGS_NONE,
    FORMAT_ARGS_OPTIONAL,        /* a parameter or none */
    FORMAT_ARGS_REQUIRED,        /* a parameter */
    FORMAT_ARGS_OPTIONAL_LENGTH, /* a parameter or none, a length or none */
    FORMAT_ARGS_REQUIRED_LENGTH, /* a parameter, a length or none */
};

struct format_op_def {
    const char *name;
    enum format_args args;
    /* prepare looks at the parameter while compiling; NULL: nothing to do. False after an error. */
    bool (*prepare)(struct format_op *op, struct arena *a, struct str param, struct errors *e);
    /* One of the two; both return false when there is no value, and have then written nothing. */
    bool (*text)(const struct format_op *op, const struct stream_info *si, struct format_out *o);
    bool (*number)(const struct format_op *op, const struct stream_info *si, int64_t *out);
    size_t offset; /* of the field it shows, in stream_info, conn_info or tls_peer */
    /* Where a value can be more than a text: the value, which may be put into `scratch` (with
     * `boolean`: a text that is not cut); false when there is none. */
    bool (*tree)(const struct format_op *op, const struct stream_info *si, struct json *scratch,
                 const struct json **out);
};

/* A header that an operator asks for: by what is known of its name. */
enum format_header_kind {
    FORMAT_HEADER_NONE,
    FORMAT_HEADER_PATH,
    FORMAT_HEADER_METHOD,
    FORMAT_HEADER_AUTHORITY,
    FORMAT_HEADER_SCHEME,
    FORMAT_HEADER_STATUS,
    FORMAT_HEADER_KNOWN, /* by its number */
    FORMAT_HEADER_NAMED,
};

struct format_header {
    enum format_header_kind kind;
    enum header_id id;
    struct str name; /* lower case */
};

/* One operator, compiled. */
struct format_op {
    const struct format_op_def *def;
    size_t max;       /* bytes of its value; SIZE_MAX: all */
    struct str name;  /* a query parameter's, a namespace, a key, or the value itself */
    struct str *keys; /* below the namespace */
    size_t num_keys;
    struct format_header header, other; /* the second is asked for when the first is absent */
    struct format_time time;            /* START_TIME(...) */
    int from, to;                       /* COMMON_DURATION: time points */
    unsigned option;                    /* an enum of the operator's own */
    bool numeric;                       /* its value is a number, in JSON too */
};

/* format_op_compile finds the operator `name` and looks at its parameter and length (SIZE_MAX:
 * none given). False after an error in e. */
bool format_op_compile(struct format_op *op, struct arena *a, struct str name, struct str param,
                       size_t length, struct errors *e);

/* format_op_put writes the value to o (as digits if it is a number); false, and nothing written,
 * when there is none. */
bool format_op_put(const struct format_op *op, const struct stream_info *si, struct format_out *o);
