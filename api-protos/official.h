/* The official API as tables: every v3 message, listed here or not. Written by
 * tools/protos/gen_table.py from the official descriptors into official_table.c; read by the
 * walker, the rules and the JSON mapping. Constant data, any thread. Used inside api-protos only.
 */
#pragma once

#include "base/str.h"

/* What a message is beyond its fields. */
enum official_kind {
    OFFICIAL_NONE,
    OFFICIAL_MAP_ENTRY,
    OFFICIAL_ANY,
    OFFICIAL_DURATION,
    OFFICIAL_TIMESTAMP,
    OFFICIAL_STRUCT,
    OFFICIAL_VALUE,
    OFFICIAL_LIST,
    OFFICIAL_FIELD_MASK,
    OFFICIAL_WRAPPER,
    OFFICIAL_TYPED_STRUCT,
};

/* What ignoring a field would mean (tools/protos/classes.py). */
enum official_class { OFFICIAL_OTHER, OFFICIAL_SECURITY, OFFICIAL_MATCHING, OFFICIAL_TLS };

enum official_flag {
    OFFICIAL_MAP = 1,
    OFFICIAL_REPEATED = 2,  /* not set on maps */
    OFFICIAL_PRESENCE = 4,  /* unset differs from zero: messages, oneof members, optional */
    OFFICIAL_SENSITIVE = 8, /* redacted in dumps */
    OFFICIAL_DEPRECATED = 16,
    OFFICIAL_PACKED = 32,
};

/* Field types, numbered as in descriptor.proto. */
enum official_type {
    TYPE_DOUBLE = 1,
    TYPE_FLOAT,
    TYPE_INT64,
    TYPE_UINT64,
    TYPE_INT32,
    TYPE_FIXED64,
    TYPE_FIXED32,
    TYPE_BOOL,
    TYPE_STRING,
    TYPE_GROUP,
    TYPE_MESSAGE,
    TYPE_BYTES,
    TYPE_UINT32,
    TYPE_ENUM,
    TYPE_SFIXED32,
    TYPE_SFIXED64,
    TYPE_SINT32,
    TYPE_SINT64,
};

enum official_rule_op {
    RULE_END,
    RULE_REQUIRED,
    RULE_SKIP,         /* the rules inside the message are not checked */
    RULE_IGNORE_EMPTY, /* no rule holds for an empty value */
    RULE_CONST,        /* numbers; durations in nanoseconds, doubles as their bits */
    RULE_LT,
    RULE_LTE,
    RULE_GT,
    RULE_GTE,
    RULE_IN, /* one row a value */
    RULE_NOT_IN,
    RULE_DEFINED_ONLY,
    RULE_MIN_LEN, /* characters */
    RULE_MAX_LEN,
    RULE_MIN_BYTES,
    RULE_MAX_BYTES,
    RULE_STR_IN, /* the value is an offset into official_strings; one row a value */
    RULE_PATTERN,
    RULE_PREFIX,
    RULE_SUFFIX,
    RULE_HEADER_NAME, /* value 1: strict */
    RULE_HEADER_VALUE,
    RULE_MIN_ITEMS, /* of repeated fields and maps */
    RULE_MAX_ITEMS,
    RULE_UNIQUE,
    RULE_ITEMS, /* the value is the index of the rules of each element */
    RULE_KEYS,
    RULE_VALUES,
};

struct official_message {
    uint32_t name;        /* offset into official_strings */
    uint32_t first_field; /* into official_fields, sorted by number */
    uint16_t num_fields;
    uint16_t first_oneof;
    uint8_t num_oneofs;
    uint8_t kind; /* enum official_kind */
};

struct official_field {
    uint32_t name;
    uint16_t number;
    uint16_t target; /* index of the message or enum */
    uint16_t rules;  /* into official_rules; 0: none */
    uint8_t type;    /* enum official_type */
    uint8_t class;   /* enum official_class */
    uint8_t oneof;   /* 1 + index among the message's; 0: none */
    uint8_t flags;
};

struct official_oneof {
    uint32_t name;
    uint8_t required;
};

struct official_enum {
    uint32_t name, first_value, num_values;
};

struct official_value {
    uint32_t name;
    int32_t number;
};

struct official_rule {
    uint8_t op;
    int64_t value;
};

extern const char official_strings[];
extern const struct official_message official_messages[]; /* sorted by name */
extern const struct official_field official_fields[];
extern const struct official_oneof official_oneofs[];
extern const struct official_enum official_enums[];
extern const struct official_value official_values[];
extern const struct official_rule official_rules[];
extern const uint32_t official_num_messages, official_num_fields, official_num_enums,
    official_num_rules;

/* official_text views the string at an offset. */
static inline struct str official_text(uint32_t name)
{
    return str_of(official_strings + name);
}

/* official_find returns the message of a full name, NULL if the API has none. */
const struct official_message *official_find(struct str full_name);

/* official_by_number and official_by_name return a field of a message or NULL; names are taken as
 * snake_case and camelCase. */
const struct official_field *official_by_number(const struct official_message *m, uint32_t number);
const struct official_field *official_by_name(const struct official_message *m, struct str name);

/* official_target returns the message type of a field, NULL if it is none. */
const struct official_message *official_target(const struct official_field *f);

/* official_enum_number and official_enum_name map the values of the enum of a field; a name may be
 * in lower case, as Envoy's parser takes it. */
bool official_enum_number(const struct official_field *f, struct str name, int32_t *out);
struct str official_enum_name(const struct official_field *f, int32_t number);
