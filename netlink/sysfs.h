/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the kernel says of its block devices in sysfs and procfs. All paths hang off a root ("" in production,
 * a folder in tests), so that every branch is tested on a mocked tree.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "nbd.h"
#include "reason.h"

/* One nbd device as sysfs has it. A device is attached exactly when it has a pid attribute. Absent values are
 * 0. */
struct nbd_device {
    uint32_t index;
    bool attached;
    pid_t pid;     /* the process that connected it; it may be gone. 0 when not attached */
    uint64_t size; /* bytes */
    bool read_only;
    uint32_t major, minor;
    uint32_t logical_block_size;
    uint32_t max_sectors_kb, max_hw_sectors_kb;
    uint64_t write_zeroes_max;         /* bytes; 0: the driver sends no WRITE_ZEROES */
    uint64_t diskseq;                  /* 0 where the kernel has none */
    char backend[NBD_BACKEND_MAX + 1]; /* backend identifier, unescaped, cut; "" when there is none */
};

/* -ENODEV: no such device, or it vanished meanwhile. -EBADMSG: an attribute makes no sense. */
int nbd_device_read(const char *root, uint32_t index, struct nbd_device *device,
                    struct netlink_reason *reason);

/* Whether the device is still attached as it was when it was read, and has not been attached anew since. */
bool nbd_device_same(const char *root, const struct nbd_device *device);

/*
 * All nbd devices in /sys/block in order of index (attached or not). *list is owned by the caller (free; NULL
 * when there are none). Count or -errno.
 */
int nbd_device_list(const char *root, struct nbd_device **list, struct netlink_reason *reason);

/* A kernel name, "nbd3" or "nbd3p1": 0, *index and *partition (0: the disk), or -EINVAL. */
int nbd_name_parse(const char *name, uint32_t *index, unsigned *partition);

/*
 * The index a person means by "/dev/nbd3", "nbd3", "3" or a symlink to such a node (/dev/disk/by-id/…): 0 and
 * *index; -EINVAL: not the name of an nbd device. -ENODEV: it does not exist; *index is set nevertheless when
 * the name alone tells it (CONNECT can make it), and NBD_INDEX_ANY otherwise. A partition (nbd0p1) is
 * refused, naming the disk.
 */
int nbd_device_resolve(const char *root, const char *name, uint32_t *index, struct netlink_reason *reason);

/* Writes a decimal to /sys/block/nbdX/queue/ATTRIBUTE. -ENODEV: no such device or attribute; -EINVAL:
 * refused. */
int nbd_queue_set(const char *root, uint32_t index, const char *attribute, uint64_t value,
                  struct netlink_reason *reason);

/* Partition numbers of a disk, as sysfs lists them, ascending; at most capacity written; count or -errno. */
int nbd_partitions(const char *root, uint32_t index, unsigned *numbers, size_t capacity,
                   struct netlink_reason *reason);

enum holder_kind {
    HOLDER_MOUNT,  /* mounted: name is the mount point, and who sees it where we do not */
    HOLDER_SWAP,   /* active swap */
    HOLDER_DEVICE, /* dm, md, bcache, loop...: name is the holding block device, "dm-0 (vg-root)" */
    HOLDER_PROCESS /* has it open or mapped: name is "qemu (pid 812)" */
};

struct holder {
    enum holder_kind kind;
    char device[32]; /* the disk or partition that is held: "nbd0p1" */
    char name[256];  /* escaped for a terminal */
};

/*
 * Who holds the disk or a partition of it: sysfs holders/ and loop devices, /proc/swaps, mounts in any mount
 * namespace that /proc shows (/proc/[pid]/mountinfo, each namespace once), and open descriptors and mappings
 * (/proc/[pid]/fd, map_files) of other processes than this one and except_pid (0: none), and not of udev's
 * probes. Count (may exceed capacity) or -errno. The kernel's own users (LIO, nvmet, ZFS, a mount namespace
 * without a process) leave no trace here: a last open with O_EXCL finds them. Without root, other users'
 * processes are passed over.
 */
int nbd_holders(const char *root, const struct nbd_device *device, pid_t except_pid, struct holder *list,
                size_t capacity, struct netlink_reason *reason);

/* "mounted on /mnt", "swap space", "held by dm-0 (vg-root)", "open by qemu (pid 812)"; new, NULL out of
 * memory. */
char *holder_describe(const struct holder *holder);
