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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"

#define NS_PER_MS     UINT64_C(1000000)
#define REAP_STEP_NS  (2 * NS_PER_MS) /* where there are no pidfds */
/* udev opens what it probes for a moment; a holder that matters stays. */
#define CLAIM_TRIES   100
#define CLAIM_STEP_MS 20

/* Words of the parent. */
enum { AGAIN = 'a', DISCONNECTED = 'd' };

/* What the child works on. */
struct job {
    const struct nbd_device *device;
    bool forced;
    const unsigned *partitions;
    size_t partitions_count;
};

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

/* A file, or another device's node, by the device's name: to flush it would prove nothing. */
static int check_node(int fd, const struct nbd_device *device)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    return S_ISBLK(st.st_mode) && st.st_rdev == makedev(device->major, device->minor) ? 0 : -ENODEV;
}

static int open_disk(const struct job *job)
{
    int flags = O_RDONLY | O_CLOEXEC | (job->forced ? 0 : O_EXCL);
    char path[64];

    snprintf(path, sizeof path, "/dev/nbd%u", job->device->index);
    for (int try = 0; try < CLAIM_TRIES; try++) {
        int fd = open(path, flags);

        if (fd >= 0)
            return fd;
        if (errno != EBUSY)
            return -errno;
        poll(NULL, 0, CLAIM_STEP_MS);
    }
    return -EBUSY;
}

/* Each partition has a page cache of its own, so each is flushed. */
static int flush_all(int fd, const struct job *job)
{
    char path[64];
    int r = 0;

    for (size_t i = 0; i < job->partitions_count && r == 0; i++) {
        snprintf(path, sizeof path, "/dev/nbd%up%u", job->device->index, job->partitions[i]);
        r = flush_node(path);
    }
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    return r;
}

/* The claim on the whole disk comes first: a mounted or otherwise claimed partition refuses it. */
static int claim_and_flush(int *fd, const struct job *job)
{
    int r;

    *fd = open_disk(job);
    if (*fd < 0)
        return *fd;
    r = check_node(*fd, job->device);
    if (r < 0)
        return r;
    flock(*fd, LOCK_EX | LOCK_NB); /* udev leaves a locked disk alone; without the lock we are only slower */
    return flush_all(*fd, job);
}

static bool tell(int fd, int result)
{
    return write(fd, &result, sizeof result) == sizeof result;
}

/* The parent's next word; 0 when it has closed its end. */
static char listen_to_parent(int fd)
{
    char word = '\0';
    ssize_t n;

    do
        n = read(fd, &word, 1);
    while (n < 0 && errno == EINTR);
    return word;
}

static _Noreturn void child(int result_fd, int command_fd, const struct job *job)
{
    int fd, result;
    char word;

    signal(SIGINT, SIG_IGN); /* the parent is told, and tells us */
    signal(SIGHUP, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "nbdctl-flush"); /* what a later detach sees, should this one be stuck */
    result = claim_and_flush(&fd, job);
    if (!tell(result_fd, result) || (result < 0 && !job->forced))
        _exit(1);
    while ((word = listen_to_parent(command_fd)) == AGAIN)
        if (!tell(result_fd, flush_all(fd, job)))
            _exit(1);
    /* Partitions of a disconnected device lead nowhere; without the word all stays as it was. */
    for (size_t i = 0; i < job->partitions_count && word == DISCONNECTED; i++)
        drop_partition(fd, job->partitions[i]);
    _exit(0);
}

static int make_pipes(int result[2], int command[2], struct failure *failure)
{
    int error;

    if (pipe2(result, O_CLOEXEC) < 0)
        return fail(failure, errno, "cannot make a pipe: %s", strerror(errno));
    if (pipe2(command, O_CLOEXEC) == 0)
        return 0;
    error = errno;
    close(result[0]);
    close(result[1]);
    return fail(failure, error, "cannot make a pipe: %s", strerror(error));
}

int flusher_start(struct flusher *flusher, const struct nbd_device *device, bool forced,
                  const unsigned *partitions, size_t count, struct failure *failure)
{
    const struct job job = {
        .device = device, .forced = forced, .partitions = partitions, .partitions_count = count};
    int result[2], command[2];
    int r = make_pipes(result, command, failure);
    pid_t pid;

    if (r < 0)
        return r;
    pid = fork();
    if (pid == 0) {
        close(result[0]);
        close(command[1]);
        child(result[1], command[0], &job);
    }
    close(result[1]);
    close(command[0]);
    *flusher = (struct flusher){.pid = pid, .result_fd = result[0], .command_fd = command[1]};
    if (pid > 0)
        return 0;
    cleanup_close(&flusher->result_fd);
    cleanup_close(&flusher->command_fd);
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

static bool say(const struct flusher *flusher, char word)
{
    return write(flusher->command_fd, &word, 1) == 1;
}

int flusher_again(struct flusher *flusher, const struct deadline *deadline)
{
    return say(flusher, AGAIN) ? flusher_wait(flusher, deadline) : -ECHILD;
}

/* As long as the deadline lets it: a child that the kernel holds is left to itself. */
static void reap(pid_t pid, const struct deadline *deadline)
{
    _cleanup_close_ int end_fd = (int)syscall(SYS_pidfd_open, pid, 0);

    while (waitpid(pid, NULL, WNOHANG) == 0 && deadline_remaining_ms(deadline) != 0) {
        struct deadline step = deadline_after(REAP_STEP_NS, -1);

        if (end_fd >= 0)
            step.at_ns = deadline->at_ns;
        deadline_poll(&step, end_fd, POLLIN);
    }
}

void flusher_end(struct flusher *flusher, bool disconnected, const struct deadline *deadline)
{
    cleanup_close(&flusher->result_fd);
    if (!disconnected || !say(flusher, DISCONNECTED))
        kill(flusher->pid, SIGKILL);
    cleanup_close(&flusher->command_fd);
    reap(flusher->pid, deadline);
}
