/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "netlink_tree.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cmocka_all.h"

int tree_create(void **state)
{
    struct tree *tree = calloc(1, sizeof *tree);

    if (!tree)
        return -1;
    snprintf(tree->root, sizeof tree->root, "/tmp/nbdctl-test.XXXXXX");
    *state = tree;
    return mkdtemp(tree->root) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

int tree_remove(void **state)
{
    struct tree *tree = *state;
    int r = nftw(tree->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);

    free(tree);
    return r;
}

static void make_path(const struct tree *tree, const char *path, char full[static PATH_MAX])
{
    snprintf(full, PATH_MAX, "%s/%s", tree->root, path);
    for (char *p = full + strlen(tree->root) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        assert_true(mkdir(full, 0700) == 0 || errno == EEXIST);
        *p = '/';
    }
}

void tree_file(const struct tree *tree, const char *path, const char *format, ...)
{
    char full[PATH_MAX];
    va_list args;
    FILE *file;

    make_path(tree, path, full);
    file = fopen(full, "we");
    assert_non_null(file);
    va_start(args, format);
    vfprintf(file, format, args);
    va_end(args);
    assert_int_equal(fclose(file), 0);
}

void tree_folder(const struct tree *tree, const char *path)
{
    char full[PATH_MAX];

    make_path(tree, path, full);
    assert_int_equal(mkdir(full, 0700), 0);
}

void tree_link(const struct tree *tree, const char *path, const char *target)
{
    char full[PATH_MAX];

    make_path(tree, path, full);
    assert_int_equal(symlink(target, full), 0);
}

void tree_delete(const struct tree *tree, const char *path)
{
    char full[PATH_MAX];

    make_path(tree, path, full);
    assert_int_equal(remove(full), 0);
}

bool tree_node(const struct tree *tree, const char *path, unsigned major, unsigned minor)
{
    char full[PATH_MAX];

    make_path(tree, path, full);
    return mknod(full, S_IFBLK | 0600, makedev(major, minor)) == 0;
}

static void attribute(const struct tree *tree, unsigned index, const char *name, const char *value)
{
    char path[128];

    snprintf(path, sizeof path, "sys/block/nbd%u/%s", index, name);
    tree_file(tree, path, "%s\n", value);
}

void tree_disk(const struct tree *tree, unsigned index)
{
    static const char *const values[][2] = {
        {"size", "2048"},
        {"ro", "0"},
        {"pid", "812"},
        {"backend", "disk0"},
        {"diskseq", "17"},
        {"queue/logical_block_size", "512"},
        {"queue/max_sectors_kb", "128"},
        {"queue/max_hw_sectors_kb", "32768"},
        {"queue/write_zeroes_max_bytes", "2199023255040"},
        {"queue/scheduler", "none"},
    };
    char number[32];

    snprintf(number, sizeof number, "43:%u", index * 32);
    attribute(tree, index, "dev", number);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        attribute(tree, index, values[i][0], values[i][1]);
}

void tree_partition(const struct tree *tree, unsigned index, unsigned partition)
{
    char name[64], value[32];

    snprintf(name, sizeof name, "nbd%up%u/partition", index, partition);
    snprintf(value, sizeof value, "%u", partition);
    attribute(tree, index, name, value);
    snprintf(name, sizeof name, "nbd%up%u/dev", index, partition);
    snprintf(value, sizeof value, "43:%u", index * 32 + partition);
    attribute(tree, index, name, value);
}
