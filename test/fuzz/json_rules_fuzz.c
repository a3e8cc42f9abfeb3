// covers: proxy/filters/json_rules.c
/* Rules of json_to_metadata and a document they are applied to. The first byte is the length of the
 * serialised MatchRules message. */
#include "api-protos/message.h"
#include "envoy/extensions/filters/http/json_to_metadata/v3/json_to_metadata.pb-c.h"
#include "proxy/filters/json_rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

typedef Envoy__Extensions__Filters__Http__JsonToMetadata__V3__JsonToMetadata__MatchRules MatchRules;

static void apply(const struct json_rules *rules, struct str text, struct arena *a)
{
    static const enum json_outcome others[] = {JSON_WRONG_TYPE, JSON_NO_BODY, JSON_INVALID};
    struct metadata m = {0};
    struct json_error err;
    const struct json *root = json_parse(text, JSON_DUPLICATES_LAST, a, &err);
    bool any = json_rules_apply(rules, a, root ? JSON_SUCCESS : JSON_INVALID, root, &m);
    CHECK(any == (m.first != NULL));
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        (void)json_rules_apply(rules, a, others[i], NULL, &m);
    for (const struct metadata_namespace *n = m.first; n; n = n->next)
        CHECK(n->object->count > 0 && n->object->count <= rules->n * 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct arena a;
    struct errors e;
    struct json_rules rules;
    if (len == 0 || data[0] >= len)
        return 0;
    struct str message = str_n((const char *)data + 1, data[0]);
    struct str text = str_n((const char *)data + 1 + data[0], len - 1 - data[0]);
    arena_init(&a, 0);
    errors_init(&e);
    const MatchRules *m = PB_UNPACK(
        MatchRules,
        envoy__extensions__filters__http__json_to_metadata__v3__json_to_metadata__match_rules,
        message, &a, &e, NULL);
    if (m) {
        json_rules_compile(&rules, &a, (void *const *)m->rules, m->n_rules, &e);
        if (errors_ok(&e))
            apply(&rules, text, &a);
    }
    errors_cleanup(&e);
    arena_cleanup(&a);
    return 0;
}
