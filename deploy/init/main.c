/* attache-init: what an init container runs so that a pod's connections go through its proxy. */
#include "deploy/init/apply.h"

#include <signal.h>
#include <stdio.h>

static void print_rules(const struct options *o, struct arena *a, bool ipv6)
{
    struct str v4 = rules_compose(o, a, RULES_IPV4, STR_NULL);

    printf("# IPv4\n%.*s", STR_ARG(v4));
    if (!ipv6)
        return;
    struct str v6 = rules_compose(o, a, RULES_IPV6, STR_NULL);
    printf("# IPv6\n%.*s", STR_ARG(v6));
}

/* Both families are checked before the first is changed. */
static bool apply(const struct options *o, struct arena *a, bool ipv6)
{
    int num_families = ipv6 ? 2 : 1;
    struct str text[2], saved;

    for (int family = 0; family < num_families; family++) {
        if (!apply_save(o, a, family, &saved))
            return false;
        text[family] = rules_compose(o, a, family, saved);
        if (!apply_restore(o, family, text[family], true))
            return false;
    }
    if (ipv6 && !apply_loopback6(true))
        return false;
    for (int family = 0; family < num_families; family++) {
        if (!apply_restore(o, family, text[family], false))
            return false;
    }
    return true;
}

static bool cleanup_family(const struct options *o, struct arena *a, enum rules_family family)
{
    struct str saved;

    if (!apply_save(o, a, family, &saved))
        return false;
    struct str text = rules_cleanup(a, saved);
    return text.len == 0 || apply_restore(o, family, text, false);
}

/* What an earlier run made need not be what the flags say now, so IPv6 is looked at unless it is
 * switched off; where it does not exist that is no failure. */
static bool cleanup(const struct options *o, struct arena *a, bool ipv6)
{
    bool ok = cleanup_family(o, a, RULES_IPV4);

    if (o->ipv6 == OPTION_IPV6_OFF)
        return ok;
    bool ok6 = cleanup_family(o, a, RULES_IPV6);
    ok6 = apply_loopback6(false) && ok6;
    return ok && (ok6 || !ipv6);
}

int main(int argc, char **argv)
{
    struct options o;
    struct arena a;
    bool ok = true;

    signal(SIGPIPE, SIG_IGN);
    arena_init(&a, 0);
    if (!options_parse(&o, &a, argc, argv)) {
        arena_cleanup(&a);
        return 2;
    }
    bool ipv6 = o.ipv6 == OPTION_IPV6_ON || (o.ipv6 == OPTION_IPV6_AUTO && apply_has_ipv6());
    switch (o.action) {
    case OPTION_HELP:
        options_usage();
        break;
    case OPTION_DRY_RUN:
        print_rules(&o, &a, ipv6);
        break;
    case OPTION_APPLY:
        ok = apply(&o, &a, ipv6);
        break;
    case OPTION_CLEANUP:
        ok = cleanup(&o, &a, ipv6);
        break;
    }
    arena_cleanup(&a);
    return ok && fflush(stdout) == 0 ? 0 : 1;
}
