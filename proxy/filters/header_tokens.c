#include "proxy/filters/header_tokens.h"

bool header_has_token(struct str list, struct str token, bool fold)
{
    struct str word;
    while (str_next(&list, ',', &word)) {
        word = str_trim(word);
        if (fold ? str_ieq(word, token) : str_eq(word, token))
            return true;
    }
    return false;
}

struct str header_cut(struct str s, char sep, struct str *rest)
{
    ptrdiff_t at = str_chr(s, sep);
    if (rest)
        *rest = STR_NULL;
    if (at < 0)
        return str_trim(s);
    if (rest)
        *rest = str_n(s.p + at + 1, s.len - (size_t)at - 1);
    return str_trim(str_n(s.p, (size_t)at));
}
