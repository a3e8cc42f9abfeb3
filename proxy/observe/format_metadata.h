/* Operators that read what filters left behind: dynamic metadata and filter state. Rows of
 * format_ops.c. */
#pragma once

#include "proxy/observe/format_ops.h"

/* DYNAMIC_METADATA(namespace:key:...) and METADATA(DYNAMIC:namespace:key:...): a text as it is,
 * anything else as JSON with its members in order of their names. */
bool format_dynamic_metadata_prepare(struct format_op *op, struct arena *a, struct str param,
                                     struct errors *e);
bool format_metadata_prepare(struct format_op *op, struct arena *a, struct str param,
                             struct errors *e);
bool format_metadata_put(const struct format_op *op, const struct stream_info *si,
                         struct format_out *o);
bool format_metadata_tree(const struct format_op *op, const struct stream_info *si,
                          struct json *scratch, const struct json **out);

/* FILTER_STATE(key:PLAIN|TYPED|FIELD:name): TYPED, the default, is a JSON string; what a filter
 * leaves is a text here, which has no fields. */
bool format_filter_state_prepare(struct format_op *op, struct arena *a, struct str param,
                                 struct errors *e);
bool format_filter_state_put(const struct format_op *op, const struct stream_info *si,
                             struct format_out *o);
bool format_filter_state_tree(const struct format_op *op, const struct stream_info *si,
                              struct json *scratch, const struct json **out);

/* format_put_tree writes j as JSON to o, once more escaped if o is inside a JSON string. */
void format_put_tree(const struct json *j, struct format_out *o);
