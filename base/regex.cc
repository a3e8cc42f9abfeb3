#include <re2/re2.h>

#include <cstdarg>
#include <cstring>
#include <new>
#include <string>

/* The headers below are C: their functions have C linkage. */
extern "C" {
#include "base/regex.h"
}

/* RE2 reports errors by value; nothing here throws (running out of memory ends the process). */
struct regex {
    regex(const re2::StringPiece &pattern, const re2::RE2::Options &options) : re(pattern, options)
    {
    }
    re2::RE2 re;
};

static re2::StringPiece piece(struct str s)
{
    return re2::StringPiece(s.len ? s.p : "", s.len);
}

static struct str keep(struct arena *a, const std::string &s)
{
    return arena_str(a, str_n(s.data(), s.size()));
}

struct regex *regex_new(struct str pattern, unsigned flags, uint32_t max_program_size,
                        struct arena *a, struct str *err)
{
    re2::RE2::Options options;
    options.set_log_errors(false);
    if (flags & REGEX_BYTES)
        options.set_encoding(re2::RE2::Options::EncodingLatin1);
    options.set_case_sensitive(!(flags & REGEX_IGNORE_CASE));
    struct regex *r = new (mem_alloc(sizeof(struct regex))) regex(piece(pattern), options);
    if (!r->re.ok()) {
        *err = keep(a, r->re.error());
        regex_free(&r);
        return nullptr;
    }
    uint32_t size = regex_program_size(r);
    if (max_program_size && size > max_program_size) {
        *err = arena_printf(a, "regex program size of %u > max program size of %u", size,
                            max_program_size);
        regex_free(&r);
        return nullptr;
    }
    return r;
}

void regex_free(struct regex **r)
{
    if (!*r)
        return;
    (*r)->~regex();
    mem_free(*r);
    *r = nullptr;
}

struct str regex_pattern(const struct regex *r)
{
    return str_n(r->re.pattern().data(), r->re.pattern().size());
}

uint32_t regex_program_size(const struct regex *r)
{
    return static_cast<uint32_t>(r->re.ProgramSize());
}

unsigned regex_num_groups(const struct regex *r)
{
    return static_cast<unsigned>(r->re.NumberOfCapturingGroups());
}

bool regex_full(const struct regex *r, struct str s)
{
    return r->re.Match(piece(s), 0, s.len, re2::RE2::ANCHOR_BOTH, nullptr, 0);
}

bool regex_search(const struct regex *r, struct str s, struct str *groups, size_t num)
{
    re2::StringPiece found[REGEX_MAX_GROUPS];
    CHECK(num <= REGEX_MAX_GROUPS);
    if (!r->re.Match(piece(s), 0, s.len, re2::RE2::UNANCHORED, found, static_cast<int>(num)))
        return false;
    for (size_t i = 0; i < num; i++)
        groups[i] = str_n(found[i].data(), found[i].size());
    return true;
}

bool regex_check_rewrite(const struct regex *r, struct str rewrite, struct arena *a,
                         struct str *err)
{
    std::string why;
    if (r->re.CheckRewriteString(piece(rewrite), &why))
        return true;
    *err = keep(a, why);
    return false;
}

struct str regex_replace_all(const struct regex *r, struct str s, struct str rewrite,
                             struct arena *a)
{
    std::string text(s.len ? s.p : "", s.len);
    if (re2::RE2::GlobalReplace(&text, r->re, piece(rewrite)) == 0)
        return s;
    return keep(a, text);
}
