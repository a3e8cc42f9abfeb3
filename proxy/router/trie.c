#include "proxy/router/trie.h"

/* Before anything was returned: the root itself may have a value. */
static const size_t NOT_STARTED = SIZE_MAX;

static unsigned char byte_at(struct str s, size_t i, bool reverse)
{
    return (unsigned char)s.p[reverse ? s.len - 1 - i : i];
}

/* What is left of s after its first n bytes in reading order. */
static struct str rest_of(struct str s, size_t n, bool reverse)
{
    return reverse ? str_n(s.p, s.len - n) : str_n(s.p + n, s.len - n);
}

static struct str first_of(struct str s, size_t n, bool reverse)
{
    return reverse ? str_n(s.p + s.len - n, n) : str_n(s.p, n);
}

/* The place of a first byte among the children; where it would be if it is not there. */
static size_t child_place(const struct trie_node *n, unsigned char c)
{
    size_t low = 0, high = n->num;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (n->firsts[mid] < c)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void add_child(struct trie_node *n, struct arena *a, struct trie_node *child,
                      unsigned char c)
{
    size_t at = child_place(n, c);
    if (n->num == n->cap) {
        uint16_t cap = n->cap ? (uint16_t)(n->cap * 2) : 2;
        struct trie_node **children = arena_alloc(a, cap * sizeof(*children));
        unsigned char *firsts = arena_alloc(a, cap);
        if (n->num) {
            memcpy(children, n->children, n->num * sizeof(*children));
            memcpy(firsts, n->firsts, n->num);
        }
        n->children = children;
        n->firsts = firsts;
        n->cap = cap;
    }
    memmove(n->children + at + 1, n->children + at, (n->num - at) * sizeof(*n->children));
    memmove(n->firsts + at + 1, n->firsts + at, n->num - at);
    n->children[at] = child;
    n->firsts[at] = c;
    n->num++;
}

static struct trie_node *new_node(struct arena *a, struct str label)
{
    struct trie_node *n = ARENA_NEW(a, struct trie_node);
    n->label = label;
    return n;
}

/* Puts a node in the middle of an edge: after the first n bytes of the child's label. */
static struct trie_node *split(struct trie_node *parent, size_t place, struct arena *a, size_t n,
                               bool reverse)
{
    struct trie_node *child = parent->children[place];
    struct trie_node *mid = new_node(a, first_of(child->label, n, reverse));
    child->label = rest_of(child->label, n, reverse);
    parent->children[place] = mid;
    add_child(mid, a, child, byte_at(child->label, 0, reverse));
    return mid;
}

void **trie_put(struct trie *t, struct arena *a, struct str key)
{
    struct trie_node *n = &t->root;
    while (key.len) {
        unsigned char c = byte_at(key, 0, t->reverse);
        size_t place = child_place(n, c), same = 0;
        if (place == n->num || n->firsts[place] != c) {
            struct trie_node *leaf = new_node(a, key);
            add_child(n, a, leaf, c);
            return &leaf->value;
        }
        struct trie_node *child = n->children[place];
        while (same < key.len && same < child->label.len &&
               byte_at(key, same, t->reverse) == byte_at(child->label, same, t->reverse))
            same++;
        n = same < child->label.len ? split(n, place, a, same, t->reverse) : child;
        key = rest_of(key, same, t->reverse);
    }
    return &n->value;
}

void trie_walk_start(struct trie_walk *w, const struct trie *t, struct str text)
{
    *w = (struct trie_walk){
        .node = &t->root, .text = text, .at = NOT_STARTED, .fold = t->fold, .reverse = t->reverse};
}

static unsigned char folded(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

/* Whether the text goes on with the label. */
static bool goes_on(const struct trie_walk *w, struct str label)
{
    if (w->text.len - w->at < label.len)
        return false;
    if (!w->fold && !w->reverse)
        return memcmp(w->text.p + w->at, label.p, label.len) == 0;
    if (!w->fold)
        return memcmp(w->text.p + w->text.len - w->at - label.len, label.p, label.len) == 0;
    for (size_t i = 0; i < label.len; i++) {
        if (folded(byte_at(w->text, w->at + i, w->reverse)) != byte_at(label, i, w->reverse))
            return false;
    }
    return true;
}

void *trie_walk_next(struct trie_walk *w)
{
    if (w->at == NOT_STARTED) {
        w->at = 0;
        if (w->node->value)
            return w->node->value;
    }
    while (w->at < w->text.len) {
        unsigned char c = byte_at(w->text, w->at, w->reverse);
        if (w->fold)
            c = folded(c);
        size_t place = child_place(w->node, c);
        if (place == w->node->num || w->node->firsts[place] != c)
            return NULL;
        const struct trie_node *child = w->node->children[place];
        if (!goes_on(w, child->label))
            return NULL;
        w->at += child->label.len;
        w->node = child;
        if (child->value)
            return child->value;
    }
    return NULL;
}
