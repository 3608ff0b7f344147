/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/release.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/flush.h"
#include "agent/handover.h"
#include "agent/state.h"
#include "cleanup.h"
#include "netlink/sysfs.h"

#define PARTITIONS_MAX 256
#define HOLDERS_MAX    32
#define HOLDERS_NAMED  4
#define NS_PER_S       UINT64_C(1000000000)
/* After DISCONNECT the kernel fails all I/O, so whoever waits for it comes back soon. */
#define GONE_NS        (10 * NS_PER_S)

static int from_kernel(struct failure *failure, int error, const struct netlink_reason *reason)
{
    return fail_hint(failure, fail(failure, -error, "%s", reason->text), "%s", reason->hint);
}

/* "mounted on /mnt; open by qemu (pid 812)" */
static int describe_holders(const struct nbd_device *device, char *text, size_t size)
{
    struct holder holders[HOLDERS_MAX];
    struct netlink_reason ignored;
    int count = nbd_holders("", device, 0, holders, HOLDERS_MAX, &ignored);
    size_t used = 0;

    for (int i = 0; i < count && i < HOLDERS_NAMED; i++) {
        _cleanup_free_ char *one = holder_describe(&holders[i]);
        int n = snprintf(text + used, size - used, "%s%s is %s", i ? "; " : "", holders[i].device,
                         one ? one : "held");

        used += n > 0 && (size_t)n < size - used ? (size_t)n : 0;
    }
    if (count > HOLDERS_NAMED)
        snprintf(text + used, size - used, "; and %d more", count - HOLDERS_NAMED);
    return count;
}

static int refuse_held(uint32_t index, const char *holders, struct failure *failure)
{
    return fail_hint(
        failure, fail(failure, EBUSY, "/dev/nbd%u is in use: %s", index, holders),
        "unmount or stop what uses it; --force disconnects all the same, and loses what was not written");
}

static int check_holders(const struct nbd_device *device, struct failure *failure)
{
    char holders[900] = "";

    if (describe_holders(device, holders, sizeof holders) > 0)
        return refuse_held(device->index, holders, failure);
    return 0;
}

static int flush_failed(const struct nbd_device *device, int error, struct failure *failure)
{
    int r;

    if (error == -ECANCELED)
        return fail(failure, ECANCELED, "interrupted");
    if (error == -EBUSY) {
        /* Somebody came between our look and the claim; if they left again there is nobody to name. */
        r = check_holders(device, failure);
        return r < 0 ? r : refuse_held(device->index, "somebody holds it", failure);
    }
    if (error == -ETIMEDOUT)
        r = fail(failure, ETIMEDOUT, "/dev/nbd%u: the server did not take what is to be written in time",
                 device->index);
    else
        r = fail(failure, -error, "/dev/nbd%u: cannot flush: %s", device->index, strerror(-error));
    return fail_hint(failure, r,
                     "the device is still attached; --force disconnects it, and loses what was not written");
}

static int disconnect(struct nbd_netlink *netlink, uint32_t index, struct failure *failure)
{
    struct netlink_reason reason = {0};
    int r = nbd_netlink_disconnect(netlink, index, &reason);

    return r < 0 ? from_kernel(failure, r, &reason) : 0;
}

static int wait_gone(const struct nbd_device *device, int cancel_fd, struct failure *failure)
{
    struct deadline deadline = deadline_after(GONE_NS, cancel_fd);
    char holders[900] = "";
    int r = handover_wait_gone(device->index, &deadline);

    if (r == 0)
        return 0;
    if (describe_holders(device, holders, sizeof holders) == 0)
        snprintf(holders, sizeof holders, "the kernel has not let go of it");
    return fail(failure, -r, "/dev/nbd%u is disconnected, but not free yet: %s", device->index, holders);
}

/* The child's claim must be let go before the kernel can let go of the device. */
static int flush_and_disconnect(struct nbd_netlink *netlink, const struct nbd_device *device, bool force,
                                const struct deadline *deadline, struct failure *failure)
{
    unsigned partitions[PARTITIONS_MAX];
    struct netlink_reason ignored;
    struct flusher flusher;
    struct deadline gone = deadline_after(GONE_NS, -1);
    struct deadline at_once = deadline_after(0, -1);
    int count = nbd_partitions("", device->index, partitions, PARTITIONS_MAX, &ignored);
    int r = flusher_start(&flusher, device->index, partitions, count > 0 ? (size_t)count : 0, failure);

    if (r < 0)
        return r;
    r = flusher_wait(&flusher, deadline);
    if (r < 0 && (!force || r == -ECANCELED)) {
        flusher_end(&flusher, false, &at_once);
        return flush_failed(device, r, failure);
    }
    r = disconnect(netlink, device->index, failure);
    flusher_end(&flusher, r == 0, r == 0 ? &gone : &at_once);
    return r;
}

int device_release(struct nbd_netlink *netlink, uint32_t index, bool force, const struct deadline *deadline,
                   struct failure *failure)
{
    struct netlink_reason reason = {0};
    struct nbd_device device;
    int r = nbd_device_read("", index, &device, &reason);

    if (r < 0)
        return from_kernel(failure, r, &reason);
    if (!device.attached)
        return fail(failure, ENODEV, "/dev/nbd%u is not attached", index);
    r = force ? 0 : check_holders(&device, failure);
    if (r == 0)
        r = flush_and_disconnect(netlink, &device, force, deadline, failure);
    if (r < 0)
        return r;
    device_state_remove(index);
    return wait_gone(&device, deadline->cancel_fd, failure);
}
