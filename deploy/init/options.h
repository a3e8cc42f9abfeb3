/* The command line of attache-init: istio-iptables' flags, each also readable from the environment
 * variable of the same name (`--proxy-uid` is PROXY_UID), checked and cut into lists. A flag of
 * istio-iptables that is not implemented is refused, never ignored. */
#pragma once

#include "base/arena.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

/* A comma-separated list, or `all` for "*". */
struct option_list {
    struct str *items;
    size_t num_items;
    bool all;
};

/* A network: `text` as it was written, for iptables to read. */
struct option_cidr {
    struct str text;
    bool ipv6;
    bool loopback;
};

struct option_cidrs {
    struct option_cidr *items;
    size_t num_items;
    bool all;
};

enum option_ipv6 {
    OPTION_IPV6_AUTO, /* when an interface has a global IPv6 address */
    OPTION_IPV6_ON,
    OPTION_IPV6_OFF,
};

enum option_action {
    OPTION_APPLY,
    OPTION_DRY_RUN,
    OPTION_CLEANUP,
    OPTION_HELP,
};

struct options {
    enum option_action action;
    enum option_ipv6 ipv6;
    uint16_t proxy_port;   /* -p: where outbound connections go */
    uint16_t inbound_port; /* -z */
    uint16_t tunnel_port;  /* -e: never captured */
    struct option_list proxy_uids, proxy_gids;
    struct option_list inbound_ports, inbound_ports_exclude;
    struct option_list outbound_ports, outbound_ports_exclude;
    struct option_cidrs outbound, outbound_exclude;
    struct option_list virtual_interfaces, exclude_interfaces;
    struct option_list owner_groups, owner_groups_exclude;
    struct option_cidr loopback; /* what stays on the host: 127.0.0.1/32 */
    bool drop_invalid;
    const char *variant; /* NULL, "legacy" or "nft" */
};

/* options_parse reads the command line and the environment into *o. On a mistake it prints one line
 * to stderr and returns false. Lists live in the arena, strings in argv and the environment. */
bool options_parse(struct options *o, struct arena *a, int argc, char **argv) WARN_UNUSED;

/* options_usage prints the flags to stdout. */
void options_usage(void);
