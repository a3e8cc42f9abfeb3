/* envoy.config.core.v3.Address and SocketAddress as struct addr. Names are not resolved. Any
 * thread. */
#pragma once

#include "base/addr.h"
#include "base/errors.h"

struct Envoy__Config__Core__V3__Address;
struct Envoy__Config__Core__V3__SocketAddress;

/* address_compile reads an Address (NULL is an error) whose path has been pushed; false after an
 * error. */
bool address_compile(const struct Envoy__Config__Core__V3__Address *msg, struct addr *out,
                     struct errors *e) WARN_UNUSED;

/* address_compile_named the same where the address may be a host name: that, a view into the
 * message, and its port come instead of *out, which is then ADDR_NONE. */
bool address_compile_named(const struct Envoy__Config__Core__V3__Address *msg, struct addr *out,
                           struct str *name, uint16_t *port, struct errors *e) WARN_UNUSED;

/* address_compile_socket the same for a SocketAddress. */
bool address_compile_socket(const struct Envoy__Config__Core__V3__SocketAddress *msg,
                            struct addr *out, struct errors *e) WARN_UNUSED;
