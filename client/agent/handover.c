/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/disconnect.h"
#include "agent/kernel_failure.h"
#include "cleanup.h"
#include "netlink/sysfs.h"
#include "netlink/uevent.h"
#include "protocol/wire.h"

#define NS_PER_MS        UINT64_C(1000000)
/* Somebody (udev) merely has the device open, or the kernel still tears it down: both pass by themselves. */
#define BUSY_RETRY_NS    (20 * NS_PER_MS)
#define BUSY_PATIENCE_NS (5000 * NS_PER_MS)
#define GONE_PATIENCE_NS (1000 * NS_PER_MS)
/* uevents wake us; this is for the case that one is lost. */
#define SYSFS_RETRY_NS   (50 * NS_PER_MS)
#define SECTOR           UINT64_C(512)
/* Measured with scripts/bench attach; the most is what Linux 7 has by default. */
#define REQUEST_LEAST_KB 1024
#define REQUEST_MOST_KB  4096
#define UNDO_NS          (5000 * NS_PER_MS)

int handover_block_size(const struct handover *handover, const struct export *export, uint64_t *block_size,
                        struct failure *failure)
{
    uint64_t minimum = export->has_block_sizes && export->min_block > 512 ? export->min_block : 512;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    if (export->size < SECTOR)
        return fail(failure, EINVAL, "the export has only %" PRIu64 " bytes, less than a sector",
                    export->size);
    *block_size = handover->block_size ? handover->block_size : minimum;
    if (*block_size < minimum)
        return fail(failure, EINVAL, "block size %" PRIu64 " is below the server's minimum %" PRIu64,
                    *block_size, minimum);
    if (export->size % *block_size != 0 && handover->block_size)
        return fail(failure, EINVAL, "the export's size %" PRIu64 " is not a multiple of block size %" PRIu64,
                    export->size, *block_size);
    if (export->max_payload < page)
        return fail(failure, EOPNOTSUPP,
                    "the server takes at most %" PRIu32 " bytes a request; the kernel needs %" PRIu64,
                    export->max_payload, page);
    return 0;
}

/* Flags the driver honours; the others mean nothing to it. */
static uint64_t server_flags(const struct handover *handover, const struct export *export)
{
    uint64_t known = NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                     NBD_FLAG_ROTATIONAL | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
                     NBD_FLAG_CAN_MULTI_CONN;

    return (export->flags & known) | (handover->read_only ? NBD_FLAG_READ_ONLY : 0);
}

/* -EBUSY is worth another try only while the device is not really attached. */
static bool really_attached(uint32_t index)
{
    struct netlink_reason ignored;
    struct nbd_device device;

    return index != NBD_INDEX_ANY && nbd_device_read("", index, &device, &ignored) == 0 && device.attached;
}

/*
 * An index whose device is being destroyed answers EINVAL for some tens of milliseconds, just as a bad
 * argument would.
 */
static bool may_be_going_away(int error, uint32_t index, uint64_t since_ns)
{
    return error == -EINVAL && index != NBD_INDEX_ANY && monotonic_ns() - since_ns < GONE_PATIENCE_NS;
}

static int connect_patiently(const struct handover *handover, const struct nbd_config *config,
                             const struct deadline *deadline, uint32_t *index, struct failure *failure)
{
    struct deadline patience = deadline_after(BUSY_PATIENCE_NS, deadline->cancel_fd);
    struct netlink_reason reason = {0};
    uint64_t since_ns = monotonic_ns();

    for (;;) {
        struct deadline pause = deadline_after(BUSY_RETRY_NS, deadline->cancel_fd);
        int r = nbd_netlink_connect(handover->netlink, config, index, &reason);

        if (r == 0)
            return 0;
        if ((r != -EBUSY && r != -EEXIST && !may_be_going_away(r, config->index, since_ns)) ||
            really_attached(config->index) || deadline_remaining_ms(&patience) == 0 ||
            deadline_remaining_ms(deadline) == 0)
            return kernel_failure(failure, r, &reason);
        if (deadline_poll(&pause, -1, 0) == -ECANCELED)
            return fail(failure, ECANCELED, "interrupted");
    }
}

static int connect_device(const struct handover *handover, const struct connections *connections,
                          const struct deadline *deadline, uint32_t *index, struct failure *failure)
{
    int fds[DIAL_MAX_CONNECTIONS];
    struct nbd_config config = {
        .index = handover->index,
        .size = connections->export.size,
        .has_timeout = true,
        .timeout = handover->timeout_s,
        .has_dead_timeout = true,
        .dead_timeout = handover->dead_timeout_s,
        .has_server_flags = true,
        .server_flags = server_flags(handover, &connections->export),
        .backend = handover->backend,
        .sockets = fds,
        .sockets_count = connections->count,
    };
    int r = handover_block_size(handover, &connections->export, &config.block_size, failure);

    for (size_t i = 0; i < connections->count; i++)
        fds[i] = connections->list[i].fd;
    return r < 0 ? r : connect_patiently(handover, &config, deadline, index, failure);
}

/*
 * The driver's default is too small before Linux 6.12, and its own most (32 MiB) far too large: a server
 * buffers whole requests, as many as it has in flight (nbdkit: 16 for each connection), and buffered writes
 * fell to a tenth.
 */
static uint32_t request_kb(const struct nbd_device *device, const struct export *export)
{
    uint32_t block_kb = device->logical_block_size > 1024 ? device->logical_block_size / 1024 : 1;
    uint32_t kb = device->max_sectors_kb;

    kb = kb < REQUEST_LEAST_KB ? REQUEST_LEAST_KB : kb;
    kb = kb > REQUEST_MOST_KB ? REQUEST_MOST_KB : kb;
    kb = kb > device->max_hw_sectors_kb ? device->max_hw_sectors_kb : kb;
    kb = kb > export->max_payload / 1024 ? export->max_payload / 1024 : kb;
    return kb - kb % block_kb;
}

static int limit_requests(const struct nbd_device *device, const struct export *export,
                          struct failure *failure)
{
    uint32_t kb = request_kb(device, export);
    struct netlink_reason reason;
    int r;

    /* Newer kernels freeze the queue for every write. */
    if (kb == device->max_sectors_kb)
        return 0;
    r = nbd_queue_set("", device->index, "max_sectors_kb", kb, &reason);
    /* Staying below the server's limit is a must; above the default is only faster. */
    if (r < 0 && device->max_sectors_kb > kb)
        return kernel_failure(failure, r, &reason);
    return 0;
}

/*
 * The queue's own time, where the request timeout is 0. Each time it runs out the driver looks at the request
 * (nbd_xmit_timeout): with one connection it only asks whether the connection was replaced, and sends it
 * again if so; with several it gives the connection up, after 30 s by default. So with an agent it looks
 * every second, and without one a day is as good as never.
 */
#define LOOK_MS  UINT64_C(1000)
#define NEVER_MS UINT64_C(86400000)

static int be_patient(const struct handover *handover, const struct nbd_device *device, size_t connections,
                      struct failure *failure)
{
    bool look = handover->agent && connections == 1;
    struct netlink_reason reason;
    int r;

    if (handover->timeout_s != 0 || (!look && connections == 1))
        return 0;
    r = nbd_queue_set("", device->index, "io_timeout", look ? LOOK_MS : NEVER_MS, &reason);
    return r < 0 ? kernel_failure(failure, r, &reason) : 0;
}

/* Waits until sysfs tells of the device that was just attached. */
static int wait_for_size(uint64_t size, struct uevent_socket *uevents, const struct deadline *deadline,
                         struct nbd_device *device, struct failure *failure)
{
    uint32_t index = device->index;

    for (;;) {
        struct netlink_reason reason = {0};
        struct uevent event;
        struct deadline pause = deadline_after(SYSFS_RETRY_NS, deadline->cancel_fd);
        int r = nbd_device_read("", index, device, &reason);

        /* The kernel counts in sectors. */
        if (r == 0 && device->attached && device->size == size / SECTOR * SECTOR)
            return 0;
        if (r < 0 && r != -ENODEV)
            return kernel_failure(failure, r, &reason);
        if (deadline_remaining_ms(deadline) == 0)
            return fail(failure, ETIMEDOUT, "/dev/nbd%u did not get its size in time", index);
        if (deadline_poll(&pause, uevent_fd(uevents), POLLIN) == -ECANCELED)
            return fail(failure, ECANCELED, "interrupted");
        while (uevent_next(uevents, &event, &reason) == 1)
            continue; /* which event it was does not matter: sysfs has the truth */
    }
}

/* The first open makes the kernel read the partition table; it blocks as long as the server does. */
struct scan {
    const struct nbd_device *device;
    int done_fd; /* eventfd */
    int result;
    pthread_t thread;
};

/* A file of that name, or another device's node, is not what the kernel has attached. */
static int open_node(const struct nbd_device *device)
{
    char path[32];
    struct stat st;
    _cleanup_close_ int fd = -1;

    snprintf(path, sizeof path, "/dev/nbd%u", device->index);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    return S_ISBLK(st.st_mode) && st.st_rdev == makedev(device->major, device->minor) ? 0 : -ENODEV;
}

static void *scan_open(void *opaque)
{
    struct scan *scan = opaque;
    uint64_t one = 1;

    scan->result = open_node(scan->device);
    if (write(scan->done_fd, &one, sizeof one) < 0)
        scan->result = -errno; /* cannot happen: the counter was 0 */
    return NULL;
}

static int scan_verdict(uint32_t index, int waited, const struct scan *scan, struct failure *failure)
{
    if (waited == -ECANCELED)
        return fail(failure, ECANCELED, "interrupted");
    if (waited < 0)
        return fail(failure, ETIMEDOUT, "the server opened the export but answers no reads of /dev/nbd%u",
                    index);
    if (scan->result == -ENOENT)
        return fail_hint(failure, fail(failure, ENOENT, "there is no /dev/nbd%u", index),
                         "is devtmpfs mounted on /dev?");
    if (scan->result == -ENODEV)
        return fail_hint(
            failure, fail(failure, ENODEV, "/dev/nbd%u is not the device that the kernel attached", index),
            "remove what stands there in its place, and mount devtmpfs on /dev");
    if (scan->result < 0)
        return fail(failure, -scan->result, "cannot open /dev/nbd%u: %s", index, strerror(-scan->result));
    return 0;
}

/*
 * Opens the device once. When that fails or takes too long the device is disconnected here, since only that
 * ends the open; the thread never outlives this function.
 */
static int scan_partitions(struct nbd_netlink *netlink, const struct nbd_device *device,
                           const struct deadline *deadline, struct failure *failure)
{
    _cleanup_close_ int done_fd = eventfd(0, EFD_CLOEXEC);
    struct scan scan = {.device = device, .done_fd = done_fd};
    struct netlink_reason ignored;
    int waited;

    if (done_fd < 0)
        return fail(failure, errno, "cannot make an eventfd: %s", strerror(errno));
    if (pthread_create(&scan.thread, NULL, scan_open, &scan) != 0)
        return fail(failure, EAGAIN, "cannot start a thread");
    waited = deadline_poll(deadline, done_fd, POLLIN);
    if (waited < 0 && device_still(device))
        nbd_netlink_disconnect(netlink, device->index, &ignored);
    pthread_join(scan.thread, NULL);
    return scan_verdict(device->index, waited, &scan, failure);
}

/*
 * Linux 6.12 to 7.2 do not take back that a device does WRITE_ZEROES when its next server does not
 * (nbd_start_device sets the queue limit and never clears it). Only a new device has clean limits: this one
 * is marked to be destroyed when it is disconnected, and -EUCLEAN asks for another attempt.
 */
static int check_limits(const struct handover *handover, const struct nbd_device *device,
                        const struct export *export, struct failure *failure)
{
    struct nbd_config destroy = {.index = device->index,
                                 .has_client_flags = true,
                                 .client_flags = NBD_DESTROY_ON_DISCONNECT,
                                 .backend = handover->backend};
    struct netlink_reason reason = {0};
    int r;

    if (device->write_zeroes_max == 0 || export_can(export, NBD_FLAG_SEND_WRITE_ZEROES))
        return 0;
    r = nbd_netlink_reconfigure(handover->netlink, &destroy, &reason);
    if (r < 0)
        return kernel_failure(failure, r, &reason);
    return fail(failure, EUCLEAN, "/dev/nbd%u keeps queue limits of an earlier server", device->index);
}

static int make_usable(const struct handover *handover, const struct connections *connections,
                       struct uevent_socket *uevents, const struct deadline *deadline,
                       struct nbd_device *device, struct failure *failure)
{
    const struct export *export = &connections->export;
    int r = wait_for_size(export->size, uevents, deadline, device, failure);

    if (r == 0)
        r = check_limits(handover, device, export, failure);
    if (r == 0)
        r = limit_requests(device, export, failure);
    if (r == 0)
        r = be_patient(handover, device, connections->count, failure);
    if (r == 0)
        r = scan_partitions(handover->netlink, device, deadline, failure);
    /* Somebody may have detached it meanwhile: then the open saw an empty device, and succeeded. */
    if (r == 0 && !device_still(device))
        r = fail(failure, ENODEV, "/dev/nbd%u was detached by somebody else", device->index);
    return r;
}

int handover_attach(const struct handover *handover, const struct connections *connections,
                    const struct deadline *deadline, struct nbd_device *device, struct failure *failure)
{
    _cleanup_(uevent_closep) struct uevent_socket *uevents = NULL;
    struct netlink_reason reason = {0};
    int r = uevent_open(&uevents, &reason);

    if (r < 0)
        return kernel_failure(failure, r, &reason);
    *device = (struct nbd_device){0};
    r = connect_device(handover, connections, deadline, &device->index, failure);
    if (r < 0)
        return r;
    r = make_usable(handover, connections, uevents, deadline, device, failure);
    if (r < 0)
        handover_undo(device);
    return r;
}

void handover_undo(const struct nbd_device *device)
{
    struct deadline deadline = deadline_after(UNDO_NS, -1);
    struct failure ignored = {0};

    if (device_disconnect(device, &deadline, &ignored) == 0)
        device_wait_gone(device, &deadline);
}
