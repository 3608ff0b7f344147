/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "agent/release.h"
#include "cleanup.h"
#include "commands/commands.h"
#include "interrupt.h"
#include "netlink/sysfs.h"
#include "number.h"
#include "output.h"

struct detach {
    bool all;
    bool force;
    uint64_t timeout_ns;
};

enum { ID_ALL = 1000, ID_FORCE, ID_TIMEOUT };

static int set(void *into, int id, const char *argument, struct failure *failure)
{
    struct detach *detach = into;

    switch (id) {
    case ID_ALL:
        detach->all = true;
        return 0;
    case ID_FORCE:
        detach->force = true;
        return 0;
    case ID_TIMEOUT:
        if (parse_time(argument, &detach->timeout_ns) < 0)
            return fail(failure, EINVAL, "--timeout %s is not a time (500ms, 10, 2min)", argument);
        return 0;
    default:
        return 0;
    }
}

static const struct option_spec table[] = {
    {ID_ALL, "all", NULL, "every attached nbd device", 'a'},
    {ID_FORCE, "force", NULL, "also when it is in use or cannot be flushed:\nwhat was not written is lost",
     'f'},
    {ID_TIMEOUT, "timeout", "T", "how long flushing may take (default: 60 s)", 0},
    {0},
};
static const struct option_group group = {.title = "Options", .options = table, .set = set};

static int run(int argc, char **argv);

const struct command command_detach = {
    .name = "detach",
    .arguments = "DEVICE...",
    .summary = "detach devices: flush, disconnect, wait until gone",
    .details =
        "DEVICE is /dev/nbd0, nbd0, 0, or a link to it. A device that is mounted or otherwise held is\n"
        "refused, and who holds it is named.",
    .groups = {&group},
    .arguments_min = 0,
    .arguments_max = -1,
    .run = run,
};

static int detach_index(struct nbd_netlink *netlink, uint32_t index, const struct detach *detach,
                        int cancel_fd)
{
    struct deadline deadline = deadline_after(detach->timeout_ns, cancel_fd);
    struct failure failure = {0};

    if (device_release(netlink, index, detach->force, &deadline, &failure) < 0)
        return print_failure(&failure);
    print_verbose("/dev/nbd%u is detached", index);
    return EXIT_STATUS_DONE;
}

static int kernel_failed(const struct netlink_reason *reason)
{
    struct failure failure = {0};

    return print_failure(
        (fail_hint(&failure, fail(&failure, EIO, "%s", reason->text), "%s", reason->hint), &failure));
}

/* Nothing attached, not even the module loaded: then all there is is detached. */
static int detach_all(const struct detach *detach, int cancel_fd)
{
    _cleanup_(nbd_netlink_closep) struct nbd_netlink *netlink = NULL;
    _cleanup_free_ struct nbd_device *list = NULL;
    struct netlink_reason reason = {0};
    int count = nbd_device_list("", &list, &reason);
    int status = EXIT_STATUS_DONE;

    if (count < 0)
        return kernel_failed(&reason);
    for (int i = 0; i < count && !interrupt_pending(); i++) {
        if (!list[i].attached)
            continue;
        if (!netlink && nbd_netlink_open(&netlink, false, &reason) < 0)
            return kernel_failed(&reason);
        if (detach_index(netlink, list[i].index, detach, cancel_fd) != EXIT_STATUS_DONE)
            status = EXIT_STATUS_FAILED;
    }
    return status;
}

static int detach_named(char **names, int count, const struct detach *detach, int cancel_fd)
{
    _cleanup_(nbd_netlink_closep) struct nbd_netlink *netlink = NULL;
    struct netlink_reason unreachable = {0};
    int status = EXIT_STATUS_DONE;

    if (nbd_netlink_open(&netlink, false, &unreachable) < 0)
        return kernel_failed(&unreachable);
    for (int i = 0; i < count && !interrupt_pending(); i++) {
        struct netlink_reason reason = {0};
        uint32_t index;
        int one = nbd_device_resolve("", names[i], &index, &reason) < 0
                      ? kernel_failed(&reason)
                      : detach_index(netlink, index, detach, cancel_fd);

        if (one != EXIT_STATUS_DONE)
            status = one;
    }
    return status;
}

static int run(int argc, char **argv)
{
    struct detach detach = {.timeout_ns = UINT64_C(60000000000)};
    char **names;
    int count, status, cancel_fd;

    if (options_parse(&command_detach, argc, argv, &detach, &names, &count, &status) == OPTIONS_EXIT)
        return status;
    if (detach.all == (count > 0)) {
        print_error("detach: name the devices, or say --all");
        return EXIT_STATUS_USAGE;
    }
    cancel_fd = interrupt_catch();
    return detach.all ? detach_all(&detach, cancel_fd) : detach_named(names, count, &detach, cancel_fd);
}
