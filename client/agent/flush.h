/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "deadline.h"
#include "failure.h"
#include "netlink/sysfs.h"

/*
 * A child process that claims a disk (O_EXCL: no mount, no dm, no swap can come in between), writes what the
 * page cache holds of it and of its partitions, and asks the server to flush. It keeps the claim until it is
 * told that the device is disconnected, then drops the partitions. A process, since fsync(2) on a dead link
 * cannot be interrupted: we can leave it, not a thread.
 */
struct flusher {
    pid_t pid;
    int result_fd;  /* the child's verdicts arrive here */
    int command_fd; /* what it is to do; closing it lets the child go */
};

/* forced: without the claim, since somebody may have it; what can be flushed is. */
int flusher_start(struct flusher *flusher, const struct nbd_device *device, bool forced,
                  const unsigned *partitions, size_t partitions_count, struct failure *failure);

/* 0: flushed and claimed; the child's -errno (-EBUSY: somebody holds it), -ETIMEDOUT or -ECANCELED. */
int flusher_wait(struct flusher *flusher, const struct deadline *deadline);

/* Flushes once more, under the same claim; results as those of flusher_wait(). */
int flusher_again(struct flusher *flusher, const struct deadline *deadline);

/*
 * Lets go of the claim, ends the child and reaps it; partitions are dropped only when the device is
 * disconnected. Waits for a child in an uninterruptible fsync no longer than the deadline.
 */
void flusher_end(struct flusher *flusher, bool disconnected, const struct deadline *deadline);
