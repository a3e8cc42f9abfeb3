#include "cluster/address.h"

#include "envoy/config/core/v3/address.pb-c.h"

static bool compile_port(const Envoy__Config__Core__V3__SocketAddress *msg, struct errors *e)
{
    if (msg->protocol != ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PROTOCOL__TCP) {
        errors_add(e, "protocol", "only TCP is supported");
        return false;
    }
    if (msg->port_specifier_case !=
        ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE) {
        errors_add(e, "port_value", "a port is required");
        return false;
    }
    if (msg->port_value > UINT16_MAX) {
        errors_add(e, "port_value", "%u is not a port", msg->port_value);
        return false;
    }
    return true;
}

bool address_compile_socket(const Envoy__Config__Core__V3__SocketAddress *msg, struct addr *out,
                            struct errors *e)
{
    if (!compile_port(msg, e))
        return false;
    if (!addr_parse_ip(str_of(msg->address), (uint16_t)msg->port_value, out)) {
        errors_add(e, "address", "malformed IP address: %s", msg->address);
        return false;
    }
    return true;
}

bool address_compile_named(const Envoy__Config__Core__V3__Address *msg, struct addr *out,
                           struct str *name, uint16_t *port, struct errors *e)
{
    const Envoy__Config__Core__V3__SocketAddress *sa;
    size_t mark;
    bool ok;

    *name = STR_NULL;
    if (!msg || msg->address_case != ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS) {
        errors_add(e, NULL, "a socket_address is required for this type of cluster");
        return false;
    }
    sa = msg->socket_address;
    mark = errors_push(e, "socket_address");
    ok = compile_port(sa, e);
    errors_pop(e, mark);
    if (!ok || addr_parse_ip(str_of(sa->address), (uint16_t)sa->port_value, out))
        return ok;
    *name = str_of(sa->address);
    *port = (uint16_t)sa->port_value;
    return true;
}

bool address_compile(const Envoy__Config__Core__V3__Address *msg, struct addr *out,
                     struct errors *e)
{
    size_t mark;
    bool ok = false;

    switch (msg ? msg->address_case : ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS__NOT_SET) {
    case ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS:
        mark = errors_push(e, "socket_address");
        ok = address_compile_socket(msg->socket_address, out, e);
        errors_pop(e, mark);
        return ok;
    case ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE:
        ok = addr_parse_pipe(str_of(msg->pipe->path), out);
        if (!ok)
            errors_add(e, "pipe.path", "not a path of 1 to %d bytes", ADDR_PIPE_MAX);
        return ok;
    default:
        errors_add(e, NULL, "an address is required");
        return false;
    }
}
