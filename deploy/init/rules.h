/* The rules that redirect a pod's connections, as text for iptables-restore. Two programs: what
 * one address family's tables shall hold, and what of ours they hold now and must lose first. */
#pragma once

#include "deploy/init/options.h"

enum rules_family { RULES_IPV4, RULES_IPV6 };

/* rules_compose returns the input for `iptables-restore --noflush` that brings the tables of one
 * family from `saved` (the output of iptables-save; empty: nothing there) to what the options ask
 * for. Rules and chains that others made are not touched. NUL-terminated, in the arena. */
struct str rules_compose(const struct options *o, struct arena *a, enum rules_family family,
                         struct str saved);

/* rules_cleanup returns the input that removes everything of ours; empty when there is nothing. */
struct str rules_cleanup(struct arena *a, struct str saved);
