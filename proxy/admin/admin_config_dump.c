#include "api-protos/field_path.h"
#include "api-protos/mapping.h"
#include "base/regex.h"
#include "google/protobuf/any.pb-c.h"
#include "proxy/admin/admin_dump.h"
#include "proxy/admin/admin_handler.h"

enum {
    SLICE = 256, /* elements looked at in one turn */
};

#define LISTS(...)                                                                                 \
    (const struct admin_dump_list[]){__VA_ARGS__},                                                 \
        sizeof((const struct admin_dump_list[]){__VA_ARGS__}) / sizeof(struct admin_dump_list)

#define CLUSTER "cluster", "envoy.config.cluster.v3.Cluster"
#define ENDPOINT "endpoint_config", "envoy.config.endpoint.v3.ClusterLoadAssignment"
#define LISTENER "listener", "envoy.config.listener.v3.Listener"
#define ROUTE "route_config", "envoy.config.route.v3.RouteConfiguration"
#define SECRET "secret", "envoy.extensions.transport_sockets.tls.v3.Secret"

/* In Envoy's order. */
const struct admin_dump_section admin_dump_sections[] = {
    {"envoy.admin.v3.BootstrapConfigDump", .whole = admin_dump_bootstrap},
    {"envoy.admin.v3.ClustersConfigDump",
     LISTS({"static_clusters", "StaticCluster", CLUSTER, admin_dump_static_clusters},
           {"dynamic_active_clusters", "DynamicCluster", CLUSTER, admin_dump_active_clusters},
           {"dynamic_warming_clusters", "DynamicCluster", CLUSTER, admin_dump_warming_clusters}),
     .version = admin_dump_cluster_version},
    {"envoy.admin.v3.EndpointsConfigDump",
     LISTS(
         {"static_endpoint_configs", "StaticEndpointConfig", ENDPOINT, admin_dump_static_endpoints},
         {"dynamic_endpoint_configs", "DynamicEndpointConfig", ENDPOINT,
          admin_dump_dynamic_endpoints}),
     .endpoints = true},
    {"envoy.admin.v3.ListenersConfigDump",
     LISTS({"static_listeners", "StaticListener", LISTENER, admin_dump_static_listeners},
           {"dynamic_listeners", "DynamicListener", NULL, NULL, admin_dump_dynamic_listeners}),
     .version = admin_dump_listener_version},
    {"envoy.admin.v3.ScopedRoutesConfigDump", NULL, 0},
    {"envoy.admin.v3.RoutesConfigDump",
     LISTS({"static_route_configs", "StaticRouteConfig", ROUTE, admin_dump_static_routes},
           {"dynamic_route_configs", "DynamicRouteConfig", ROUTE, admin_dump_dynamic_routes})},
    {"envoy.admin.v3.SecretsConfigDump",
     LISTS({"static_secrets", "StaticSecret", SECRET, admin_dump_static_secrets},
           {"dynamic_active_secrets", "DynamicSecret", SECRET, admin_dump_active_secrets},
           {"dynamic_warming_secrets", "DynamicSecret", SECRET, admin_dump_warming_secrets})},
};
const size_t admin_dump_num_sections = ARRAY_LEN(admin_dump_sections);

/* --- elements ----------------------------------------------------------------------------------
 */

static void put_type(struct json_writer *w, const char *message, const char *element)
{
    struct arena a;
    arena_init(&a, 0);
    json_key(w, STR("@type"));
    json_put_str(w, arena_printf(&a, "type.googleapis.com/%s%s%s", message, element ? "." : "",
                                 element ? element : ""));
    arena_cleanup(&a);
}

static void open_configs(struct admin_dump *d)
{
    if (d->configs_open)
        return;
    d->configs_open = true;
    json_key(&d->w, STR("configs"));
    json_open(&d->w, '[');
}

bool admin_dump_element(struct admin_dump *d, struct str name)
{
    const struct admin_dump_section *s = &admin_dump_sections[d->section];
    if (d->name && !regex_full(d->name, name))
        return false;
    open_configs(d);
    if (!d->resource.len && !d->list_open) {
        json_key(&d->w, str_of(s->lists[d->list].field));
        json_open(&d->w, '[');
    }
    d->list_open = true;
    bool masked = d->resource.len && d->mask.num;
    d->out = masked ? &d->masked : &d->w;
    json_open(d->out, '{');
    if (d->resource.len)
        put_type(d->out, s->message, s->lists[d->list].element);
    return true;
}

/* One more of this slice; false: it is full. */
static bool take_one(struct admin_dump *d)
{
    d->full = d->left == 0;
    if (d->full)
        return false;
    d->left--;
    return true;
}

bool admin_dump_source(struct admin_dump *d, struct str name)
{
    if (d->full || (d->last && str_cmp(name, str_of(d->last)) <= 0) || !take_one(d))
        return false;
    mem_free(d->last);
    d->last = mem_strndup(name.p, name.len);
    return true;
}

bool admin_dump_begin(struct admin_dump *d, struct str name)
{
    return admin_dump_source(d, name) && admin_dump_element(d, name);
}

bool admin_dump_begin_next(struct admin_dump *d, struct str name)
{
    if (d->full || d->at++ < d->next || !take_one(d))
        return false;
    d->next = d->at;
    return admin_dump_element(d, name);
}

/* Takes what was written apart, and writes what the mask leaves of it. */
static void apply_mask(struct admin_dump *d)
{
    struct json_error err;
    const struct json *tree = json_parse(json_writer_text(&d->masked), JSON_DUPLICATES_LAST,
                                         &d->scratch, &err);
    CHECK(tree && tree->type == JSON_OBJECT); /* json_writer wrote it */
    admin_mask_put(&d->w, tree, &d->mask, &d->scratch);
    json_writer_cleanup(&d->masked);
    json_writer_init(&d->masked, false);
}

void admin_dump_end(struct admin_dump *d)
{
    json_close(d->out, '}');
    if (d->out == &d->masked)
        apply_mask(d);
    d->out = NULL;
    arena_reset(&d->scratch);
}

void admin_dump_any(struct admin_dump *d, const char *key, const char *type_url, struct str bytes)
{
    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
    any.type_url = (char *)(uintptr_t)type_url;
    any.value = (ProtobufCBinaryData){bytes.len, (uint8_t *)(uintptr_t)bytes.p};
    struct json_writer before = *d->out;
    json_key(d->out, str_of(key));
    if (pb_to_json(any.base.descriptor, pb_pack(&any.base, &d->scratch), PB_JSON_REDACT, d->out))
        return;
    before.p = d->out->p; /* may have grown */
    before.cap = d->out->cap;
    *d->out = before;
}

void admin_dump_str(struct admin_dump *d, const char *key, struct str value)
{
    if (value.len == 0)
        return;
    json_key(d->out, str_of(key));
    json_put_str(d->out, value);
}

/* --- sections ----------------------------------------------------------------------------------
 */

static bool is_asked(const struct admin_dump *d, const struct admin_dump_section *s)
{
    if (s->endpoints && !d->include_eds)
        return false;
    for (size_t i = 0; !d->resource.len && i < d->mask.num; i++) {
        if (field_path_look(str_of(s->message), d->mask.paths[i]) == FIELD_PATH_UNKNOWN)
            return false;
    }
    return true;
}

/* Without `resource` a mask names fields of sections. */
static bool is_list_asked(const struct admin_dump *d, const char *field)
{
    if (d->resource.len)
        return str_eq(d->resource, str_of(field));
    for (size_t i = 0; i < d->mask.num; i++) {
        if (str_eq(d->mask.paths[i], str_of(field)))
            return true;
    }
    return d->mask.num == 0;
}

static void put_whole(struct admin_dump *d, const struct admin_dump_section *s)
{
    d->out = d->mask.num ? &d->masked : &d->w;
    json_open(d->out, '{');
    put_type(d->out, s->message, NULL);
    s->whole(d);
    admin_dump_end(d);
}

static void open_section(struct admin_dump *d, const struct admin_dump_section *s)
{
    d->section_open = true;
    if (d->resource.len)
        return;
    open_configs(d);
    json_open(&d->w, '{');
    put_type(&d->w, s->message, NULL);
    if (s->version && is_list_asked(d, "version_info")) {
        d->out = &d->w;
        admin_dump_str(d, "version_info", s->version(d));
    }
}

static void close_list(struct admin_dump *d)
{
    if (d->list_open && !d->resource.len)
        json_close(&d->w, ']');
    d->list_open = false;
    mem_free(d->last);
    d->last = NULL;
    d->next = 0;
    d->list++;
}

static void close_section(struct admin_dump *d)
{
    if (d->section_open && !d->resource.len)
        json_close(&d->w, '}');
    d->section_open = false;
    d->list = 0;
    d->section++;
}

/* Writes lists until the slice is full or the section is over; false: full. */
static bool run_lists(struct admin_dump *d, const struct admin_dump_section *s)
{
    while (d->list < s->num_lists) {
        if (is_list_asked(d, s->lists[d->list].field)) {
            d->at = 0;
            s->lists[d->list].each(d);
            map_cleanup(&d->names, NULL);
            arena_reset(&d->names_arena);
            if (d->full)
                return false;
        }
        close_list(d);
    }
    return true;
}

static bool run_slice(struct admin_dump *d)
{
    d->left = SLICE;
    d->full = false;
    for (; d->section < admin_dump_num_sections; close_section(d)) {
        const struct admin_dump_section *s = &admin_dump_sections[d->section];
        if (!is_asked(d, s))
            continue;
        if (s->whole) {
            if (!d->resource.len) {
                open_configs(d);
                put_whole(d, s);
            }
            continue;
        }
        if (!d->section_open)
            open_section(d, s);
        if (!run_lists(d, s))
            return true;
    }
    return false;
}

static bool more_dump(void *arg, struct buffer *out)
{
    struct admin_dump *d = arg;
    bool more = run_slice(d);
    if (!more) {
        if (d->configs_open)
            json_close(&d->w, ']');
        json_close(&d->w, '}');
    }
    buffer_add_str(out, json_writer_text(&d->w));
    if (!more)
        buffer_add_str(out, STR("\n"));
    d->w.len = 0;
    return more;
}

static void dump_done(void *arg)
{
    struct admin_dump *d = arg;
    regex_free(&d->name);
    mem_free(d->last);
    json_writer_cleanup(&d->w);
    json_writer_cleanup(&d->masked);
    map_cleanup(&d->names, NULL);
    arena_cleanup(&d->names_arena);
    arena_cleanup(&d->scratch);
    mem_free(d);
}

/* --- parameters --------------------------------------------------------------------------------
 */

static const struct admin_dump_list *find_list(const struct admin_dump *d,
                                               const struct admin_dump_section **section)
{
    for (size_t i = 0; i < admin_dump_num_sections; i++) {
        const struct admin_dump_section *s = &admin_dump_sections[i];
        *section = s;
        for (size_t j = 0; (d->include_eds || !s->endpoints) && j < s->num_lists; j++) {
            if (str_eq(d->resource, str_of(s->lists[j].field)))
                return &s->lists[j];
        }
    }
    return NULL;
}

static bool is_scalar(const struct admin_dump *d)
{
    for (size_t i = 0; i < admin_dump_num_sections; i++) {
        if (field_path_look(str_of(admin_dump_sections[i].message), d->resource) ==
            FIELD_PATH_SINGULAR)
            return true;
    }
    return false;
}

/* Whether a path names something in the elements of a list, whose Any is looked into. */
static bool is_in_element(const struct admin_dump_section *s, const struct admin_dump_list *l,
                          struct str path, struct arena *a)
{
    struct str rest = path, first;
    if (!str_next(&rest, '.', &first))
        return false;
    if (l->any && str_eq(first, str_of(l->any)))
        return first.len == path.len ||
               field_path_look(str_of(l->type), rest) != FIELD_PATH_UNKNOWN;
    struct str message = arena_printf(a, "%s.%s", s->message, l->element);
    return field_path_look(message, path) != FIELD_PATH_UNKNOWN;
}

static bool check_resource(const struct admin_request *rq, struct admin_response *rs,
                           const struct admin_dump *d, struct str mask)
{
    const struct admin_dump_section *s;
    const struct admin_dump_list *l = find_list(d, &s);
    if (!l && is_scalar(d)) {
        admin_error(rs, 400, "%.*s is not a repeated field. Use ?mask=%.*s to get only this field",
                    STR_ARG(d->resource), STR_ARG(d->resource));
        return false;
    }
    if (!l) {
        admin_error(rs, 404, "%.*s not found in config dump", STR_ARG(d->resource));
        return false;
    }
    for (size_t i = 0; i < d->mask.num; i++) {
        if (is_in_element(s, l, d->mask.paths[i], rq->arena))
            continue;
        admin_error(rs, 400, "FieldMask %.*s could not be successfully used.", STR_ARG(mask));
        return false;
    }
    return true;
}

static bool check_mask(struct admin_response *rs, const struct admin_dump *d, struct str mask)
{
    for (size_t i = 0; i < admin_dump_num_sections; i++) {
        if (is_asked(d, &admin_dump_sections[i]))
            return true;
    }
    admin_error(rs, 400, "FieldMask %.*s could not be successfully applied to any configs.",
                STR_ARG(mask));
    return false;
}

void admin_config_dump(const struct admin_request *rq, struct admin_response *rs)
{
    struct str pattern = STR_NULL, mask = STR_NULL, err;
    struct admin_dump want = {.server = rq->server, .include_eds = admin_flag(rq, "include_eds")};
    (void)admin_query_get(&rq->query, "resource", &want.resource);
    (void)admin_query_get(&rq->query, "mask", &mask);
    (void)admin_query_get(&rq->query, "name_regex", &pattern);
    want.mask = admin_mask_parse(mask, rq->arena);
    bool good = want.resource.len ? check_resource(rq, rs, &want, mask)
                                  : check_mask(rs, &want, mask);
    if (!good)
        return;
    if (!admin_regex(rq, "name_regex", &want.name, &err)) {
        admin_error(rs, 400, "Error while parsing name_regex from %.*s: %.*s", STR_ARG(pattern),
                    STR_ARG(err));
        return;
    }
    struct admin_dump *d = NEW(struct admin_dump);
    *d = want;
    json_writer_init(&d->w, true);
    json_writer_init(&d->masked, false);
    map_init(&d->names, false);
    arena_init(&d->names_arena, 0);
    arena_init(&d->scratch, 16384);
    json_open(&d->w, '{');
    rs->content_type = ADMIN_JSON;
    rs->more = more_dump;
    rs->done = dump_done;
    rs->arg = d;
}
