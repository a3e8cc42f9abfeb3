#include "proxy/router/lb_match.h"

#include "api-protos/mapping.h"
#include "envoy/config/endpoint/v3/endpoint.pb-c.h"
#include "proxy/http/stream.h"

static const struct str lb = STR("envoy.lb");

/* Values are compared as the serialised messages that the hosts keep. */
static struct labels *labels_of_json(const struct json *object, struct arena *a)
{
    struct labels *l = arena_zalloc(a, sizeof(*l) + object->count * sizeof(l->v[0]));
    struct errors e;
    errors_init(&e);
    for (const struct json *j = object->first; j; j = j->next) {
        struct str value;
        if (!pb_json_to_wire(&google__protobuf__value__descriptor, j, a, &e, NULL, &value))
            continue; /* deeper than messages are */
        l->v[l->num].key = j->key;
        l->v[l->num++].value = pb_canonical(&google__protobuf__value__descriptor, value, a);
    }
    errors_cleanup(&e);
    labels_sort(l);
    return l;
}

static void take_fallbacks(struct lb_match *m, const struct json *list, struct arena *a)
{
    if (!list || list->type != JSON_ARRAY)
        return;
    m->fallbacks = arena_alloc(a, list->count * sizeof(*m->fallbacks));
    for (const struct json *j = list->first; j; j = j->next) {
        static const struct labels none;
        m->fallbacks[m->num_fallbacks++] = j->type == JSON_OBJECT ? labels_of_json(j, a) : &none;
    }
}

struct lb_match *lb_match_of(const struct metadata *md, struct arena *a)
{
    const struct json *object = md ? metadata_object(md, lb) : NULL;
    struct lb_match *m;

    if (!object)
        return NULL;
    m = ARENA_NEW(a, struct lb_match);
    m->labels = labels_of_json(object, a);
    take_fallbacks(m, json_get(object, "fallback_list"), a);
    return m;
}

struct lb_match *lb_match_new(struct stream *s)
{
    const struct metadata *route = s->weighted ? s->weighted->metadata_match
                                               : s->route->metadata_match;
    const struct json *object = route ? metadata_object(route, lb) : NULL;
    const struct json *own = metadata_object(&s->info.metadata, lb);
    struct metadata both = {0};

    if (!object && !own)
        return NULL;
    for (const struct json *j = object ? object->first : NULL; j; j = j->next)
        metadata_set(&both, s->arena, lb, j->key, metadata_copy(s->arena, j));
    for (const struct json *j = own ? own->first : NULL; j; j = j->next)
        metadata_set(&both, s->arena, lb, j->key, metadata_copy(s->arena, j));
    return lb_match_of(&both, s->arena);
}
