#include "test/support/json_same.h"

bool json_same(const struct json *a, const struct json *b)
{
    if (a->type != b->type || a->count != b->count || !str_eq(a->key, b->key))
        return false;
    if (a->type == JSON_BOOL)
        return a->boolean == b->boolean;
    if (a->type == JSON_NUMBER || a->type == JSON_STRING)
        return str_eq(a->text, b->text);
    const struct json *y = b->first;
    for (const struct json *x = a->first; x; x = x->next, y = y->next)
        if (!y || !json_same(x, y))
            return false;
    return !y;
}
