/* What the connection manager itself changes in heads: request id, forwarding headers, client
 * certificate header on the way up; server, date and Envoy's own headers on the way down. */
#pragma once

#include <stdbool.h>

struct hcm_config;
struct headers;
struct stream;
struct worker;

/* mutate_request completes a request's head before routing. False: it was answered. Worker. */
bool mutate_request(struct stream *s);

/* mutate_own_response completes the head of a response that belongs to no stream. Worker. */
void mutate_own_response(const struct hcm_config *cfg, struct worker *w, struct headers *h);

/* mutate_response completes a response's head before it is sent. Worker. */
void mutate_response(struct stream *s, struct headers *h);
