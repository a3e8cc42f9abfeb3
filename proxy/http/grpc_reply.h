/* HTTP's answers as a gRPC client is told them. Any thread. */
#pragma once

#include "base/arena.h"
#include "base/str.h"

/* grpc_status_of_http is the grpc-status for a response that is none of gRPC. */
unsigned grpc_status_of_http(unsigned http);

/* grpc_timeout_text makes the value of grpc-timeout: at most eight digits (the gRPC protocol over
 * HTTP/2, "Requests"), so what is longer is rounded down to a greater unit; in the arena. */
struct str grpc_timeout_text(struct arena *a, uint64_t ms);

/* grpc_message_encode makes the value of grpc-message: percent-encoded (the gRPC protocol over
 * HTTP/2, "Responses"), in the arena. */
struct str grpc_message_encode(struct arena *a, struct str text);
