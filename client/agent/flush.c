/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/flush.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"

#define NS_PER_MS     UINT64_C(1000000)
#define REAP_STEP_NS  (2 * NS_PER_MS)
/* udev opens what it probes for a moment; a holder that matters stays. */
#define CLAIM_TRIES   100
#define CLAIM_STEP_MS 20

static int flush_node(const char *path)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

    /* A partition that vanished meanwhile has nothing left to flush. */
    if (fd < 0)
        return errno == ENOENT || errno == ENXIO ? 0 : -errno;
    return fsync(fd) < 0 ? -errno : 0;
}

/* Deleting a partition fails while anybody has it open, udev among them. */
static void drop_partition(int fd, unsigned number)
{
    struct blkpg_partition partition = {.pno = (int)number};
    struct blkpg_ioctl_arg arg = {.op = BLKPG_DEL_PARTITION, .datalen = sizeof partition, .data = &partition};

    for (int try = 0; try < CLAIM_TRIES; try++) {
        if (ioctl(fd, BLKPG, &arg) == 0 || errno != EBUSY)
            return;
        poll(NULL, 0, CLAIM_STEP_MS);
    }
}

static int claim(const char *path)
{
    for (int try = 0; try < CLAIM_TRIES; try++) {
        int fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);

        if (fd >= 0 || errno != EBUSY)
            return fd < 0 ? -errno : fd;
        poll(NULL, 0, CLAIM_STEP_MS);
    }
    return -EBUSY;
}

/*
 * Each partition has a page cache of its own, so each is flushed. The claim on the whole disk comes first: a
 * mounted or otherwise claimed partition refuses it. Returns the descriptor that is the claim, or -errno.
 */
static int flush_disk(uint32_t index, const unsigned *partitions, size_t count)
{
    char path[64];
    int fd, r = 0;

    snprintf(path, sizeof path, "/dev/nbd%u", index);
    fd = claim(path);
    if (fd < 0)
        return fd;
    flock(fd, LOCK_EX | LOCK_NB); /* udev leaves a locked disk alone; without the lock we are only slower */
    for (size_t i = 0; i < count && r == 0; i++) {
        snprintf(path, sizeof path, "/dev/nbd%up%u", index, partitions[i]);
        r = flush_node(path);
    }
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    return r < 0 ? r : fd; /* open: it is the claim */
}

static _Noreturn void child(int result_fd, int release_fd, uint32_t index, const unsigned *partitions,
                            size_t count)
{
    int claimed, result;
    ssize_t word;
    char byte;

    signal(SIGINT, SIG_IGN); /* the parent is told, and tells us */
    signal(SIGHUP, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    claimed = flush_disk(index, partitions, count);
    result = claimed < 0 ? claimed : 0;
    if (write(result_fd, &result, sizeof result) != sizeof result || claimed < 0)
        _exit(1);
    do
        word = read(release_fd, &byte, 1);
    while (word < 0 && errno == EINTR);
    /* One byte: the device is disconnected, and its partitions lead nowhere. None: all stays as it was. */
    for (size_t i = 0; i < count && word == 1; i++)
        drop_partition(claimed, partitions[i]);
    _exit(0);
}

int flusher_start(struct flusher *flusher, uint32_t index, const unsigned *partitions, size_t count,
                  struct failure *failure)
{
    int result[2], release[2];
    pid_t pid;

    if (pipe2(result, O_CLOEXEC) < 0)
        return fail(failure, errno, "cannot make a pipe: %s", strerror(errno));
    if (pipe2(release, O_CLOEXEC) < 0) {
        int error = errno;

        close(result[0]);
        close(result[1]);
        return fail(failure, error, "cannot make a pipe: %s", strerror(error));
    }
    pid = fork();
    if (pid == 0) {
        close(result[0]);
        close(release[1]);
        child(result[1], release[0], index, partitions, count);
    }
    close(result[1]);
    close(release[0]);
    *flusher = (struct flusher){.pid = pid, .result_fd = result[0], .release_fd = release[1]};
    if (pid > 0)
        return 0;
    cleanup_close(&flusher->result_fd);
    cleanup_close(&flusher->release_fd);
    return fail(failure, EAGAIN, "cannot start a process");
}

int flusher_wait(struct flusher *flusher, const struct deadline *deadline)
{
    int result;
    int r = deadline_poll(deadline, flusher->result_fd, POLLIN);

    if (r < 0)
        return r;
    return read(flusher->result_fd, &result, sizeof result) == sizeof result ? result : -ECHILD;
}

void flusher_end(struct flusher *flusher, bool disconnected, const struct deadline *deadline)
{
    struct deadline left = {.at_ns = deadline->at_ns, .cancel_fd = -1};
    char byte = 1;

    cleanup_close(&flusher->result_fd);
    if (!disconnected || write(flusher->release_fd, &byte, 1) != 1)
        kill(flusher->pid, SIGKILL);
    cleanup_close(&flusher->release_fd);
    while (waitpid(flusher->pid, NULL, WNOHANG) == 0 && deadline_remaining_ms(&left) != 0) {
        struct deadline step = deadline_after(REAP_STEP_NS, -1);

        deadline_poll(&step, -1, 0);
    }
}
