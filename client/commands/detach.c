/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/kernel_failure.h"
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
        if (parse_time(argument, &detach->timeout_ns) < 0 || detach->timeout_ns == 0)
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

static int detach_index(uint32_t index, const struct detach *detach, int cancel_fd)
{
    struct deadline deadline = deadline_after(detach->timeout_ns, cancel_fd);
    struct failure failure = {0};

    if (device_release(index, detach->force, &deadline, &failure) < 0)
        return print_failure(&failure);
    print_verbose("/dev/nbd%u is detached", index);
    return EXIT_STATUS_DONE;
}

/* A name that can never be an nbd device is wrong usage; one that is not there is a failure. */
static int kernel_failed(int error, const struct netlink_reason *reason)
{
    struct failure failure = {0};

    kernel_failure(&failure, error, reason);
    if (error == -EINVAL)
        failure.status = EXIT_STATUS_USAGE;
    return print_failure(&failure);
}

/* Nothing attached, not even the module loaded: then all there is is detached. */
static int detach_all(const struct detach *detach, int cancel_fd)
{
    _cleanup_free_ struct nbd_device *list = NULL;
    struct netlink_reason reason = {0};
    int count = nbd_device_list("", &list, &reason);
    int status = EXIT_STATUS_DONE;

    if (count < 0)
        return kernel_failed(count, &reason);
    for (int i = 0; i < count && !interrupt_pending(); i++)
        if (list[i].attached && detach_index(list[i].index, detach, cancel_fd) != EXIT_STATUS_DONE)
            status = EXIT_STATUS_FAILED;
    return status;
}

static int detach_named(char **names, int count, const struct detach *detach, int cancel_fd)
{
    int status = EXIT_STATUS_DONE;

    for (int i = 0; i < count && !interrupt_pending(); i++) {
        struct netlink_reason reason = {0};
        uint32_t index;
        int r = nbd_device_resolve("", names[i], &index, &reason);
        int one = r < 0 ? kernel_failed(r, &reason) : detach_index(index, detach, cancel_fd);

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
    if (cancel_fd < 0) {
        print_error("cannot catch signals: %s", strerror(-cancel_fd));
        return EXIT_STATUS_FAILED;
    }
    status = detach.all ? detach_all(&detach, cancel_fd) : detach_named(names, count, &detach, cancel_fd);
    /* Interrupted between two devices is not done either. */
    return status == EXIT_STATUS_DONE && interrupt_pending() ? EXIT_STATUS_FAILED : status;
}
