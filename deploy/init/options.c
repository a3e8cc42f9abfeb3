#include "deploy/init/options.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <getopt.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_ENV_NAME = 64 };

enum kind {
    KIND_PORT,
    KIND_PORTS,
    KIND_IDS,
    KIND_CIDRS,
    KIND_CIDR,
    KIND_INTERFACES,
    KIND_GROUPS,
    KIND_MODE,
    KIND_VARIANT,
    KIND_IPV6,
    KIND_BOOL,
    KIND_DRY_RUN,
    KIND_CLEANUP,
    KIND_ONLY_TRUE, /* a switch that can only be left on */
    KIND_REFUSED,   /* a switch that can only be left off */
    KIND_TEXT,      /* said to istio-iptables' own logger: nothing to do here */
};

struct flag {
    const char *name;
    char letter;
    enum kind kind;
    size_t offset; /* of the field in struct options */
    const char *help;
    const char *env; /* NULL: made from the name */
};

#define FIELD(member) offsetof(struct options, member)

static const struct flag flags[] = {
    {"envoy-port", 'p', KIND_PORT, FIELD(proxy_port), "port for outbound connections (15001)",
     NULL},
    {"inbound-capture-port", 'z', KIND_PORT, FIELD(inbound_port),
     "port for inbound connections (15006)", NULL},
    {"inbound-tunnel-port", 'e', KIND_PORT, FIELD(tunnel_port),
     "tunnel port, never captured (15008)", NULL},
    {"proxy-uid", 'u', KIND_IDS, FIELD(proxy_uids), "user ids of the proxy (1337)", NULL},
    {"proxy-gid", 'g', KIND_IDS, FIELD(proxy_gids), "group ids of the proxy (as the user ids)",
     NULL},
    {"istio-inbound-interception-mode", 'm', KIND_MODE, 0, "REDIRECT", NULL},
    {"istio-inbound-ports", 'b', KIND_PORTS, FIELD(inbound_ports), "inbound ports to capture, or *",
     NULL},
    {"istio-local-exclude-ports", 'd', KIND_PORTS, FIELD(inbound_ports_exclude),
     "inbound ports left alone when -b is *", NULL},
    {"istio-service-cidr", 'i', KIND_CIDRS, FIELD(outbound), "outbound networks to capture, or *",
     NULL},
    {"istio-service-exclude-cidr", 'x', KIND_CIDRS, FIELD(outbound_exclude),
     "outbound networks left alone", NULL},
    {"istio-outbound-ports", 'q', KIND_PORTS, FIELD(outbound_ports),
     "outbound ports captured whatever the network", NULL},
    {"istio-local-outbound-ports-exclude", 'o', KIND_PORTS, FIELD(outbound_ports_exclude),
     "outbound ports left alone", NULL},
    {"kube-virt-interfaces", 'k', KIND_INTERFACES, FIELD(virtual_interfaces),
     "interfaces of virtual machines: what comes from them is outbound", NULL},
    {"istio-exclude-interfaces", 'c', KIND_INTERFACES, FIELD(exclude_interfaces),
     "interfaces left alone", NULL},
    {"owner-groups", 0, KIND_GROUPS, FIELD(owner_groups),
     "groups whose outbound connections are captured (*)", "ISTIO_OUTBOUND_OWNER_GROUPS"},
    {"owner-groups-exclude", 0, KIND_GROUPS, FIELD(owner_groups_exclude),
     "groups whose outbound connections are left alone", "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE"},
    {"host-ipv4-loopback-cidr", 0, KIND_CIDR, FIELD(loopback),
     "what counts as this host (127.0.0.1/32)", NULL},
    {"drop-invalid", 0, KIND_BOOL, FIELD(drop_invalid),
     "drop packets that connection tracking finds invalid", "INVALID_DROP"},
    {"ipv6", 0, KIND_IPV6, FIELD(ipv6), "auto (when there is a global address), on, off", NULL},
    {"iptables-version", 0, KIND_VARIANT, FIELD(variant), "legacy or nft (the system's default)",
     NULL},
    {"dry-run", 'n', KIND_DRY_RUN, 0, "print the rules and change nothing", NULL},
    {"cleanup", 0, KIND_CLEANUP, 0, "remove everything that was made", NULL},
    {"cleanup-only", 0, KIND_CLEANUP, 0, "the same", NULL},
    {"restore-format", 'f', KIND_ONLY_TRUE, 0, "rules are always in iptables-restore's format",
     NULL},
    {"force-apply", 0, KIND_BOOL, SIZE_MAX, "accepted: rules are always made anew", NULL},
    {"reconcile", 0, KIND_BOOL, SIZE_MAX, "accepted: rules are always made anew", NULL},
    {"dual-stack", 0, KIND_BOOL, SIZE_MAX, "accepted: --ipv6 decides", "ISTIO_AGENT_DUAL_STACK"},
    {"redirect-dns", 0, KIND_REFUSED, 0, "not implemented, refused", "ISTIO_META_DNS_CAPTURE"},
    {"capture-all-dns", 0, KIND_REFUSED, 0, "not implemented, refused", NULL},
    {"run-validation", 0, KIND_REFUSED, 0, "not implemented, refused", NULL},
    {"skip-rule-apply", 0, KIND_REFUSED, 0, "not implemented, refused", NULL},
    {"native-nftables", 0, KIND_REFUSED, 0, "not implemented, refused", NULL},
    {"log_output_level", 0, KIND_TEXT, 0, "accepted: there is nothing to tune", "-"},
    {"log_as_json", 0, KIND_BOOL, SIZE_MAX, "accepted: there is nothing to tune", "-"},
};

static bool refuse(const char *name, const char *value, const char *why)
{
    fprintf(stderr, "attache-init: --%s=%s: %s\n", name, value, why);
    return false;
}

static bool split(struct arena *a, struct option_list *out, const char *value)
{
    struct str rest = str_of(value), token;
    *out = (struct option_list){.items = arena_alloc(a, (rest.len + 1) * sizeof(struct str))};
    while (str_next(&rest, ',', &token)) {
        token = str_trim(token);
        if (token.len == 0)
            continue;
        if (str_eq(token, STR("*")))
            out->all = true;
        else
            out->items[out->num_items++] = token;
    }
    return !out->all || out->num_items == 0;
}

static bool parse_number(struct str text, uint64_t min, uint64_t max, uint64_t *out)
{
    return str_to_u64(text, out) && *out >= min && *out <= max;
}

static bool parse_ports(struct arena *a, struct option_list *out, const struct flag *f,
                        const char *value)
{
    uint64_t port;

    if (!split(a, out, value))
        return refuse(f->name, value, "* stands alone");
    if (out->all && f->letter != 'b')
        return refuse(f->name, value, "* is not possible here");
    for (size_t i = 0; i < out->num_items; i++) {
        if (!parse_number(out->items[i], 1, UINT16_MAX, &port))
            return refuse(f->name, value, "a port is a number from 1 to 65535");
    }
    return true;
}

static bool parse_ids(struct arena *a, struct option_list *out, const struct flag *f,
                      const char *value)
{
    uint64_t id;

    /* UINT32_MAX is the kernel's "no id". */
    if (!split(a, out, value) || out->all)
        return refuse(f->name, value, "an id is a number");
    for (size_t i = 0; i < out->num_items; i++) {
        if (!parse_number(out->items[i], 0, UINT32_MAX - 1, &id))
            return refuse(f->name, value, "an id is a number below 4294967295");
    }
    if (out->num_items == 0)
        return refuse(f->name, value, "at least one id is needed, or the proxy captures itself");
    return true;
}

/* A network is an address and the length of its prefix; bits behind the prefix may be set. */
static bool parse_cidr(struct option_cidr *out, struct str text)
{
    char address[INET6_ADDRSTRLEN];
    unsigned char bytes[sizeof(struct in6_addr)];
    ptrdiff_t slash = str_chr(text, '/');
    uint64_t prefix;

    if (slash <= 0 || (size_t)slash >= sizeof(address))
        return false;
    memcpy(address, text.p, (size_t)slash);
    address[slash] = 0;
    *out = (struct option_cidr){.text = text};
    if (inet_pton(AF_INET, address, bytes) == 1) {
        out->loopback = bytes[0] == 127;
    } else if (inet_pton(AF_INET6, address, bytes) == 1) {
        out->ipv6 = true;
        out->loopback = memcmp(bytes, &in6addr_loopback, sizeof(bytes)) == 0;
    } else {
        return false;
    }
    return parse_number(str_n(text.p + slash + 1, text.len - (size_t)slash - 1), 0,
                        out->ipv6 ? 128 : 32, &prefix);
}

static bool parse_cidrs(struct arena *a, struct option_cidrs *out, const struct flag *f,
                        const char *value)
{
    struct option_list texts;

    if (!split(a, &texts, value))
        return refuse(f->name, value, "* stands alone");
    if (texts.all && f->letter != 'i')
        return refuse(f->name, value, "* is not possible here");
    *out = (struct option_cidrs){
        .items = arena_alloc(a, (texts.num_items + 1) * sizeof(struct option_cidr)),
        .num_items = texts.num_items,
        .all = texts.all,
    };
    for (size_t i = 0; i < texts.num_items; i++) {
        if (!parse_cidr(&out->items[i], texts.items[i]))
            return refuse(f->name, value, "a network is written as 10.0.0.0/8 or 2001:db8::/32");
    }
    return true;
}

static bool parse_loopback(struct option_cidr *out, const struct flag *f, const char *value)
{
    if (!parse_cidr(out, str_of(value)) || out->ipv6 || !out->loopback)
        return refuse(f->name, value, "a network within 127.0.0.0/8 is needed");
    return true;
}

static bool is_name(struct str s, const char *also)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!isalnum((unsigned char)s.p[i]) && (!strchr(also, s.p[i]) || s.p[i] == 0))
            return false;
    }
    return s.len > 0 && s.p[0] != '-';
}

static bool parse_interfaces(struct arena *a, struct option_list *out, const struct flag *f,
                             const char *value)
{
    if (!split(a, out, value) || out->all)
        return refuse(f->name, value, "* is not possible here");
    for (size_t i = 0; i < out->num_items; i++) {
        if (out->items[i].len >= IFNAMSIZ || !is_name(out->items[i], "-_.:@+"))
            return refuse(f->name, value, "this is not the name of an interface");
    }
    return true;
}

/* The owner match takes a bounded number of groups in one rule; istio-iptables stops at 64 too. */
static bool parse_groups(struct arena *a, struct option_list *out, const struct flag *f,
                         const char *value)
{
    enum { MAX_GROUPS = 64 };

    if (!split(a, out, value))
        return refuse(f->name, value, "* stands alone");
    if (out->num_items > MAX_GROUPS)
        return refuse(f->name, value, "at most 64 groups are possible");
    for (size_t i = 0; i < out->num_items; i++) {
        if (!is_name(out->items[i], "-_."))
            return refuse(f->name, value, "this is not the name or number of a group");
    }
    return true;
}

static bool parse_bool(const struct flag *f, const char *value, bool *out)
{
    *out = strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
    if (*out || strcmp(value, "false") == 0 || strcmp(value, "0") == 0)
        return true;
    return refuse(f->name, value, "true or false is needed");
}

static bool parse_mode(const struct flag *f, const char *value)
{
    if (strcmp(value, "REDIRECT") == 0 || value[0] == 0)
        return true;
    if (strcmp(value, "TPROXY") == 0)
        return refuse(f->name, value, "TPROXY is not implemented; REDIRECT is");
    return refuse(f->name, value, "REDIRECT is needed");
}

static bool parse_ipv6(enum option_ipv6 *out, const struct flag *f, const char *value)
{
    if (strcmp(value, "auto") == 0)
        *out = OPTION_IPV6_AUTO;
    else if (strcmp(value, "on") == 0 || strcmp(value, "true") == 0)
        *out = OPTION_IPV6_ON;
    else if (strcmp(value, "off") == 0 || strcmp(value, "false") == 0)
        *out = OPTION_IPV6_OFF;
    else
        return refuse(f->name, value, "auto, on or off is needed");
    return true;
}

static bool parse_switch(struct options *o, const struct flag *f, const char *value)
{
    bool on;

    if (!parse_bool(f, value, &on))
        return false;
    switch (f->kind) {
    case KIND_BOOL:
        if (f->offset != SIZE_MAX)
            *(bool *)(void *)((char *)o + f->offset) = on;
        return true;
    case KIND_DRY_RUN:
        if (on)
            o->action = OPTION_DRY_RUN;
        return true;
    case KIND_CLEANUP:
        if (on && o->action != OPTION_DRY_RUN)
            o->action = OPTION_CLEANUP;
        return true;
    case KIND_ONLY_TRUE:
        return on || refuse(f->name, value, "only true is implemented");
    default:
        return !on || refuse(f->name, value, "not implemented");
    }
}

static bool parse_flag(struct options *o, struct arena *a, const struct flag *f, const char *value)
{
    void *field = (char *)o + (f->offset == SIZE_MAX ? 0 : f->offset);
    uint64_t port;

    switch (f->kind) {
    case KIND_PORT:
        if (!parse_number(str_of(value), 1, UINT16_MAX, &port))
            return refuse(f->name, value, "a port is a number from 1 to 65535");
        *(uint16_t *)field = (uint16_t)port;
        return true;
    case KIND_PORTS:
        return parse_ports(a, field, f, value);
    case KIND_IDS:
        return parse_ids(a, field, f, value);
    case KIND_CIDRS:
        return parse_cidrs(a, field, f, value);
    case KIND_CIDR:
        return parse_loopback(field, f, value);
    case KIND_INTERFACES:
        return parse_interfaces(a, field, f, value);
    case KIND_GROUPS:
        return parse_groups(a, field, f, value);
    case KIND_MODE:
        return parse_mode(f, value);
    case KIND_IPV6:
        return parse_ipv6(field, f, value);
    case KIND_VARIANT:
        if (strcmp(value, "legacy") != 0 && strcmp(value, "nft") != 0)
            return refuse(f->name, value, "legacy or nft is needed");
        *(const char **)field = value;
        return true;
    case KIND_TEXT:
        return true;
    case KIND_BOOL:
    case KIND_DRY_RUN:
    case KIND_CLEANUP:
    case KIND_ONLY_TRUE:
    case KIND_REFUSED:
        return parse_switch(o, f, value);
    }
    return false;
}

static bool is_switch(enum kind kind)
{
    return kind == KIND_BOOL || kind == KIND_DRY_RUN || kind == KIND_CLEANUP ||
           kind == KIND_ONLY_TRUE || kind == KIND_REFUSED;
}

static const char *from_environment(const struct flag *f)
{
    char name[MAX_ENV_NAME];
    size_t i;

    if (f->env)
        return f->env[0] == '-' ? NULL : getenv(f->env);
    for (i = 0; f->name[i] && i + 1 < sizeof(name); i++)
        name[i] = f->name[i] == '-' ? '_' : (char)toupper((unsigned char)f->name[i]);
    name[i] = 0;
    return getenv(name);
}

static bool parse_environment(struct options *o, struct arena *a)
{
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        const char *value = from_environment(&flags[i]);
        if (value && value[0] && !parse_flag(o, a, &flags[i], value))
            return false;
    }
    return true;
}

static void getopt_tables(struct option *long_options, char *letters)
{
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        int argument = is_switch(flags[i].kind) ? optional_argument : required_argument;
        long_options[i] = (struct option){flags[i].name, argument, NULL, (int)i + 256};
        if (!flags[i].letter)
            continue;
        letters[n++] = flags[i].letter;
        if (argument == required_argument)
            letters[n++] = ':';
    }
    long_options[ARRAY_LEN(flags)] = (struct option){"help", no_argument, NULL, 'h'};
    long_options[ARRAY_LEN(flags) + 1] = (struct option){NULL, 0, NULL, 0};
    letters[n++] = 'h';
    letters[n] = 0;
}

static const struct flag *find_flag(int code)
{
    if (code >= 256)
        return &flags[code - 256];
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        if (flags[i].letter == code)
            return &flags[i];
    }
    return NULL;
}

static bool parse_command_line(struct options *o, struct arena *a, int argc, char **argv)
{
    struct option long_options[ARRAY_LEN(flags) + 2];
    char letters[2 * ARRAY_LEN(flags) + 2];
    int code;

    getopt_tables(long_options, letters);
    optind = 1;
    while ((code = getopt_long(argc, argv, letters, long_options, NULL)) != -1) {
        if (code == 'h') {
            o->action = OPTION_HELP;
            return true;
        }
        const struct flag *f = find_flag(code);
        if (!f)
            return false; /* getopt_long has said which */
        if (!parse_flag(o, a, f, optarg ? optarg : "true"))
            return false;
    }
    if (optind < argc) {
        fprintf(stderr, "attache-init: '%s' is not a flag\n", argv[optind]);
        return false;
    }
    return true;
}

bool options_parse(struct options *o, struct arena *a, int argc, char **argv)
{
    *o = (struct options){
        .proxy_port = 15001,
        .inbound_port = 15006,
        .tunnel_port = 15008,
        .owner_groups = {.all = true},
        .loopback = {.text = STR("127.0.0.1/32"), .loopback = true},
    };
    if (!parse_environment(o, a) || !parse_command_line(o, a, argc, argv))
        return false;
    if (o->owner_groups_exclude.all ||
        (o->owner_groups_exclude.num_items > 0 && !o->owner_groups.all)) {
        fprintf(stderr, "attache-init: either owner groups or excluded owner groups, not both\n");
        return false;
    }
    if (o->proxy_uids.num_items == 0)
        CHECK(split(a, &o->proxy_uids, "1337"));
    if (o->proxy_gids.num_items == 0)
        o->proxy_gids = o->proxy_uids;
    return true;
}

void options_usage(void)
{
    printf("attache-init: redirects a pod's TCP connections to its proxy with iptables.\n\n");
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        char letter[8] = "    ";
        if (flags[i].letter)
            snprintf(letter, sizeof(letter), "-%c, ", flags[i].letter);
        printf("  %s--%-36s %s\n", letter, flags[i].name, flags[i].help);
    }
}
