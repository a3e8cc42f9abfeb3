/* /config_dump: envoy.admin.v3.ConfigDump, written in slices: sections (Bootstrap, Clusters, ...),
 * each with lists of elements (static_clusters, ...), each element from one resource. The driver is
 * admin_config_dump.c, the lists are admin_dump_lists.c's and admin_dump_endpoints.c's. Main
 * thread. */
#pragma once

#include "base/json.h"
#include "base/map.h"

struct admin_dump;
struct regex;
struct server;

/* One repeated field of a section. */
struct admin_dump_list {
    const char *field;   /* "static_clusters" */
    const char *element; /* "StaticCluster": the message inside the section's */
    const char *any;     /* "cluster": its field that is an Any, */
    const char *type;    /* of this message */
    /* each offers every element to admin_dump_begin, always in the same order. */
    void (*each)(struct admin_dump *d);
};

struct admin_dump_section {
    const char *message; /* "envoy.admin.v3.ClustersConfigDump" */
    const struct admin_dump_list *lists;
    size_t num_lists;
    bool endpoints;                                    /* only with include_eds */
    struct str (*version)(const struct admin_dump *d); /* version_info, or NULL */
    void (*whole)(struct admin_dump *d);               /* no lists: writes its members */
};

struct admin_mask {
    struct str *paths;
    size_t num; /* 0: everything */
};

struct admin_dump {
    struct server *server;
    bool include_eds;
    struct regex *name;  /* NULL: all */
    struct str resource; /* empty: all lists, in their sections */
    struct admin_mask mask;
    struct arena scratch;      /* of one element */
    struct json_writer w;      /* what is written */
    struct json_writer masked; /* an element before the mask is applied */
    struct json_writer *out;   /* one of the two: where the present element goes */
    /* where the next slice goes on */
    size_t section, list;
    bool configs_open, section_open, list_open;
    char *last;  /* what was looked at last in this list; NULL: nothing yet */
    size_t next; /* the same for lists in an order of their own: its index, and one more */
    /* this slice */
    size_t at;   /* index of the element on offer */
    size_t left; /* elements that may still be looked at */
    bool full;
    struct map names; /* scratch of a list: name to what belongs to it */
    struct arena names_arena;
};

extern const struct admin_dump_section admin_dump_sections[];
extern const size_t admin_dump_num_sections;

/* admin_dump_begin offers the element of a name: true if it is to be written now, by admin_dump_any
 * and its like, until admin_dump_end. Elements come in the order of their names. It is
 * admin_dump_source, whether what has this name is to be looked at in this slice, and
 * admin_dump_element, any number of which may come from one source. */
bool admin_dump_begin(struct admin_dump *d, struct str name);
bool admin_dump_source(struct admin_dump *d, struct str name);
bool admin_dump_element(struct admin_dump *d, struct str name);

/* admin_dump_begin_next is admin_dump_begin for a list in another order, which is the same in every
 * slice. */
bool admin_dump_begin_next(struct admin_dump *d, struct str name);
void admin_dump_end(struct admin_dump *d);

/* admin_dump_any writes a member of the type Any, secrets redacted; nothing if the bytes are
 * malformed. */
void admin_dump_any(struct admin_dump *d, const char *key, const char *type_url, struct str bytes);

/* admin_dump_str writes a text member, unless it is empty. */
void admin_dump_str(struct admin_dump *d, const char *key, struct str value);

/* admin_mask_parse cuts "a.b,c" into paths, which live in the arena. */
struct admin_mask admin_mask_parse(struct str text, struct arena *a);

/* admin_mask_put writes the members of an object that the mask names; "@type" always. */
void admin_mask_put(struct json_writer *w, const struct json *object, const struct admin_mask *mask,
                    struct arena *a);

/* The lists (admin_dump_lists.c, admin_dump_endpoints.c). */
struct str admin_dump_cluster_version(const struct admin_dump *d);
struct str admin_dump_listener_version(const struct admin_dump *d);
void admin_dump_bootstrap(struct admin_dump *d);
void admin_dump_static_clusters(struct admin_dump *d);
void admin_dump_active_clusters(struct admin_dump *d);
void admin_dump_warming_clusters(struct admin_dump *d);
void admin_dump_static_endpoints(struct admin_dump *d);
void admin_dump_dynamic_endpoints(struct admin_dump *d);
void admin_dump_static_listeners(struct admin_dump *d);
void admin_dump_dynamic_listeners(struct admin_dump *d);
void admin_dump_static_routes(struct admin_dump *d);
void admin_dump_dynamic_routes(struct admin_dump *d);
void admin_dump_static_secrets(struct admin_dump *d);
void admin_dump_active_secrets(struct admin_dump *d);
void admin_dump_warming_secrets(struct admin_dump *d);
