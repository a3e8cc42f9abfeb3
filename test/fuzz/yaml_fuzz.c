// covers: base/yaml.c
/* YAML text. What parses is a tree of JSON: it must print as JSON and parse again to the same. */
#include "base/yaml.h"
#include "test/support/json_same.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct arena a;
    struct json_error err;
    arena_init(&a, 0);
    struct json *j = yaml_parse(str_n((const char *)data, len), &a, &err);
    if (j) {
        struct json_writer w;
        json_writer_init(&w, false);
        json_put_tree(&w, j);
        struct json *again = json_parse(json_writer_text(&w), 0, &a, &err);
        CHECK(again && json_same(j, again));
        json_writer_cleanup(&w);
    } else {
        CHECK(err.text[0] != '\0');
    }
    arena_cleanup(&a);
    return 0;
}
