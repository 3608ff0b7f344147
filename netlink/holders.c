/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "holders_scan.h"
#include "ktext.h"
#include "scoped.h"

/* Beyond these, nobody reads the list; the caller still hears that there are holders. */
#define FOUND_MAX 4096

const struct held_device *scan_match_number(const struct holder_scan *scan, uint32_t major, uint32_t minor)
{
    for (size_t i = 0; i < scan->devices_count; i++)
        if (scan->devices[i].major == major && scan->devices[i].minor == minor)
            return &scan->devices[i];
    return NULL;
}

const struct held_device *scan_match_path(const struct holder_scan *scan, const char *path)
{
    char rooted[PATH_MAX];
    struct stat st;

    /* Only there: a path into a network file system could hold us for ever. */
    if (strncmp(path, "/dev/", 5) != 0)
        return NULL;
    for (size_t i = 0; i < scan->devices_count; i++)
        if (strcmp(path + 5, scan->devices[i].name) == 0)
            return &scan->devices[i];
    if (ktext_path(rooted, sizeof rooted, "%s%s", scan->root, path) < 0 || stat(rooted, &st) < 0 ||
        !S_ISBLK(st.st_mode))
        return NULL;
    return scan_match_number(scan, major(st.st_rdev), minor(st.st_rdev));
}

bool scan_is_shortage(int error)
{
    return error == ENOMEM || error == EMFILE || error == ENFILE || error == ENAMETOOLONG;
}

static __attribute__((format(printf, 3, 0))) int
rooted_path(const struct holder_scan *scan, char path[static PATH_MAX], const char *format, va_list args)
{
    int root = snprintf(path, PATH_MAX, "%s", scan->root), n;

    if (root < 0 || root >= PATH_MAX)
        return -ENAMETOOLONG;
    n = vsnprintf(path + root, (size_t)(PATH_MAX - root), format, args);
    return n < 0 || n >= PATH_MAX - root ? -ENAMETOOLONG : 0;
}

int scan_open_file(const struct holder_scan *scan, FILE **ret, const char *format, ...)
{
    char path[PATH_MAX];
    va_list args;
    int r;

    va_start(args, format);
    r = rooted_path(scan, path, format, args);
    va_end(args);
    *ret = r < 0 ? NULL : fopen(path, "re");
    if (r == 0 && !*ret && scan_is_shortage(errno))
        return -errno;
    return r;
}

int scan_open_directory(const struct holder_scan *scan, DIR **ret, const char *format, ...)
{
    char path[PATH_MAX];
    va_list args;
    int r;

    va_start(args, format);
    r = rooted_path(scan, path, format, args);
    va_end(args);
    *ret = r < 0 ? NULL : opendir(path);
    if (r == 0 && !*ret && scan_is_shortage(errno))
        return -errno;
    return r;
}

static bool is_known(const struct holder_scan *scan, enum holder_kind kind, const char *device,
                     const char *name)
{
    for (size_t i = 0; i < scan->found_count; i++) {
        const struct found_holder *found = &scan->found[i];

        if (found->holder.kind == kind && strcmp(found->holder.device, device) == 0 &&
            strlen(name) == found->key && strncmp(found->holder.name, name, found->key) == 0)
            return true;
    }
    return false;
}

static int make_room(struct holder_scan *scan)
{
    size_t capacity = scan->found_capacity ? scan->found_capacity * 2 : 16;
    struct found_holder *found;

    if (scan->found_count < scan->found_capacity)
        return 0;
    found = reallocarray(scan->found, capacity, sizeof *found);
    if (!found)
        return -ENOMEM;
    scan->found = found;
    scan->found_capacity = capacity;
    return 0;
}

int scan_add(struct holder_scan *scan, enum holder_kind kind, const struct held_device *device,
             const char *name, const char *remark)
{
    struct found_holder found = {.holder = {.kind = kind}};
    struct holder *holder = &found.holder;

    ktext_escape(name, holder->name, sizeof holder->name);
    if (scan->found_count >= FOUND_MAX || is_known(scan, kind, device->name, holder->name))
        return 0;
    found.key = strlen(holder->name);
    snprintf(holder->device, sizeof holder->device, "%s", device->name);
    ktext_escape(remark, holder->name + found.key, sizeof holder->name - found.key);
    if (make_room(scan) < 0)
        return -ENOMEM;
    scan->found[scan->found_count++] = found;
    return 0;
}

static void add_partition(struct holder_scan *scan, uint32_t index, unsigned number)
{
    struct held_device *device = &scan->devices[scan->devices_count];
    char path[PATH_MAX], text[64];

    snprintf(device->name, sizeof device->name, "nbd%" PRIu32 "p%u", index, number);
    if (ktext_path(path, sizeof path, "%s/sys/block/nbd%" PRIu32 "/%s/dev", scan->root, index,
                   device->name) == 0 &&
        ktext_read(path, text, sizeof text) > 0 &&
        ktext_device_number(text, &device->major, &device->minor) == 0)
        scan->devices_count++;
}

static int find_devices(struct holder_scan *scan, const struct nbd_device *device,
                        struct netlink_reason *reason)
{
    unsigned numbers[HELD_MAX - 1];
    int count = nbd_partitions(scan->root, device->index, numbers, HELD_MAX - 1, reason);

    if (count < 0)
        return count;
    scan->devices[0] = (struct held_device){.major = device->major, .minor = device->minor};
    snprintf(scan->devices[0].name, sizeof scan->devices[0].name, "nbd%" PRIu32, device->index);
    scan->devices_count = 1;
    for (int i = 0; i < count && i < HELD_MAX - 1; i++)
        add_partition(scan, device->index, numbers[i]);
    return 0;
}

static int scan_all(struct holder_scan *scan)
{
    int r = scan_stacked(scan);

    if (r == 0)
        r = scan_loops(scan);
    if (r == 0)
        r = scan_swaps(scan);
    /* First our own view, so that a mount that is here too goes by its plain name. */
    if (r == 0)
        r = scan_mounts_of(scan, "self", "");
    if (r == 0)
        r = scan_processes(scan);
    return r;
}

static void cleanup_scan(struct holder_scan **scan)
{
    if (*scan)
        free((*scan)->found);
    free(*scan);
}

int nbd_holders(const char *root, const struct nbd_device *device, pid_t except_pid, struct holder *list,
                size_t capacity, struct netlink_reason *reason)
{
    _cleanup_(cleanup_scan) struct holder_scan *scan = calloc(1, sizeof *scan);
    int r;

    if (!scan)
        return netlink_fail(reason, ENOMEM, NULL, "out of memory");
    scan->root = root;
    scan->except_pid = except_pid;
    r = find_devices(scan, device, reason);
    if (r < 0)
        return r;
    r = scan_all(scan);
    if (r < 0)
        return netlink_fail(reason, -r, NULL, "cannot find out who holds /dev/nbd%" PRIu32 ": %s",
                            device->index, strerror(-r));
    for (size_t i = 0; i < scan->found_count && i < capacity; i++)
        list[i] = scan->found[i].holder;
    return (int)scan->found_count;
}

char *holder_describe(const struct holder *holder)
{
    char *text = NULL;
    int n = -1;

    switch (holder->kind) {
    case HOLDER_MOUNT:
        n = asprintf(&text, "mounted on %s", holder->name);
        break;
    case HOLDER_SWAP:
        n = asprintf(&text, "swap space");
        break;
    case HOLDER_DEVICE:
        n = asprintf(&text, "held by %s", holder->name);
        break;
    case HOLDER_PROCESS:
        n = asprintf(&text, "open by %s", holder->name);
        break;
    }
    return n < 0 ? NULL : text;
}
