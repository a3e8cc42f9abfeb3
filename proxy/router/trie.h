/* A radix tree from byte strings to values: all keys that begin a text, in one walk along it. Built
 * once in an arena, then immutable and shared by threads. What a lookup costs depends on the text
 * and on the keys that begin it, not on how many keys there are. */
#pragma once

#include "base/arena.h"

struct trie_node {
    struct str label;            /* the bytes between the node above and this one */
    void *value;                 /* NULL: no key ends here */
    struct trie_node **children; /* by the first byte of their labels, ascending */
    unsigned char *firsts;       /* those bytes */
    uint16_t num, cap;
};

struct trie {
    struct trie_node root;
    bool fold;    /* ASCII upper case in texts is lower case; keys are in lower case */
    bool reverse; /* keys and texts are read from their ends */
};

/* trie_put finds or makes the place of a key's value; its bytes must live as long as the arena. The
 * caller fills an empty place with what is not NULL. */
void **trie_put(struct trie *t, struct arena *a, struct str key);

struct trie_walk {
    const struct trie_node *node;
    struct str text;
    size_t at; /* bytes of the text passed: the length of the key just returned */
    bool fold, reverse;
};

/* trie_walk_start begins at the empty key. */
void trie_walk_start(struct trie_walk *w, const struct trie *t, struct str text);

/* trie_walk_next returns the value of the next longer key that begins the text (ends it, with
 * `reverse`); NULL: no more. */
void *trie_walk_next(struct trie_walk *w);
