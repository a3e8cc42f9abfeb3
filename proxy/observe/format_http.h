/* Operators that read a message's head: headers, path, query, server name. Rows of format_ops.c. */
#pragma once

#include "proxy/observe/format_ops.h"

/* format_header_prepare reads "NAME" or "NAME?OTHER". */
bool format_header_prepare(struct format_op *op, struct arena *a, struct str param,
                           struct errors *e);

/* REQ, RESP, TRAILER: the first field of the name, or of the other one. REQ_WITHOUT_QUERY cuts it
 * at its '?'. */
bool format_req_put(const struct format_op *op, const struct stream_info *si, struct format_out *o);
bool format_resp_put(const struct format_op *op, const struct stream_info *si,
                     struct format_out *o);
bool format_trailer_put(const struct format_op *op, const struct stream_info *si,
                        struct format_out *o);
bool format_req_without_query_put(const struct format_op *op, const struct stream_info *si,
                                  struct format_out *o);

/* PATH(WQ|NQ:PATH|ORIG|ORIG_OR_PATH): with or without query; as it is now, as it came, or as it
 * came if it was changed. */
bool format_path_prepare(struct format_op *op, struct arena *a, struct str param, struct errors *e);
bool format_path_put(const struct format_op *op, const struct stream_info *si,
                     struct format_out *o);

/* QUERY_PARAM(name): the first parameter's value, percent-decoded. QUERY_PARAMS: the query. */
bool format_query_param_prepare(struct format_op *op, struct arena *a, struct str param,
                                struct errors *e);
bool format_query_param_put(const struct format_op *op, const struct stream_info *si,
                            struct format_out *o);
bool format_query_params_prepare(struct format_op *op, struct arena *a, struct str param,
                                 struct errors *e);
bool format_query_params_put(const struct format_op *op, const struct stream_info *si,
                             struct format_out *o);

/* REQUESTED_SERVER_NAME(SNI_ONLY|SNI_FIRST|HOST_FIRST): bytes that no host name has become '_'. */
bool format_server_name_prepare(struct format_op *op, struct arena *a, struct str param,
                                struct errors *e);
bool format_server_name_put(const struct format_op *op, const struct stream_info *si,
                            struct format_out *o);

/* The sizes of names and values as they are now. */
bool format_request_bytes_get(const struct format_op *op, const struct stream_info *si,
                              int64_t *out);
bool format_response_bytes_get(const struct format_op *op, const struct stream_info *si,
                               int64_t *out);
bool format_trailers_bytes_get(const struct format_op *op, const struct stream_info *si,
                               int64_t *out);
