/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The many names of one device. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "ktext.h"
#include "scoped.h"
#include "sysfs.h"

static int not_nbd(const char *name, struct netlink_reason *reason)
{
    char shown[128];

    ktext_escape(name, shown, sizeof shown);
    return netlink_fail(reason, EINVAL, "name it /dev/nbd0, nbd0 or 0", "%s is no nbd device", shown);
}

/* The index of a kernel name; a partition is not what anybody may mean here. */
static int accept_name(const char *name, const char *kernel_name, uint32_t *index,
                       struct netlink_reason *reason)
{
    unsigned partition;
    uint32_t disk;

    if (nbd_name_parse(kernel_name, &disk, &partition) < 0)
        return not_nbd(name, reason);
    if (partition != 0)
        return netlink_fail(reason, EINVAL, NULL, "%s is a partition; the disk is /dev/nbd%" PRIu32,
                            kernel_name, disk);
    *index = disk;
    return 0;
}

/* What sysfs calls the block device behind a node, whatever the node is called. */
static int kernel_name_of(const char *root, const struct stat *st, char *name, size_t size)
{
    char path[PATH_MAX], target[PATH_MAX];
    const char *base;
    ssize_t n;

    if (ktext_path(path, sizeof path, "%s/sys/dev/block/%u:%u", root, major(st->st_rdev),
                   minor(st->st_rdev)) < 0)
        return -ENAMETOOLONG;
    n = readlink(path, target, sizeof target - 1);
    if (n < 0)
        return -errno;
    target[n] = '\0';
    base = strrchr(target, '/');
    return ktext_path(name, size, "%s", base ? base + 1 : target);
}

/* "nbd3" of ROOT/dev/nbd3; "" for what lies elsewhere. */
static const char *name_in_dev(const char *root, const char *real)
{
    char path[PATH_MAX];
    _cleanup_free_ char *dev = NULL;

    if (ktext_path(path, sizeof path, "%s/dev", root) < 0)
        return "";
    dev = realpath(path, NULL);
    if (!dev || strncmp(real, dev, strlen(dev)) != 0 || real[strlen(dev)] != '/')
        return "";
    return real + strlen(dev) + 1;
}

static int resolve_path(const char *root, const char *name, uint32_t *index, struct netlink_reason *reason)
{
    _cleanup_free_ char *real = NULL;
    char path[PATH_MAX], kernel_name[NAME_MAX + 1];
    struct stat st;

    if (ktext_path(path, sizeof path, "%s%s", root, name) < 0)
        return not_nbd(name, reason);
    real = realpath(path, NULL);
    if (!real) {
        int error = errno;

        /* A node that is not there yet is still known by its usual name. */
        if (error == ENOENT && strncmp(name, "/dev/nbd", 8) == 0 && !strchr(name + 5, '/'))
            return accept_name(name, name + 5, index, reason);
        ktext_escape(name, kernel_name, sizeof kernel_name);
        return netlink_fail(reason, error == ENOENT ? ENODEV : error, NULL, "%s: %s", kernel_name,
                            strerror(error));
    }
    if (stat(real, &st) == 0 && S_ISBLK(st.st_mode) &&
        kernel_name_of(root, &st, kernel_name, sizeof kernel_name) == 0)
        return accept_name(name, kernel_name, index, reason);
    return accept_name(name, name_in_dev(root, real), index, reason);
}

static int resolve_name(const char *root, const char *name, uint32_t *index, struct netlink_reason *reason)
{
    uint64_t number;

    if (ktext_decimal(name, INT32_MAX, &number) == 0) {
        *index = (uint32_t)number;
        return 0;
    }
    if (strchr(name, '/'))
        return resolve_path(root, name, index, reason);
    return accept_name(name, name, index, reason);
}

int nbd_device_resolve(const char *root, const char *name, uint32_t *index, struct netlink_reason *reason)
{
    char path[PATH_MAX];
    int r;

    *index = NBD_INDEX_ANY;
    r = resolve_name(root, name, index, reason);
    if (r < 0)
        return r;
    r = ktext_path(path, sizeof path, "%s/sys/block/nbd%" PRIu32, root, *index);
    if (r < 0 || access(path, F_OK) < 0)
        return netlink_fail(reason, ENODEV, "is the nbd module loaded?",
                            "there is no device /dev/nbd%" PRIu32, *index);
    return 0;
}
