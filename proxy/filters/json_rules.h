/* The rules of json_to_metadata: which value of a JSON document becomes which dynamic metadata.
 * Compiled on main and immutable; applied on workers. */
#pragma once

#include "base/errors.h"
#include "proxy/observe/metadata.h"

/* What came of reading a body. */
enum json_outcome { JSON_SUCCESS, JSON_WRONG_TYPE, JSON_NO_BODY, JSON_INVALID };

struct json_target {
    struct str ns, key;
    struct json *value; /* NULL: what the document says */
    enum { JSON_AS_IT_IS, JSON_AS_STRING, JSON_AS_NUMBER } type;
    bool preserve; /* not where there was a value before */
};

struct json_rule {
    struct str *path;
    size_t num_path;
    struct json_target *present, *missing, *error; /* NULL: nothing is set then */
};

struct json_rules {
    struct json_rule *v;
    size_t n;
};

/* json_rules_compile compiles Rule messages below the field "rules". Main. */
void json_rules_compile(struct json_rules *out, struct arena *a, void *const *msgs, size_t n,
                        struct errors *e);

/* json_rules_apply sets metadata as the rules say: of a document (JSON_SUCCESS), of none
 * (JSON_NO_BODY: everything is missing), or of what could not be read. Returns whether anything was
 * set. `root` is copied where needed. */
bool json_rules_apply(const struct json_rules *rules, struct arena *a, enum json_outcome outcome,
                      const struct json *root, struct metadata *m);
