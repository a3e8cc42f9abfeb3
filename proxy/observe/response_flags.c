#include "proxy/observe/format.h"

static const struct str short_names[] = {
#define X(id, short_name, long_name) STR(short_name),
    RESPONSE_FLAGS(X)
#undef X
};

struct str response_flags_text(uint64_t flags, struct arena *a)
{
    char text[NUM_RESPONSE_FLAGS * 8];
    size_t len = 0;
    for (unsigned bit = 0; bit < NUM_RESPONSE_FLAGS; bit++) {
        if (!(flags & 1ULL << bit))
            continue;
        if (len)
            text[len++] = ',';
        struct str name = short_names[bit];
        CHECK(name.len < 8 && len + name.len <= sizeof(text));
        memcpy(text + len, name.p, name.len);
        len += name.len;
    }
    return len ? arena_str(a, str_n(text, len)) : STR("-");
}

bool response_flag_find(struct str short_name, uint64_t *out)
{
    for (unsigned bit = 0; bit < NUM_RESPONSE_FLAGS; bit++) {
        if (!str_eq(short_name, short_names[bit]))
            continue;
        *out = 1ULL << bit;
        return true;
    }
    return false;
}
