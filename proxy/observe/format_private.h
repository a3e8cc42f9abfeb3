/* A compiled format string: texts and operators in turn. Shared by format.c and json_format.c. */
#pragma once

#include "proxy/observe/format_ops.h"

struct format_part {
    struct str text; /* when op is NULL */
    const struct format_op *op;
};

struct format {
    struct format_part *parts;
    size_t num_parts;
    struct str text; /* all of it, when it has no operators */
    bool plain;
    bool omit_empty;
};

/* format_put evaluates f into o. */
void format_put(const struct format *f, const struct stream_info *si, struct format_out *o);
