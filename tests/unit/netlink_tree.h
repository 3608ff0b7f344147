/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A folder that stands for "/", with as much of sysfs and procfs as a test needs. */
#pragma once

#include <stdbool.h>

struct tree {
    char root[64];
};

/* Set-up and tear-down of cmocka: *state is a struct tree. */
int tree_create(void **state);
int tree_remove(void **state);

/* path is relative to the root; folders above it are made. The content is formatted. */
void tree_file(const struct tree *tree, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void tree_folder(const struct tree *tree, const char *path);
void tree_link(const struct tree *tree, const char *path, const char *target);
void tree_delete(const struct tree *tree, const char *path);
/* A block device node; false where that is not allowed. */
bool tree_node(const struct tree *tree, const char *path, unsigned major, unsigned minor);

/* What sysfs has of a disk that is attached: 1 MiB, 43:INDEX*32. */
void tree_disk(const struct tree *tree, unsigned index);
void tree_partition(const struct tree *tree, unsigned index, unsigned partition);
