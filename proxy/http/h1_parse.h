/* HTTP/1 heads from bytes (RFC 9112), strictly, in place. Knows no connection and no exchange. Any
 * thread, one user at a time.
 *
 * Refused beyond the grammar, because two readers may understand it differently: line ends other
 * than CRLF, folded lines, a repeated Host or Content-Length, any transfer coding but one
 * `chunked`. */
#pragma once

#include "proxy/http/h1_message.h"
#include "proxy/http/headers.h"

/* The heads are what h1_scan_take gave, and `lines` what h1_scan counted (the reader relies on
 * both: each line ends in CRLF, the last is empty, H1_PADDING bytes follow). */

/* h1_parse_request parses what h1_scan_take gave, lower-casing names where they lie, into h
 * (initialised by the caller): method, path, authority (of the target, else of Host; absent if
 * there is neither), scheme of an absolute target, fields without Host and without those that
 * belong to the connection. `lines` as scanned. False: *err. */
bool h1_parse_request(char *head, uint32_t lines, const struct h1_rules *rules, struct headers *h,
                      struct h1_message *m, struct h1_error *err) WARN_UNUSED;

/* h1_parse_response the same for a response, 1xx included, to a request that was HEAD (`to_head`)
 * or not. */
bool h1_parse_response(char *head, uint32_t lines, const struct h1_rules *rules, bool to_head,
                       struct headers *h, struct h1_message *m, struct h1_error *err) WARN_UNUSED;

/* h1_parse_trailers the same for a trailer section: one with framing or a host is refused, other
 * fields that must not come there (routing, identity, how to read the content; RFC 9110 6.5.1) are
 * dropped. */
bool h1_parse_trailers(char *section, uint32_t lines, const struct h1_rules *rules,
                       struct headers *h, struct h1_error *err) WARN_UNUSED;

/* h1_authority_valid checks host[:port] (RFC 3986 without user information); empty is not valid. */
bool h1_authority_valid(struct str authority);
