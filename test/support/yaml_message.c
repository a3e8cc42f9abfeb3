#include "test/support/yaml_message.h"

#include "api-protos/mapping.h"
#include "base/yaml.h"
#include <check.h>

const void *yaml_message(const char *type, const char *yaml, struct arena *a)
{
    struct json_error why;
    struct errors e;
    struct str bytes;
    const ProtobufCMessageDescriptor *d = pb_find(str_of(type));
    const struct json *tree = yaml_parse(str_of(yaml), a, &why);
    ck_assert_msg(d != NULL, "no message %s", type);
    ck_assert_msg(tree != NULL, "line %u: %s\n%s", (unsigned)(tree ? 0 : why.line),
                  tree ? "" : why.text, yaml);
    errors_init(&e);
    struct pb_opts opts = {.reject_unknown = true};
    const void *m = pb_json_to_wire(d, tree, a, &e, &opts, &bytes)
                        ? pb_unpack(d, bytes, a, &e, &opts)
                        : NULL;
    ck_assert_msg(m != NULL, "%.*s\n%s", STR_ARG(errors_text(&e, a)), yaml);
    errors_cleanup(&e);
    return m;
}

void expect_error(const struct errors *e, const char *path, const char *part)
{
    struct arena a;
    for (const struct error_item *i = e->first; i; i = i->next) {
        if (str_eq(i->path, str_of(path)) && str_find(i->text, str_of(part)) >= 0)
            return;
    }
    arena_init(&a, 0);
    ck_abort_msg("no error \"%s: %s\" in: %.*s", path, part, STR_ARG(errors_text(e, &a)));
}
