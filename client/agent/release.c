/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/release.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/control.h"
#include "agent/disconnect.h"
#include "agent/flush.h"
#include "agent/kernel_failure.h"
#include "agent/state.h"
#include "agent/unflushed.h"
#include "cleanup.h"
#include "netlink/sysfs.h"

#define PARTITIONS_MAX 256
#define HOLDERS_MAX    32
#define HOLDERS_NAMED  4
#define HOLDERS_TEXT   900
#define NS_PER_S       UINT64_C(1000000000)
/* After DISCONNECT the kernel fails all I/O, so whoever waits for it comes back soon. */
#define GONE_NS        (10 * NS_PER_S)
#define AGENT_NS       (3 * NS_PER_S)

/* "nbd0 is mounted on /mnt; nbd0p1 is open by qemu (pid 812)"; count or -errno. */
static int describe_holders(const struct nbd_device *device, pid_t except_pid, char *text,
                            struct netlink_reason *reason)
{
    struct holder holders[HOLDERS_MAX];
    int count = nbd_holders("", device, except_pid, holders, HOLDERS_MAX, reason);
    size_t used = 0;

    *text = '\0';
    for (int i = 0; i < count && i < HOLDERS_NAMED; i++) {
        _cleanup_free_ char *one = holder_describe(&holders[i]);
        int n = snprintf(text + used, HOLDERS_TEXT - used, "%s%s is %s", i ? "; " : "", holders[i].device,
                         one ? one : "held");

        used += n > 0 && (size_t)n < HOLDERS_TEXT - used ? (size_t)n : 0;
    }
    if (count > HOLDERS_NAMED)
        snprintf(text + used, HOLDERS_TEXT - used, "; and %d more", count - HOLDERS_NAMED);
    return count;
}

static int refuse_held(uint32_t index, const char *holders, struct failure *failure)
{
    return fail_hint(
        failure, fail(failure, EBUSY, "/dev/nbd%u is in use: %s", index, holders),
        "unmount or stop what uses it; --force disconnects all the same, and loses what was not written");
}

/* Not being able to look is no answer: then somebody may hold it. */
static int check_holders(const struct nbd_device *device, pid_t except_pid, struct failure *failure)
{
    struct netlink_reason reason = {0};
    char holders[HOLDERS_TEXT];
    int count;

    if (access("/proc/self/mountinfo", F_OK) < 0)
        return fail_hint(
            failure,
            fail(failure, ENOENT, "cannot look for who uses /dev/nbd%u: /proc is not there", device->index),
            "mount -t proc proc /proc");
    count = describe_holders(device, except_pid, holders, &reason);
    if (count < 0)
        return kernel_failure(failure, count, &reason);
    return count > 0 ? refuse_held(device->index, holders, failure) : 0;
}

static int still_attached(struct failure *failure, int error)
{
    return fail_hint(failure, error,
                     "the device is still attached; --force disconnects it, and loses what was not written");
}

static int check_unflushed(const struct nbd_device *device, struct failure *failure)
{
    if (!unflushed_is_marked(device))
        return 0;
    return still_attached(
        failure,
        fail(failure, EIO, "/dev/nbd%u: an earlier flush failed: cannot flush what the kernel has given up",
             device->index));
}

/* Errors of getting as far as fsync(2), which lose nothing. */
static bool never_began(int error)
{
    return error == -EACCES || error == -EPERM || error == -ENODEV || error == -ENOENT || error == -ECHILD ||
           error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

static int flush_failed(const struct nbd_device *device, int error, struct failure *failure)
{
    int r;

    if (error == -ECANCELED)
        return fail(failure, ECANCELED, "interrupted");
    if (error == -EBUSY) {
        /* Somebody came between our look and the claim; if they left again there is nobody to name. */
        r = check_holders(device, 0, failure);
        return r < 0 ? r : refuse_held(device->index, "somebody holds it", failure);
    }
    if (error == -ETIMEDOUT)
        return still_attached(failure,
                              fail(failure, ETIMEDOUT,
                                   "/dev/nbd%u: the server did not take what is to be written in time",
                                   device->index));
    if (!never_began(error))
        unflushed_mark(device);
    return still_attached(
        failure, fail(failure, -error, "/dev/nbd%u: cannot flush: %s", device->index, strerror(-error)));
}

static int wait_gone(const struct nbd_device *device, int cancel_fd, struct failure *failure)
{
    struct deadline deadline = deadline_after(GONE_NS, cancel_fd);
    struct netlink_reason ignored = {0};
    char holders[HOLDERS_TEXT];
    int r = device_wait_gone(device, &deadline);

    if (r == 0)
        return 0;
    if (describe_holders(device, 0, holders, &ignored) <= 0)
        snprintf(holders, sizeof holders, "the kernel has not let go of it");
    return fail(failure, -r, "/dev/nbd%u is disconnected, but not free yet: %s", device->index, holders);
}

/*
 * The claim keeps exclusive users out, but anybody may open the device and write while it is being flushed.
 * So whoever has it open after the flush is found again, and what was written meanwhile is flushed once more,
 * which takes a moment.
 */
static int flush(struct flusher *flusher, const struct nbd_device *device, const struct deadline *deadline,
                 struct failure *failure)
{
    int r = flusher_wait(flusher, deadline);

    if (r < 0)
        return flush_failed(device, r, failure);
    r = check_holders(device, flusher->pid, failure);
    if (r < 0)
        return r;
    r = flusher_again(flusher, deadline);
    return r < 0 ? flush_failed(device, r, failure) : 0;
}

static int start_flusher(struct flusher *flusher, const struct nbd_device *device, bool force,
                         struct failure *failure)
{
    unsigned partitions[PARTITIONS_MAX];
    struct netlink_reason reason = {0};
    int count = nbd_partitions("", device->index, partitions, PARTITIONS_MAX, &reason);

    if (count < 0 && !force)
        return kernel_failure(failure, count, &reason);
    if (count > PARTITIONS_MAX && !force)
        return fail(failure, E2BIG, "/dev/nbd%u has more than %d partitions", device->index, PARTITIONS_MAX);
    if (count < 0 || count > PARTITIONS_MAX)
        count = 0;
    return flusher_start(flusher, device, force, partitions, (size_t)count, failure);
}

/* The child's claim must be let go before the kernel can let go of the device. */
static int flush_and_disconnect(const struct nbd_device *device, bool force, const struct deadline *deadline,
                                struct failure *failure)
{
    struct deadline gone, at_once = deadline_after(0, -1);
    struct failure unimportant = {0};
    struct flusher flusher;
    int r = start_flusher(&flusher, device, force, failure);

    if (r < 0)
        return r;
    r = flush(&flusher, device, deadline, force ? &unimportant : failure);
    if (r == -ECANCELED || (r < 0 && !force)) {
        flusher_end(&flusher, false, &at_once);
        return r == -ECANCELED ? fail(failure, ECANCELED, "interrupted") : r;
    }
    gone = deadline_after(GONE_NS, -1);
    r = device_disconnect(device, &gone, failure);
    flusher_end(&flusher, r == 0, r == 0 ? &gone : &at_once);
    return r;
}

/* Its agent, which ends by itself when the device does; -1: none. */
static int find_agent(const struct nbd_device *device)
{
    struct device_state state;
    pid_t pid;
    int fd;

    if (device_state_read(device, &state) < 0)
        return -1;
    pid = state.agent_pid;
    device_state_clear(&state);
    if (!agent_lives(pid))
        return -1;
    fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd >= 0 && !agent_lives(pid)) /* it ended, and the number is another's */
        cleanup_close(&fd);
    return fd;
}

/* Nothing of it is left behind; if it takes long it is on its way all the same. */
static void await_agent(int fd)
{
    struct deadline deadline = deadline_after(AGENT_NS, -1);

    if (fd >= 0)
        deadline_poll(&deadline, fd, POLLIN);
}

int device_release(uint32_t index, bool force, const struct deadline *deadline, struct failure *failure)
{
    _cleanup_close_ int agent_fd = -1;
    struct netlink_reason reason = {0};
    struct nbd_device device;
    int r = nbd_device_read("", index, &device, &reason);

    if (r < 0)
        return kernel_failure(failure, r, &reason);
    if (!device.attached)
        return fail(failure, ENODEV, "/dev/nbd%u is not attached", index);
    r = force ? 0 : check_holders(&device, 0, failure);
    if (r == 0 && !force)
        r = check_unflushed(&device, failure);
    agent_fd = find_agent(&device);
    if (r == 0)
        r = flush_and_disconnect(&device, force, deadline, failure);
    if (r < 0)
        return r;
    device_state_remove(&device);
    unflushed_clear(index);
    r = wait_gone(&device, deadline->cancel_fd, failure);
    await_agent(agent_fd);
    control_sweep(index);
    return r;
}
