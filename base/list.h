/* Intrusive doubly linked list. A head is a struct list whose links point to itself when empty; a
 * zeroed link is "not on a list". Not thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

/* clang-format off */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))
#define LIST_INIT(head) {&(head), &(head)}
/* clang-format on */
#define LIST_FOREACH(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
/* LIST_FOREACH_SAFE allows removing `it` in the body. */
#define LIST_FOREACH_SAFE(it, head)                                                                \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head);                      \
         it = it##_next, it##_next = it->next)

/* list_init makes an empty head. */
static inline void list_init(struct list *h)
{
    h->next = h->prev = h;
}

/* list_empty says whether no element is on the list. */
static inline bool list_empty(const struct list *h)
{
    return h->next == h;
}

/* list_linked says whether the element is on some list. */
static inline bool list_linked(const struct list *e)
{
    return e->next != NULL;
}

/* list_insert_before links e before `at` (at the tail when `at` is the head). */
static inline void list_insert_before(struct list *at, struct list *e)
{
    e->prev = at->prev;
    e->next = at;
    at->prev->next = e;
    at->prev = e;
}

/* list_push_tail and list_push_head link e at an end. */
static inline void list_push_tail(struct list *h, struct list *e)
{
    list_insert_before(h, e);
}
static inline void list_push_head(struct list *h, struct list *e)
{
    list_insert_before(h->next, e);
}

/* list_remove unlinks e; nothing happens if it is not linked. */
static inline void list_remove(struct list *e)
{
    if (!e->next)
        return;
    e->prev->next = e->next;
    e->next->prev = e->prev;
    e->next = e->prev = NULL;
}

/* list_pop_head unlinks and returns the first element, or NULL. */
static inline struct list *list_pop_head(struct list *h)
{
    struct list *e = h->next;
    if (e == h)
        return NULL;
    list_remove(e);
    return e;
}

/* list_move_all moves all of `from` to the tail of `to`. */
static inline void list_move_all(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}
