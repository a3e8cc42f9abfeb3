/* Magic numbers for objects that travel through a void pointer: the first member of such an object
 * is `uint32_t magic`, set at init and cleared when it is freed; OBJ_CAST checks it. */
#pragma once

#include "base/alloc.h"
#include <stdint.h>

#define OBJ_CAST(arg, type, magic_value) ((type *)obj_check((arg), (magic_value), #type))

/* obj_check returns arg if it is not NULL and begins with `magic`; aborts otherwise. */
static inline void *obj_check(void *arg, uint32_t magic, const char *type)
{
    if (UNLIKELY(!arg || *(const uint32_t *)arg != magic))
        check_failed(type, "wrong object behind a pointer", 0);
    return arg;
}
