/* The virtual host of an authority: exact, then the longest suffix wildcard, then the longest
 * prefix wildcard, then "*" (RouteConfiguration.virtual_hosts). A lookup does not depend on how
 * many there are. Immutable once compiled. */
#pragma once

#include "base/errors.h"
#include "base/map.h"
#include "proxy/router/trie.h"

struct vhost;

struct vhost_index {
    struct map exact;     /* domain -> struct vhost */
    struct trie suffixes; /* "*.a.com" as ".a.com" */
    struct trie prefixes; /* "a.*" as "a." */
    bool has_suffix, has_prefix;
    struct vhost *any; /* "*" */
};

/* vhost_index_init makes an empty index of zeroed memory; vhost_index_cleanup gives back what is
 * not in the arena. */
void vhost_index_init(struct vhost_index *ix);
void vhost_index_cleanup(struct vhost_index *ix);

/* vhost_index_add files a virtual host under one of its domains. Main. */
void vhost_index_add(struct vhost_index *ix, struct arena *a, struct vhost *v, struct str domain,
                     struct errors *e);

/* vhost_index_only is the one of "*" where there is no other domain, else NULL. */
struct vhost *vhost_index_only(const struct vhost_index *ix);

/* vhost_index_find returns the virtual host of a name, or NULL. With ignore_port a port at its end
 * does not count. `a` is scratch. */
struct vhost *vhost_index_find(const struct vhost_index *ix, struct str name, bool ignore_port,
                               struct arena *a);
