#include "api-protos/rules.h"

#include "base/arena.h"
#include "base/regex.h"
#include "google/protobuf/duration.pb-c.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static double as_double(int64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof(d));
    return d;
}

/* Compares a value with a rule's operand: <0, 0, >0. */
static int compare(const struct rule_value *v, int64_t operand)
{
    if (v->kind == RULE_FLOATING) {
        double d = as_double(operand);
        return v->d < d ? -1 : v->d > d;
    }
    if (v->kind == RULE_UINT)
        return (uint64_t)v->i < (uint64_t)operand ? -1 : (uint64_t)v->i > (uint64_t)operand;
    return v->i < operand ? -1 : v->i > operand;
}

static const char *operand_text(const struct rule_value *v, int64_t operand, char out[48])
{
    if (v->kind == RULE_FLOATING)
        (void)snprintf(out, 48, "%g", as_double(operand));
    else if (v->kind == RULE_UINT)
        (void)snprintf(out, 48, "%" PRIu64, (uint64_t)operand);
    else if (v->kind == RULE_NANOSECONDS && operand % 1000000000 == 0)
        (void)snprintf(out, 48, "%" PRId64 "s", operand / 1000000000);
    else if (v->kind == RULE_NANOSECONDS)
        (void)snprintf(out, 48, "%gs", (double)operand / 1e9);
    else
        (void)snprintf(out, 48, "%" PRId64, operand);
    return out;
}

static const struct official_rule *find(uint32_t rules, enum official_rule_op op)
{
    const struct official_rule *r = &official_rules[rules];
    while (r->op != RULE_END && r->op != op)
        r++;
    return r->op == op ? r : NULL;
}

bool rules_has(uint32_t rules, enum official_rule_op op)
{
    return find(rules, op) != NULL;
}

static bool in_range(const struct rule_value *v, const struct official_rule *low,
                     const struct official_rule *high)
{
    if (v->kind == RULE_FLOATING && v->d != v->d)
        return false; /* NaN is in no range */
    if (low && !(low->op == RULE_GT ? compare(v, low->value) > 0 : compare(v, low->value) >= 0))
        return false;
    return !high ||
           (high->op == RULE_LT ? compare(v, high->value) < 0 : compare(v, high->value) <= 0);
}

static bool check_range(uint32_t rules, const struct rule_value *v, char *text, size_t cap)
{
    const struct official_rule *gt = find(rules, RULE_GT), *lt = find(rules, RULE_LT);
    const struct official_rule *low = gt ? gt : find(rules, RULE_GTE);
    const struct official_rule *high = lt ? lt : find(rules, RULE_LTE);
    char a[48], b[48];
    if (in_range(v, low, high))
        return true;
    if (low && high)
        (void)snprintf(text, cap, "value must be inside range %c%s, %s%c", gt ? '(' : '[',
                       operand_text(v, low->value, a), operand_text(v, high->value, b),
                       lt ? ')' : ']');
    else if (low)
        (void)snprintf(text, cap, "value must be greater than %s%s", gt ? "" : "or equal to ",
                       operand_text(v, low->value, a));
    else if (high)
        (void)snprintf(text, cap, "value must be less than %s%s", lt ? "" : "or equal to ",
                       operand_text(v, high->value, a));
    return false;
}

static size_t characters(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += ((uint8_t)s.p[i] & 0xc0) != 0x80;
    return n;
}

static bool matches(struct str pattern, struct str s)
{
    struct arena a;
    struct str err;
    arena_init(&a, 0);
    struct regex *re = regex_new(pattern, 0, 0, &a, &err);
    CHECK(re);
    bool ok = regex_search(re, s, NULL, 0);
    regex_free(&re);
    arena_cleanup(&a);
    return ok;
}

/* The two patterns of HTTP header names and values, with and without `strict`. Only a strict name
 * must not be empty. */
static bool header_ok(struct str s, bool name, bool strict)
{
    static const char token[] = "!#$%&'*+-.^_|~`";
    if (name && strict && s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool ok;
        if (name && strict)
            ok = alnum || (c && strchr(token, c)) || (c == ':' && i == 0 && s.len > 1);
        else if (strict)
            ok = c == '\t' || ((uint8_t)c >= 0x20 && c != 0x7f);
        else
            ok = c != '\0' && c != '\n' && c != '\r';
        if (!ok)
            return false;
    }
    return true;
}

/* One rule of a string or of bytes. */
static bool check_text(const struct official_rule *r, struct str s, char *text, size_t cap)
{
    struct str operand = r->op == RULE_PATTERN || r->op == RULE_PREFIX || r->op == RULE_SUFFIX
                             ? official_text((uint32_t)r->value)
                             : STR_NULL;
    uint64_t n = (uint64_t)r->value;
    switch ((enum official_rule_op)r->op) {
    case RULE_MIN_LEN:
        (void)snprintf(text, cap, "value length must be at least %" PRIu64 " characters", n);
        return characters(s) >= n;
    case RULE_MAX_LEN:
        (void)snprintf(text, cap, "value length must be at most %" PRIu64 " characters", n);
        return characters(s) <= n;
    case RULE_MIN_BYTES:
        (void)snprintf(text, cap, "value length must be at least %" PRIu64 " bytes", n);
        return s.len >= n;
    case RULE_MAX_BYTES:
        (void)snprintf(text, cap, "value length must be at most %" PRIu64 " bytes", n);
        return s.len <= n;
    case RULE_PATTERN:
        (void)snprintf(text, cap, "value does not match regex pattern \"%.*s\"", STR_ARG(operand));
        return matches(operand, s);
    case RULE_PREFIX:
        (void)snprintf(text, cap, "value does not have prefix \"%.*s\"", STR_ARG(operand));
        return str_starts(s, operand);
    case RULE_SUFFIX:
        (void)snprintf(text, cap, "value does not have suffix \"%.*s\"", STR_ARG(operand));
        return str_ends(s, operand);
    case RULE_HEADER_NAME:
        (void)snprintf(text, cap, "value is not a valid HTTP header name");
        return header_ok(s, true, r->value != 0);
    case RULE_HEADER_VALUE:
        (void)snprintf(text, cap, "value is not a valid HTTP header value");
        return header_ok(s, false, r->value != 0);
    default:
        return true; /* not a rule of strings: checked elsewhere */
    }
}

static bool equals_operand(const struct official_rule *r, const struct rule_value *v)
{
    if (r->op == RULE_STR_IN)
        return str_eq(v->s, official_text((uint32_t)r->value));
    return compare(v, r->value) == 0;
}

/* in, not_in and the enum's own values. */
static bool check_sets(const struct official_field *f, uint32_t rules, const struct rule_value *v,
                       char *text, size_t cap)
{
    bool listed = false, found = false, excluded = false, defined = true, equal = true;
    for (const struct official_rule *r = &official_rules[rules]; r->op != RULE_END; r++) {
        if (r->op == RULE_IN || r->op == RULE_STR_IN) {
            listed = true;
            found = found || equals_operand(r, v);
        } else if (r->op == RULE_NOT_IN) {
            excluded = excluded || equals_operand(r, v);
        } else if (r->op == RULE_CONST) {
            equal = equals_operand(r, v);
        } else if (r->op == RULE_DEFINED_ONLY) {
            defined = official_enum_name(f, (int32_t)v->i).p != NULL;
        }
    }
    if (!defined)
        (void)snprintf(text, cap, "value must be one of the defined enum values");
    else if (listed && !found)
        (void)snprintf(text, cap, "value must be in the list of allowed values");
    else if (excluded)
        (void)snprintf(text, cap, "value must not be in the list of excluded values");
    else if (!equal)
        (void)snprintf(text, cap, "value must be the one that is allowed");
    return defined && equal && !excluded && (!listed || found);
}

static bool is_empty(const struct rule_value *v)
{
    if (v->kind == RULE_TEXT)
        return v->s.len == 0;
    return v->kind == RULE_FLOATING ? v->d == 0 : v->kind == RULE_MESSAGE ? !v->set : v->i == 0;
}

bool rules_check(const struct official_field *f, uint32_t rules, struct rule_value v, bool *skip,
                 char *text, size_t cap)
{
    *skip = rules_has(rules, RULE_SKIP);
    if (!v.set) {
        (void)snprintf(text, cap, "value is required");
        return !rules_has(rules, RULE_REQUIRED);
    }
    if (v.kind == RULE_MESSAGE || (rules_has(rules, RULE_IGNORE_EMPTY) && is_empty(&v)))
        return true;
    if (v.kind == RULE_TEXT) {
        for (const struct official_rule *r = &official_rules[rules]; r->op != RULE_END; r++) {
            if (!check_text(r, v.s, text, cap))
                return false;
        }
    } else if (!check_range(rules, &v, text, cap)) {
        return false;
    }
    return check_sets(f, rules, &v, text, cap);
}

bool rules_check_count(const struct official_field *f, size_t n, char *text, size_t cap)
{
    const struct official_rule *min = find(f->rules, RULE_MIN_ITEMS);
    const struct official_rule *max = find(f->rules, RULE_MAX_ITEMS);
    const char *what = f->flags & OFFICIAL_MAP ? "pair" : "item";
    if (n == 0 && rules_has(f->rules, RULE_IGNORE_EMPTY))
        return true;
    if (min && n < (uint64_t)min->value) {
        (void)snprintf(text, cap, "value must contain at least %" PRId64 " %s(s)", min->value,
                       what);
        return false;
    }
    if (max && n > (uint64_t)max->value) {
        (void)snprintf(text, cap, "value must contain no more than %" PRId64 " %s(s)", max->value,
                       what);
        return false;
    }
    return true;
}

static int value_cmp(const void *a, const void *b)
{
    const struct rule_value *x = a, *y = b;
    if (x->kind == RULE_TEXT)
        return str_cmp(x->s, y->s);
    if (x->kind == RULE_FLOATING)
        return x->d < y->d ? -1 : x->d > y->d;
    return x->i < y->i ? -1 : x->i > y->i;
}

bool rules_all_differ(struct rule_value *values, size_t n)
{
    if (n > 1)
        qsort(values, n, sizeof(*values), value_cmp);
    for (size_t i = 1; i < n; i++) {
        if (value_cmp(&values[i - 1], &values[i]) == 0)
            return false;
    }
    return true;
}

void rules_duration(const ProtobufCMessage *duration, struct rule_value *v)
{
    const Google__Protobuf__Duration *d =
        (const Google__Protobuf__Duration *)(const void *)duration;
    v->kind = RULE_NANOSECONDS;
    if (__builtin_mul_overflow(d->seconds, INT64_C(1000000000), &v->i) ||
        __builtin_add_overflow(v->i, (int64_t)d->nanos, &v->i))
        v->i = d->seconds < 0 ? INT64_MIN : INT64_MAX;
}
