/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mounts, by whatever leads from a mount to a device: its number, its source, its options, its other devices.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "holders_scan.h"
#include "ktext.h"
#include "scoped.h"

int mount_line_parse(char *line, struct mount_line *mount)
{
    char *number, *field;

    strsep(&line, " ");
    strsep(&line, " ");
    number = strsep(&line, " ");
    strsep(&line, " ");
    mount->point = strsep(&line, " ");
    strsep(&line, " ");
    /* Any number of optional fields, then a hyphen. */
    while ((field = strsep(&line, " ")) && strcmp(field, "-") != 0)
        ;
    mount->type = strsep(&line, " ");
    mount->source = strsep(&line, " ");
    mount->options = line;
    if (!mount->options || ktext_device_number(number, &mount->major, &mount->minor) < 0)
        return -EBADMSG;
    ktext_unescape(mount->point);
    ktext_unescape(mount->source);
    return 0;
}

/* An external journal or log: "logdev=/dev/nbd0". */
static const struct held_device *match_options(const struct holder_scan *scan, char *options)
{
    char *option;

    while ((option = strsep(&options, ","))) {
        const char *value = strchr(option, '=');
        const struct held_device *device = value ? scan_match_path(scan, value + 1) : NULL;

        if (device)
            return device;
    }
    return NULL;
}

static bool btrfs_has(const char *root, const char *uuid, const char *device)
{
    char path[PATH_MAX];

    return ktext_path(path, sizeof path, "%s/sys/fs/btrfs/%s/devices/%s", root, uuid, device) == 0 &&
           access(path, F_OK) == 0;
}

/* A btrfs of several devices is mounted by the name of one, under a device number of none. */
static const struct held_device *match_btrfs(const struct holder_scan *scan, const char *source)
{
    _cleanup_closedir_ DIR *directory = NULL;
    const char *base = strrchr(source, '/');
    struct dirent *entry;

    if (!base || scan_open_directory(scan, &directory, "/sys/fs/btrfs") < 0)
        return NULL;
    while (directory && (entry = readdir(directory))) {
        if (entry->d_name[0] == '.' || !btrfs_has(scan->root, entry->d_name, base + 1))
            continue;
        for (size_t i = 0; i < scan->devices_count; i++)
            if (btrfs_has(scan->root, entry->d_name, scan->devices[i].name))
                return &scan->devices[i];
    }
    return NULL;
}

static const struct held_device *match_mount(const struct holder_scan *scan, const struct mount_line *mount)
{
    const struct held_device *device = scan_match_number(scan, mount->major, mount->minor);

    if (!device)
        device = scan_match_path(scan, mount->source);
    if (!device && strcmp(mount->type, "btrfs") == 0)
        device = match_btrfs(scan, mount->source);
    return device ? device : match_options(scan, mount->options);
}

/* One line of mountinfo. */
static int scan_mount(struct holder_scan *scan, char *line, const char *remark)
{
    const struct held_device *device;
    struct mount_line mount;

    line[strcspn(line, "\n")] = '\0';
    if (mount_line_parse(line, &mount) < 0)
        return 0;
    device = match_mount(scan, &mount);
    return device ? scan_add(scan, HOLDER_MOUNT, device, mount.point, remark) : 0;
}

/* One line of swaps. */
static int scan_swap(struct holder_scan *scan, char *line, const char *remark)
{
    const struct held_device *device;

    line[strcspn(line, " \t\n")] = '\0';
    ktext_unescape(line);
    device = scan_match_path(scan, line);
    return device ? scan_add(scan, HOLDER_SWAP, device, line, remark) : 0;
}

typedef int (*scan_line)(struct holder_scan *scan, char *line, const char *remark);

static int scan_lines(struct holder_scan *scan, FILE *file, scan_line function, const char *remark)
{
    _cleanup_free_ char *line = NULL;
    size_t size = 0;
    int r = 0;

    while (r == 0) {
        errno = 0;
        if (getline(&line, &size, file) < 0)
            /* A process that ends takes the rest of its file with it. */
            return errno == ENOMEM ? -ENOMEM : 0;
        r = function(scan, line, remark);
    }
    return r;
}

int scan_mounts_of(struct holder_scan *scan, const char *process, const char *remark)
{
    _cleanup_fclose_ FILE *file = NULL;
    int r = scan_open_file(scan, &file, "/proc/%s/mountinfo", process);

    return file ? scan_lines(scan, file, scan_mount, remark) : r;
}

int scan_swaps(struct holder_scan *scan)
{
    _cleanup_fclose_ FILE *file = NULL;
    int r = scan_open_file(scan, &file, "/proc/swaps");

    /* Absent in a kernel without swap. */
    return file ? scan_lines(scan, file, scan_swap, "") : r;
}
