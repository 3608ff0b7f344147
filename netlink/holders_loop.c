/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Loop devices on top: no holders/ lists them. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "holders_scan.h"
#include "ktext.h"
#include "scoped.h"

static bool is_below(const char *path, const char *point)
{
    size_t length = strlen(point);

    return strcmp(point, "/") == 0 ||
           (strncmp(path, point, length) == 0 && (path[length] == '/' || path[length] == '\0'));
}

/* It answers although no server or daemon does: it is on a block device, or one of these. */
static bool is_local(const struct mount_line *mount)
{
    static const char *const types[] = {"bcachefs", "btrfs",  "devtmpfs", "overlay",
                                        "ramfs",    "rootfs", "tmpfs",    "zfs"};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(mount->type, types[i]) == 0)
            return true;
    return mount->major != 0;
}

/* By our own mounts; where the loop device was made, there may be others. */
static bool is_local_path(const struct holder_scan *scan, const char *path)
{
    _cleanup_fclose_ FILE *file = NULL;
    _cleanup_free_ char *line = NULL;
    size_t size = 0, longest = 0;
    struct mount_line mount;
    bool local = true;

    if (scan_open_file(scan, &file, "/proc/self/mountinfo") < 0)
        return false;
    while (file && getline(&line, &size, file) > 0)
        /* Of several mounts on one point, the last is on top. */
        if (mount_line_parse(line, &mount) == 0 && is_below(path, mount.point) &&
            strlen(mount.point) >= longest) {
            longest = strlen(mount.point);
            local = is_local(&mount);
        }
    return local;
}

/* The node that goes by the name of a loop device could be another's. */
static bool is_device(const struct holder_scan *scan, int fd, const char *name)
{
    char path[PATH_MAX], text[64];
    uint32_t major, minor;
    struct stat st;

    return ktext_path(path, sizeof path, "%s/sys/block/%s/dev", scan->root, name) == 0 &&
           ktext_read(path, text, sizeof text) > 0 && ktext_device_number(text, &major, &minor) == 0 &&
           fstat(fd, &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == makedev(major, minor);
}

/* Path or no path, the driver knows on what it sits. 0 or -errno; *ret: NULL for none of ours. */
static int ask_driver(const struct holder_scan *scan, const char *name, const struct held_device **ret)
{
    _cleanup_close_ int fd = -1;
    struct loop_info64 info;
    char path[PATH_MAX];

    *ret = NULL;
    if (ktext_path(path, sizeof path, "%s/dev/%s", scan->root, name) < 0)
        return -ENAMETOOLONG;
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return scan_is_shortage(errno) ? -errno : 0;
    if (!is_device(scan, fd, name) || ioctl(fd, LOOP_GET_STATUS64, &info) < 0)
        return 0;
    *ret = scan_match_number(scan, major(info.lo_rdevice), minor(info.lo_rdevice));
    return 0;
}

static int scan_loop(struct holder_scan *scan, const char *name)
{
    char path[PATH_MAX], backing[PATH_MAX];
    const struct held_device *device;
    int r = 0;

    if (strncmp(name, "loop", 4) != 0 ||
        ktext_path(path, sizeof path, "%s/sys/block/%s/loop/backing_file", scan->root, name) < 0 ||
        ktext_read(path, backing, sizeof backing) <= 0)
        return 0;
    device = scan_match_path(scan, backing);
    /* A node outside our /dev. The driver asks the file's file system, which may not answer. */
    if (!device && is_local_path(scan, backing))
        r = ask_driver(scan, name, &device);
    return device ? scan_add(scan, HOLDER_DEVICE, device, name, "") : r;
}

int scan_loops(struct holder_scan *scan)
{
    _cleanup_closedir_ DIR *directory = NULL;
    struct dirent *entry;
    int r = scan_open_directory(scan, &directory, "/sys/block");

    while (r == 0 && directory && (entry = readdir(directory)))
        r = scan_loop(scan, entry->d_name);
    return r;
}
