/* Messages that come more than once: the wire format lets a singular message stand in several
 * pieces, which the reader merges. protobuf-c merges them wrongly (unset scalars of a later piece
 * overwrite what an earlier one set), so they are joined before it sees them. */
#pragma once

#include "api-protos/official.h"
#include "base/arena.h"

/* merge_pieces returns bytes of the same meaning in which every singular message stands once, in
 * the arena. The bytes have passed the walk. */
struct str merge_pieces(const struct official_message *m, struct str bytes, struct arena *a);
