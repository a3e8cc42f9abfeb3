#include "proxy/bootstrap.h"

#include "api-protos/mapping.h"
#include "api-protos/wkt.h"
#include "base/json.h"
#include "base/stats_tags.h"
#include "base/yaml.h"
#include "proxy/router/matchers.h"
#include "proxy/version.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FILE = 256 << 20 };

static const ProtobufCMessageDescriptor *const type =
    &envoy__config__bootstrap__v3__bootstrap__descriptor;

/* --- reading --- */

static bool read_file(const char *path, struct arena *a, struct str *out, struct errors *e)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        errors_add(e, NULL, "%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > MAX_FILE) {
        errors_add(e, NULL, "%s: not a regular file of at most %d MiB", path, MAX_FILE >> 20);
        close(fd);
        return false;
    }
    char *p = arena_bytes(a, (size_t)st.st_size + 1);
    size_t n = 0;
    ssize_t r;
    while (n < (size_t)st.st_size && (r = read(fd, p + n, (size_t)st.st_size - n)) > 0)
        n += (size_t)r;
    close(fd);
    p[n] = '\0';
    *out = str_n(p, n);
    return true;
}

static bool text_to_wire(struct str text, bool yaml, const char *what, struct arena *a,
                         const struct pb_opts *opts, struct errors *e, struct str *out)
{
    struct json_error why;
    const struct json *tree = yaml ? yaml_parse(text, a, &why)
                                   : json_parse(text, JSON_TRAILING_COMMAS, a, &why);
    if (!tree) {
        errors_add(e, NULL, "%s: line %u: %s", what, (unsigned)why.line, why.text);
        return false;
    }
    return pb_json_to_wire(type, tree, a, e, opts, out);
}

static bool file_to_wire(const char *path, struct arena *a, const struct pb_opts *opts,
                         struct errors *e, struct str *out)
{
    struct str name = str_of(path), text;
    if (!read_file(path, a, &text, e))
        return false;
    if (str_ends(name, STR(".pb"))) {
        *out = text;
        return true;
    }
    if (str_ends(name, STR(".json")))
        return text_to_wire(text, false, path, a, opts, e, out);
    if (str_ends(name, STR(".yaml")) || str_ends(name, STR(".yml")))
        return text_to_wire(text, true, path, a, opts, e, out);
    errors_add(e, NULL, "%s: the name must end in .json, .yaml, .yml or .pb", path);
    return false;
}

/* --- node --- */

static struct str make_node(struct bootstrap *b, const struct options *o, struct arena *a)
{
    Envoy__Config__Core__V3__Node node;
    Envoy__Config__Core__V3__Locality locality;
    envoy__config__core__v3__node__init(&node);
    envoy__config__core__v3__locality__init(&locality);
    if (b->msg->node)
        node = *b->msg->node;
    if (!node.id[0] && o->service_node)
        node.id = (char *)(uintptr_t)o->service_node;
    if (!node.cluster[0] && o->service_cluster)
        node.cluster = (char *)(uintptr_t)o->service_cluster;
    b->node_cluster = arena_str(a, str_of(node.cluster));
    if (!node.locality && o->service_zone) {
        locality.zone = (char *)(uintptr_t)o->service_zone;
        node.locality = &locality;
    }
    node.user_agent_name = (char *)"attache";
    node.user_agent_version_type_case =
        ENVOY__CONFIG__CORE__V3__NODE__USER_AGENT_VERSION_TYPE_USER_AGENT_VERSION;
    node.user_agent_version = (char *)ATTACHE_VERSION;
    return pb_pack(&node.base, a);
}

/* --- load --- */

struct bootstrap *bootstrap_load(const struct options *o, struct errors *e)
{
    struct bootstrap *b = NEW(struct bootstrap);
    struct str file = STR_NULL, yaml = STR_NULL;
    struct timespec now;
    arena_init(&b->arena, 65536);
    struct pb_opts opts = {.reject_unknown = !o->allow_unknown_static,
                           .strict = o->strict_fields,
                           .counts = &b->counts};
    bool ok = !o->config_path || file_to_wire(o->config_path, &b->arena, &opts, e, &file);
    if (ok && o->config_yaml)
        ok = text_to_wire(str_of(o->config_yaml), true, "--config-yaml", &b->arena, &opts, e,
                          &yaml);
    if (ok) {
        /* Two serialized messages one after the other are their merge: the later one wins, lists
         * grow. */
        char *p = arena_bytes(&b->arena, file.len + yaml.len + 1);
        if (file.len)
            memcpy(p, file.p, file.len);
        if (yaml.len)
            memcpy(p + file.len, yaml.p, yaml.len);
        b->bytes = str_n(p, file.len + yaml.len);
        b->msg = PB_UNPACK(Envoy__Config__Bootstrap__V3__Bootstrap,
                           envoy__config__bootstrap__v3__bootstrap, b->bytes, &b->arena, e, &opts);
    }
    if (!b->msg) {
        bootstrap_free(&b);
        return NULL;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    b->loaded_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    b->node = make_node(b, o, &b->arena);
    return b;
}

void bootstrap_free(struct bootstrap **bp)
{
    struct bootstrap *b = *bp;
    if (!b)
        return;
    *bp = NULL;
    arena_cleanup(&b->arena);
    mem_free(b);
}

/* --- stats_config --- */

/* Lives as long as the process: the matcher is asked whenever stats are printed. */
static struct {
    struct arena arena;
    struct regex_list regexes;
    struct string_match *v;
    size_t n;
    bool inclusive;
} matcher;

static bool reject_all(void *arg, struct str name)
{
    return false;
}

static bool accept_name(void *arg, struct str name)
{
    for (size_t i = 0; i < matcher.n; i++) {
        if (string_match(&matcher.v[i], name))
            return matcher.inclusive;
    }
    return !matcher.inclusive;
}

static void set_matcher(const Envoy__Type__Matcher__V3__ListStringMatcher *list, bool inclusive,
                        const char *field, struct errors *e)
{
    arena_init(&matcher.arena, 0);
    matcher.inclusive = inclusive;
    matcher.n = list->n_patterns;
    matcher.v = arena_zalloc(&matcher.arena, (matcher.n + 1) * sizeof(*matcher.v));
    size_t outer = errors_push(e, field);
    for (size_t i = 0; i < matcher.n; i++) {
        size_t mark = errors_push_index(e, "patterns", i);
        (void)string_match_compile(&matcher.v[i], &matcher.regexes, &matcher.arena,
                                   list->patterns[i], e);
        errors_pop(e, mark);
    }
    errors_pop(e, outer);
    if (errors_ok(e))
        stats_set_matcher(accept_name, NULL);
}

static void set_tags(const Envoy__Config__Metrics__V3__StatsConfig *m, struct errors *e)
{
    struct arena a;
    arena_init(&a, 0);
    if (m->use_all_default_tags && !m->use_all_default_tags->value)
        stats_tags_use_defaults(false);
    for (size_t i = 0; i < m->n_stats_tags; i++) {
        const Envoy__Config__Metrics__V3__TagSpecifier *t = m->stats_tags[i];
        size_t mark = errors_push_index(e, "stats_tags", i);
        struct str why;
        if (t->tag_value_case == ENVOY__CONFIG__METRICS__V3__TAG_SPECIFIER__TAG_VALUE_FIXED_VALUE)
            stats_tags_add_fixed(str_of(t->tag_name), str_of(t->fixed_value));
        else if (t->tag_value_case == ENVOY__CONFIG__METRICS__V3__TAG_SPECIFIER__TAG_VALUE_REGEX &&
                 !stats_tags_add_pattern(str_of(t->tag_name), str_of(t->regex), &a, &why))
            errors_add(e, "regex", "%.*s", STR_ARG(why));
        errors_pop(e, mark);
    }
    arena_cleanup(&a);
}

bool bootstrap_stats(const struct bootstrap *b, struct errors *e)
{
    const Envoy__Config__Metrics__V3__StatsConfig *m = b->msg->stats_config;
    if (!m)
        return true;
    size_t before = e->num_errors;
    size_t mark = errors_push(e, "stats_config");
    set_tags(m, e);
    if (m->stats_matcher) {
        size_t inner = errors_push(e, "stats_matcher");
        const Envoy__Config__Metrics__V3__StatsMatcher *sm = m->stats_matcher;
        switch (sm->stats_matcher_case) {
        case ENVOY__CONFIG__METRICS__V3__STATS_MATCHER__STATS_MATCHER_REJECT_ALL:
            if (sm->reject_all)
                stats_set_matcher(reject_all, NULL);
            break;
        case ENVOY__CONFIG__METRICS__V3__STATS_MATCHER__STATS_MATCHER_INCLUSION_LIST:
            set_matcher(sm->inclusion_list, true, "inclusion_list", e);
            break;
        case ENVOY__CONFIG__METRICS__V3__STATS_MATCHER__STATS_MATCHER_EXCLUSION_LIST:
            set_matcher(sm->exclusion_list, false, "exclusion_list", e);
            break;
        default:
            errors_add(e, NULL, "one of reject_all, inclusion_list and exclusion_list is required");
        }
        errors_pop(e, inner);
    }
    errors_pop(e, mark);
    return e->num_errors == before;
}
