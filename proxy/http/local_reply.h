/* Local replies: what the connection manager makes of the responses that do not come from an
 * upstream (LocalReplyConfig: mappers by filter, their status, body, format and headers, and the
 * format of all). Compiled on main, immutable. */
#pragma once

#include "base/arena.h"
#include "base/errors.h"
#include "proxy/http/headers.h"
#include "proxy/observe/stream_info.h"

struct local_reply;
struct pb_opts;

/* local_reply_compile compiles a LocalReplyConfig message into arena a; NULL after errors.
 * local_reply_cleanup gives back its expressions, the rest goes with the arena; NULL is fine. Main.
 */
struct local_reply *local_reply_compile(struct arena *a, const void *msg, const struct pb_opts *pb,
                                        struct errors *e);
void local_reply_cleanup(struct local_reply *l);

/* local_reply_finish makes a whole response of a head with its status and own fields and of a body:
 * the first mapper that fits changes both, the format is put on, content-type and content-length
 * are set, and a gRPC client (`grpc`) gets trailers only. What is left of the body, none for gRPC,
 * is returned, in h->arena or as it was. `l` may be NULL: no configuration. Of `si` the response
 * and its code are set. Worker. */
struct str local_reply_finish(const struct local_reply *l, struct headers *h, struct str body,
                              bool grpc, struct stream_info *si);
