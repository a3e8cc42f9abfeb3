/* The client's certificate as X-Forwarded-Client-Cert tells it to who is behind us. */
#pragma once

struct stream;

/* client_cert_set sanitizes, forwards, appends or sets the field, as the connection manager is
 * configured (forward_client_cert_details, set_current_client_cert_details). Worker. */
void client_cert_set(struct stream *s);
