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
    char path[PATH_MAX];
    struct dirent *entry;

    if (!base || ktext_path(path, sizeof path, "%s/sys/fs/btrfs", scan->root) < 0)
        return NULL;
    directory = opendir(path);
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

int scan_mounts_of(struct holder_scan *scan, const char *process, const char *remark)
{
    _cleanup_fclose_ FILE *file = NULL;
    _cleanup_free_ char *line = NULL;
    char path[PATH_MAX];
    size_t size = 0;
    ssize_t length;

    if (ktext_path(path, sizeof path, "%s/proc/%s/mountinfo", scan->root, process) < 0)
        return -ENAMETOOLONG;
    file = fopen(path, "re");
    if (!file)
        return errno == ENOMEM ? -ENOMEM : 0;
    while ((length = getline(&line, &size, file)) > 0) {
        const struct held_device *device;
        struct mount_line mount;

        if (line[length - 1] == '\n')
            line[length - 1] = '\0';
        if (mount_line_parse(line, &mount) < 0)
            continue;
        device = match_mount(scan, &mount);
        if (device && scan_add(scan, HOLDER_MOUNT, device, mount.point, remark) < 0)
            return -ENOMEM;
    }
    return 0;
}

int scan_swaps(struct holder_scan *scan)
{
    _cleanup_fclose_ FILE *file = NULL;
    _cleanup_free_ char *line = NULL;
    char path[PATH_MAX];
    size_t size = 0;

    if (ktext_path(path, sizeof path, "%s/proc/swaps", scan->root) < 0)
        return -ENAMETOOLONG;
    /* Absent in a kernel without swap. */
    file = fopen(path, "re");
    while (file && getline(&line, &size, file) > 0) {
        const struct held_device *device;

        line[strcspn(line, " \t\n")] = '\0';
        ktext_unescape(line);
        device = scan_match_path(scan, line);
        if (device && scan_add(scan, HOLDER_SWAP, device, line, "") < 0)
            return -ENOMEM;
    }
    return 0;
}
