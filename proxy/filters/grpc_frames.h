/* What filters read of gRPC's bytes: the path of a method, and the length-prefixed messages of a
 * body. Any thread. */
#pragma once

#include "base/buffer.h"

/* grpc_path_split cuts "/package.Service/Method?query"; false if it is no such path. */
bool grpc_path_split(struct str path, struct str *service, struct str *method);

/* The place within length-prefixed messages. */
struct grpc_frames {
    uint8_t have;   /* bytes of a prefix that were seen; 5: inside of a message */
    uint32_t left;  /* bytes of the message that follow */
    uint64_t count; /* messages begun */
};

/* grpc_frames_inspect looks at what passes, and returns how many messages begin in it. */
uint64_t grpc_frames_inspect(struct grpc_frames *g, const struct buffer *b);

/* grpc_frames_rest is how many bytes of b, which comes next, belong to the message or prefix that
 * is open, at least 1; the message ends within them or they are all. */
size_t grpc_frames_rest(const struct grpc_frames *g, const struct buffer *b);
