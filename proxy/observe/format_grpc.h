/* The status of a gRPC call: grpc-status of the trailers, of the headers, or what the HTTP status
 * stands for. Rows of format_ops.c; also for the filter by gRPC status. */
#pragma once

#include "proxy/observe/format_ops.h"

enum { GRPC_STATUS_NONE = -2, GRPC_STATUS_INVALID = -1, GRPC_NUM_STATUS = 17 };

/* grpc_status_of returns the status, GRPC_STATUS_INVALID for a grpc-status that is no number,
 * GRPC_STATUS_NONE when nothing says one. */
int64_t grpc_status_of(const struct stream_info *si);

/* grpc_status_name is the name in CamelCase or SNAKE_CASE; NULL for a number without one. */
const char *grpc_status_name(int64_t status, bool snake);

/* GRPC_STATUS(CAMEL_STRING|SNAKE_STRING|NUMBER) and GRPC_STATUS_NUMBER: only of requests whose
 * content type is gRPC's. */
bool format_grpc_prepare(struct format_op *op, struct arena *a, struct str param, struct errors *e);
bool format_grpc_put(const struct format_op *op, const struct stream_info *si,
                     struct format_out *o);
bool format_grpc_get(const struct format_op *op, const struct stream_info *si, int64_t *out);
