/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intrusive doubly linked queue. A node that is in no queue points at itself,
 * so leaving twice is harmless and membership can be asked.
 */
#ifndef NBD_LIST_H
#define NBD_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next;
	struct list *prev;
};

#define list_entry(node, type, member)                                         \
	((type *)(void *)((char *)(node) - offsetof(type, member)))

static inline void list_init(struct list *l)
{
	l->next = l;
	l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_insert_before(struct list *at, struct list *node)
{
	node->prev = at->prev;
	node->next = at;
	at->prev->next = node;
	at->prev = node;
}

static inline void list_push_back(struct list *queue, struct list *node)
{
	list_insert_before(queue, node);
}

static inline void list_push_front(struct list *queue, struct list *node)
{
	list_insert_before(queue->next, node);
}

static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/* The first node, still queued, or NULL. */
static inline struct list *list_first(const struct list *queue)
{
	return list_empty(queue) ? NULL : queue->next;
}

#endif
