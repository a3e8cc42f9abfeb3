/* The documented validation rules (PGV) of one value, with the texts Envoy's users know. Used by
 * validate.c only. Any thread. */
#pragma once

#include "api-protos/official.h"
#include "base/alloc.h"
#include <protobuf-c/protobuf-c.h>

struct rule_value {
    enum { RULE_INT, RULE_UINT, RULE_FLOATING, RULE_TEXT, RULE_MESSAGE, RULE_NANOSECONDS } kind;
    bool set;
    int64_t i; /* RULE_UINT: the bits; RULE_NANOSECONDS: clamped */
    double d;
    struct str s;
    const ProtobufCMessage *message;
};

/* rules_check checks the list at `rules` on one value; false and a text if it breaks one. *skip:
 * the rules inside the message are not to be checked. */
bool rules_check(const struct official_field *f, uint32_t rules, struct rule_value v, bool *skip,
                 char *text, size_t cap) WARN_UNUSED;

/* rules_check_count checks the rules of a repeated field or map on how many it holds. */
bool rules_check_count(const struct official_field *f, size_t n, char *text,
                       size_t cap) WARN_UNUSED;

/* rules_has says whether an op is in the list. */
bool rules_has(uint32_t rules, enum official_rule_op op);

/* rules_all_differ says whether no two of the values are equal; it sorts them. */
bool rules_all_differ(struct rule_value *values, size_t n);

/* rules_duration makes *v the nanoseconds of a google.protobuf.Duration. */
void rules_duration(const ProtobufCMessage *duration, struct rule_value *v);
