/* core.v3.SocketOption: options that the configuration sets on a listener's sockets as they are.
 * Compiled on main, immutable. */
#pragma once

#include "base/arena.h"
#include "base/errors.h"

struct Envoy__Config__Core__V3__SocketOption;

/* When an option is set. */
enum socket_state { SOCKET_PREBIND, SOCKET_BOUND, SOCKET_LISTENING };

struct socket_option {
    int level, name;
    enum socket_state state;
    int number;       /* the value, unless there are bytes */
    struct str bytes; /* p NULL: none */
};

struct socket_options {
    struct socket_option *v;
    size_t num;
};

/* socket_options_compile compiles n messages into the arena; those for datagram sockets alone are
 * left out. Errors are below `field`. Main. */
struct socket_options
socket_options_compile(struct arena *a, struct Envoy__Config__Core__V3__SocketOption *const *msgs,
                       size_t n, const char *field, struct errors *e);

/* socket_options_apply sets those of one state on fd; 0, or the errno of the first that failed. */
int socket_options_apply(const struct socket_options *o, int fd, enum socket_state state);

/* socket_options_eq says whether two lists set the same. */
bool socket_options_eq(const struct socket_options *a, const struct socket_options *b);
