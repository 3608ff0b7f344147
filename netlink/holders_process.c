/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Processes: their open descriptors, and the mounts that only they see. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "holders_scan.h"
#include "ktext.h"
#include "scoped.h"

#define KERNEL_THREAD 0x00200000 /* PF_KTHREAD of include/linux/sched.h */

/* What one mountinfo shows: the mounts of a namespace, as far as a root directory reaches (chroot). */
struct view {
    char namespace[64];
    dev_t device;
    ino_t inode;
};

struct views {
    struct view *items;
    size_t count, capacity;
};

/* A second look at the same mounts costs time only, so what cannot be remembered is looked at again. */
#define VIEWS_MAX 4096

static void cleanup_views(struct views *views)
{
    free(views->items);
}

static int read_view(const char *root, const char *process, struct view *view)
{
    char path[PATH_MAX];
    struct stat st;
    ssize_t n;

    *view = (struct view){0};
    if (ktext_path(path, sizeof path, "%s/proc/%s/ns/mnt", root, process) < 0)
        return -ENAMETOOLONG;
    n = readlink(path, view->namespace, sizeof view->namespace - 1);
    if (n < 0)
        return -errno;
    if (ktext_path(path, sizeof path, "%s/proc/%s/root", root, process) == 0 && stat(path, &st) == 0) {
        view->device = st.st_dev;
        view->inode = st.st_ino;
    }
    return 0;
}

/* 1: seen before; 0: new, and remembered; -ENOMEM. */
static int remember(struct views *views, const struct view *view)
{
    for (size_t i = 0; i < views->count; i++)
        if (strcmp(views->items[i].namespace, view->namespace) == 0 &&
            views->items[i].device == view->device && views->items[i].inode == view->inode)
            return 1;
    if (views->count == VIEWS_MAX)
        return 0;
    if (views->count == views->capacity) {
        size_t capacity = views->capacity ? views->capacity * 2 : 16;
        struct view *items = reallocarray(views->items, capacity, sizeof *items);

        if (!items)
            return -ENOMEM;
        views->items = items;
        views->capacity = capacity;
    }
    views->items[views->count++] = *view;
    return 0;
}

static void read_command(const char *root, const char *process, char *command, size_t size)
{
    char path[PATH_MAX];

    if (ktext_path(path, sizeof path, "%s/proc/%s/comm", root, process) < 0 ||
        ktext_read(path, command, size) < 0)
        snprintf(command, size, "?");
}

static int scan_view(struct holder_scan *scan, const char *process, struct views *views)
{
    char command[64], remark[NAME_MAX + sizeof command + 32];
    struct view view;
    int r = read_view(scan->root, process, &view);

    r = r < 0 ? 1 : remember(views, &view);
    if (r != 0)
        return r < 0 ? r : 0;
    read_command(scan->root, process, command, sizeof command);
    snprintf(remark, sizeof remark, " (as %s, pid %s, sees it)", command, process);
    return scan_mounts_of(scan, process, remark);
}

/* udev looks at every device that changes, for a moment: it does not hold one. */
static bool is_udev(const char *command)
{
    static const char *const names[] = {"(udev-worker)", "systemd-udevd", "udevd", "udev-worker"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(command, names[i]) == 0)
            return true;
    return false;
}

/* The flags are the 7th field behind the name, which may itself hold blanks and parentheses. */
static bool is_kernel_thread(const char *root, const char *process)
{
    char path[PATH_MAX], text[2048];
    char *field, *rest;
    uint64_t flags;

    if (ktext_path(path, sizeof path, "%s/proc/%s/stat", root, process) < 0 ||
        ktext_read(path, text, sizeof text) < 0 || !(rest = strrchr(text, ')')) || rest[1] != ' ')
        return false;
    rest += 2;
    for (int i = 0; i < 6; i++)
        strsep(&rest, " ");
    field = strsep(&rest, " ");
    return field && ktext_decimal(field, UINT64_MAX, &flags) == 0 && (flags & KERNEL_THREAD);
}

/* The device behind a descriptor. No name is trusted, and no network file system asked (it may not answer).
 */
static const struct held_device *match_descriptor(const struct holder_scan *scan, int directory,
                                                  const char *name)
{
    struct statx st;

    if (statx(directory, name, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &st) < 0 ||
        !S_ISBLK(st.stx_mode))
        return NULL;
    return scan_match_number(scan, st.stx_rdev_major, st.stx_rdev_minor);
}

/* 1: it does not count, nor will its other descriptors; 0 or -errno. */
static int add_process(struct holder_scan *scan, const struct held_device *device, const char *process)
{
    char command[64], name[NAME_MAX + sizeof command + 32];

    read_command(scan->root, process, command, sizeof command);
    if (is_udev(command) || is_kernel_thread(scan->root, process))
        return 1;
    snprintf(name, sizeof name, "%s (pid %s)", command, process);
    return scan_add(scan, HOLDER_PROCESS, device, name, "");
}

static int scan_descriptors(struct holder_scan *scan, const char *process)
{
    _cleanup_closedir_ DIR *directory = NULL;
    struct dirent *entry;
    int r = scan_open_directory(scan, &directory, "/proc/%s/fd", process);

    while (r == 0 && directory && (entry = readdir(directory))) {
        const struct held_device *device = match_descriptor(scan, dirfd(directory), entry->d_name);

        if (device)
            r = add_process(scan, device, process);
    }
    return r < 0 ? r : 0;
}

static int scan_process(struct holder_scan *scan, const char *process, struct views *views)
{
    uint64_t pid;
    int r;

    if (ktext_decimal(process, INT32_MAX, &pid) < 0)
        return 0;
    r = scan_view(scan, process, views);
    if (r < 0 || (pid_t)pid == getpid() || (scan->except_pid > 0 && (pid_t)pid == scan->except_pid))
        return r;
    return scan_descriptors(scan, process);
}

int scan_processes(struct holder_scan *scan)
{
    _cleanup_(cleanup_views) struct views views = {0};
    _cleanup_closedir_ DIR *directory = NULL;
    char path[PATH_MAX];
    struct dirent *entry;
    struct view own;
    int r = 0;

    if (ktext_path(path, sizeof path, "%s/proc", scan->root) < 0)
        return -ENAMETOOLONG;
    directory = opendir(path);
    if (!directory)
        return -errno;
    if (read_view(scan->root, "self", &own) == 0)
        r = remember(&views, &own);
    while (r >= 0 && (entry = readdir(directory)))
        r = scan_process(scan, entry->d_name, &views);
    return r < 0 ? r : 0;
}
