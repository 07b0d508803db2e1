/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A directory of the test's own, in place of /proc, /sys and the like. What
 * cannot be made fails the test.
 */
#ifndef NBD_TESTS_TREE_H
#define NBD_TESTS_TREE_H

#define TREE_BYTES 64u

void tree_make(char ret_tree[TREE_BYTES]);
int tree_remove(const char *tree);

/* The file ROOT/NAME, with the directories on the way. */
void tree_put(const char *root, const char *name, const char *text);
void tree_link(const char *root, const char *name, const char *target);
void tree_drop(const char *root, const char *name);

#endif
