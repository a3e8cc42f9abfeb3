/* The wire walk as pb_unpack uses it. Used inside api-protos only. */
#pragma once

#include "api-protos/message.h"
#include "api-protos/official.h"

/* walk_bytes is pb_walk that also says whether a singular message stands in pieces (merge.h). */
bool walk_bytes(const struct official_message *m, struct str bytes, struct errors *e,
                const struct pb_opts *opts, bool *pieces) WARN_UNUSED;
