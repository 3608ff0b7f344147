/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Processes: what they have open, and the mounts that only they see. */
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

static int read_view(const char *root, const char *thread, struct view *view)
{
    char path[PATH_MAX];
    struct stat st;
    ssize_t n;

    *view = (struct view){0};
    if (ktext_path(path, sizeof path, "%s/proc/%s/ns/mnt", root, thread) < 0)
        return -ENAMETOOLONG;
    n = readlink(path, view->namespace, sizeof view->namespace - 1);
    if (n < 0)
        return -errno;
    if (ktext_path(path, sizeof path, "%s/proc/%s/root", root, thread) == 0 && stat(path, &st) == 0) {
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

static int scan_view(struct holder_scan *scan, const char *process, const char *thread, struct views *views)
{
    char command[64], remark[NAME_MAX + sizeof command + 32];
    struct view view;
    int r = read_view(scan->root, thread, &view);

    r = r < 0 ? 1 : remember(views, &view);
    if (r != 0)
        return r < 0 ? r : 0;
    read_command(scan->root, process, command, sizeof command);
    snprintf(remark, sizeof remark, " (as %s, pid %s, sees it)", command, process);
    return scan_mounts_of(scan, thread, remark);
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

/* /proc/PID/stat behind the name, which may itself hold blanks and parentheses: from the state on. NULL. */
static char *read_status(const char *root, const char *process, char *text, size_t size)
{
    char path[PATH_MAX], *end;

    if (ktext_path(path, sizeof path, "%s/proc/%s/stat", root, process) < 0 ||
        ktext_read(path, text, size) < 0 || !(end = strrchr(text, ')')) || end[1] != ' ')
        return NULL;
    return end + 2;
}

/* status: of read_status(), taken apart. */
static bool is_kernel_thread(char *status)
{
    uint64_t flags;
    char *field;

    for (int i = 0; i < 6; i++)
        strsep(&status, " ");
    field = strsep(&status, " ");
    return field && ktext_decimal(field, UINT64_MAX, &flags) == 0 && (flags & KERNEL_THREAD);
}

int scan_match_file(const struct holder_scan *scan, int directory, const char *path,
                    const struct held_device **device)
{
    struct statx st;

    *device = NULL;
    if (statx(directory, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &st) < 0)
        return -errno;
    if (S_ISBLK(st.stx_mode))
        *device = scan_match_number(scan, st.stx_rdev_major, st.stx_rdev_minor);
    return 0;
}

int scan_add_process(struct holder_scan *scan, const struct held_device *device, const char *process)
{
    char command[64], name[NAME_MAX + sizeof command + 32], text[2048];

    read_command(scan->root, process, command, sizeof command);
    if (is_udev(command) || is_kernel_thread(read_status(scan->root, process, text, sizeof text)))
        return 1;
    snprintf(name, sizeof name, "%s (pid %s)", command, process);
    return scan_add(scan, HOLDER_PROCESS, device, name, "");
}

/* 1: the process does not count. */
static int scan_descriptors(struct holder_scan *scan, const char *process, const char *thread)
{
    _cleanup_closedir_ DIR *directory = NULL;
    const struct held_device *device;
    struct dirent *entry;
    int r = scan_open_directory(scan, &directory, "/proc/%s/fd", thread);

    while (r == 0 && directory && (entry = readdir(directory)))
        if (entry->d_name[0] != '.' && scan_match_file(scan, dirfd(directory), entry->d_name, &device) == 0 &&
            device)
            r = scan_add_process(scan, device, process);
    return r;
}

static bool is_excepted(const struct holder_scan *scan, pid_t pid)
{
    return pid == getpid() || (scan->except_pid > 0 && pid == scan->except_pid);
}

/* thread: what /proc has it under, "812" or "812/task/813"; number: "813". */
static int scan_thread(struct holder_scan *scan, const char *process, const char *thread, const char *number,
                       struct views *views)
{
    int r = scan_view(scan, process, thread, views);
    uint64_t pid = 0;

    if (r < 0 || (ktext_decimal(process, INT32_MAX, &pid) == 0 && is_excepted(scan, (pid_t)pid)))
        return r;
    r = scan_descriptors(scan, process, thread);
    if (r == 0)
        /* map_files is not below task; but /proc has every thread by its number, though it lists it not. */
        r = scan_mappings(scan, process, number);
    return r < 0 ? r : 0;
}

static int scan_other_threads(struct holder_scan *scan, const char *process, struct views *views)
{
    _cleanup_closedir_ DIR *directory = NULL;
    char thread[2 * NAME_MAX + 16];
    struct dirent *entry;
    int r = scan_open_directory(scan, &directory, "/proc/%s/task", process);

    while (r == 0 && directory && (entry = readdir(directory))) {
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, process) == 0)
            continue;
        snprintf(thread, sizeof thread, "%s/task/%s", process, entry->d_name);
        r = scan_thread(scan, process, thread, entry->d_name, views);
    }
    return r;
}

static int scan_process(struct holder_scan *scan, const char *process, struct views *views)
{
    char text[2048], *status;
    uint64_t pid;

    if (ktext_decimal(process, INT32_MAX, &pid) < 0)
        return 0;
    status = read_status(scan->root, process, text, sizeof text);
    /* What the threads share, /proc/PID shows only while the first of them lives. */
    if (status && status[0] == 'Z')
        return scan_other_threads(scan, process, views);
    /* Most of what runs on an idle machine. It has nothing open that counts, but may see mounts. */
    if (is_kernel_thread(status))
        return scan_view(scan, process, process, views);
    return scan_thread(scan, process, process, process, views);
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
