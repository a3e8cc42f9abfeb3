/* Runs iptables-save and iptables-restore and keeps the loopback address that IPv6 needs. Every
 * child is killed after a minute. */
#pragma once

#include "deploy/init/rules.h"

/* apply_has_ipv6 says whether an interface of this network namespace has a global IPv6 address. */
bool apply_has_ipv6(void) WARN_UNUSED;

/* apply_save returns the family's tables as iptables-save prints them, in the arena. False, with a
 * line on stderr, when it cannot be run or fails. */
bool apply_save(const struct options *o, struct arena *a, enum rules_family family,
                struct str *out) WARN_UNUSED;

/* apply_restore feeds `text` to iptables-restore --noflush, which takes all of a table or nothing.
 * With `test` it is only checked. False, with a line on stderr, when it was refused. */
bool apply_restore(const struct options *o, enum rules_family family, struct str text,
                   bool test) WARN_UNUSED;

/* apply_loopback6 adds ::6/128 to lo (or removes it): from there the proxy speaks to the
 * application over IPv6. Doing it twice is fine. False, with a line on stderr, on failure. */
bool apply_loopback6(bool add) WARN_UNUSED;
