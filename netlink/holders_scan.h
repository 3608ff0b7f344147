/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One search for holders: what is searched for, and what was found. Shared by the holders*.c files. */
#pragma once

#include <dirent.h>
#include <stdio.h>

#include "sysfs.h"

/* The kernel's DISK_MAX_PARTS and the disk itself. */
#define HELD_MAX 257

/* Of so many mapped files is remembered that they are none of the devices (64-bit hashes, 32 KiB). */
#define MAPPED_MAX 4096

struct held_device {
    char name[32];
    uint32_t major, minor;
};

struct found_holder {
    struct holder holder;
    size_t key; /* bytes of the name by which it is recognised when it is found again */
};

struct holder_scan {
    const char *root;
    pid_t except_pid;
    struct held_device devices[HELD_MAX];
    size_t devices_count;
    struct found_holder *found;
    size_t found_count, found_capacity;
    uint64_t mapped[MAPPED_MAX];
};

/* Which of the devices that is, NULL for none of them. A path is compared by name and by what it leads to. */
const struct held_device *scan_match_number(const struct holder_scan *scan, uint32_t major, uint32_t minor);
const struct held_device *scan_match_path(const struct holder_scan *scan, const char *path);

/*
 * The device that an open file is, by a link of /proc to it. 0 and *device (NULL: none of ours), or -errno.
 * No name is trusted, and no network file system asked.
 */
int scan_match_file(const struct holder_scan *scan, int directory, const char *path,
                    const struct held_device **device);

/* Notes a holder once; name is escaped, remark ("" for none) follows it and does not tell holders apart. 0 or
 * -ENOMEM. */
int scan_add(struct holder_scan *scan, enum holder_kind kind, const struct held_device *device,
             const char *name, const char *remark);

/* Notes a process. 1: it does not count, nor will what else it has open; 0 or -errno. */
int scan_add_process(struct holder_scan *scan, const struct held_device *device, const char *process);

/* Only of these errors can a holder be missed; the rest means that there is nothing to see. */
bool scan_is_shortage(int error);

/*
 * Open what is below the root, the caller's to close: 0 and NULL when it is not there (any more) or not ours
 * to see, -errno when it cannot be told because memory or descriptors ran out.
 */
int scan_open_file(const struct holder_scan *scan, FILE **ret, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int scan_open_directory(const struct holder_scan *scan, DIR **ret, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The searches: 0 or -errno. What vanishes while they look is no error. */
int scan_mounts_of(struct holder_scan *scan, const char *process,
                   const char *remark); /* "self" or a number */
int scan_swaps(struct holder_scan *scan);
int scan_stacked(struct holder_scan *scan);
int scan_loops(struct holder_scan *scan);
int scan_processes(struct holder_scan *scan);

/* /proc/THREAD shows what a process has mapped, process is its pid. */
int scan_mappings(struct holder_scan *scan, const char *process, const char *thread);

/* One line of mountinfo(5), taken apart in place (modified, unescaped); 0 or -EBADMSG. Free of I/O. */
struct mount_line {
    uint32_t major, minor;
    char *point, *type, *source, *options;
};

int mount_line_parse(char *line, struct mount_line *mount);
