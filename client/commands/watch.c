/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/ask.h"
#include "agent/json_fields.h"
#include "agent/kernel_failure.h"
#include "cleanup.h"
#include "commands/commands.h"
#include "commands/watch_text.h"
#include "interrupt.h"
#include "netlink/sysfs.h"
#include "output.h"

struct watch {
    bool json;
};

enum { ID_JSON = 1000 };

/* How a stream of events ends: what the last of them means, or why there will be no more. */
enum ending {
    ENDING_NONE, /* the agent has ended without a word */
    ENDING_DETACHED,
    ENDING_IDENTITY,
    ENDING_OUTPUT, /* nobody reads what we write */
};

static int set(void *into, int id, const char *argument, struct failure *failure)
{
    struct watch *watch = into;

    (void)argument;
    (void)failure;
    if (id == ID_JSON)
        watch->json = true;
    return 0;
}

static const struct option_spec table[] = {
    {ID_JSON, "json", NULL, "one object a line", 'j'},
    {0},
};
static const struct option_group group = {.title = "Options", .options = table, .set = set};

static int run(int argc, char **argv);

const struct command command_watch = {
    .name = "watch",
    .arguments = "DEVICE",
    .summary = "tell what happens to an attached device",
    .details = "A line for each event, until the device is detached (exit status 0) or Ctrl-C is pressed.\n"
               "The device's agent is what tells, so there must be one.",
    .groups = {&group},
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run,
};

static void print_event(const struct watch *watch, struct json_object *event)
{
    _cleanup_free_ char *text = NULL;

    if (watch->json) {
        puts(json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
        return;
    }
    text = watch_text(event);
    puts(text ? text : "?");
}

static int visit(void *opaque, struct json_object *event)
{
    const char *name = json_text(event, "event");

    print_event(opaque, event);
    if (fflush(stdout) != 0 || ferror(stdout))
        return ENDING_OUTPUT;
    if (name && strcmp(name, "detached") == 0)
        return ENDING_DETACHED;
    if (name && strcmp(name, "identity-changed") == 0)
        return ENDING_IDENTITY;
    return ENDING_NONE;
}

/* That there is no such device is for the agent's absence to say: it may outlive the device by a moment. */
static int find_device(const char *name, uint32_t *index, struct failure *failure)
{
    struct netlink_reason reason = {0};
    int r = nbd_device_resolve("", name, index, &reason);

    if (r == -ENODEV && *index != NBD_INDEX_ANY)
        return 0;
    if (r < 0)
        kernel_failure(failure, r, &reason);
    if (r == -EINVAL)
        failure->status = EXIT_STATUS_USAGE;
    return r;
}

/* No agent, because there is nothing that it could look after. */
static void explain_absence(uint32_t index, struct failure *failure)
{
    struct netlink_reason reason = {0};
    struct nbd_device device;
    int r = nbd_device_read("", index, &device, &reason);

    if (r < 0)
        kernel_failure(failure, r, &reason);
    else if (!device.attached)
        fail(failure, ENODEV, "/dev/nbd%u is not attached", index);
}

static int watch_failed(int error, uint32_t index, struct failure *failure)
{
    if (error == -ECANCELED && interrupt_pending())
        return EXIT_STATUS_FAILED;
    if (error == -ENOENT || error == -ECONNREFUSED)
        explain_absence(index, failure);
    return print_failure(failure);
}

static int conclude(enum ending ending, uint32_t index)
{
    struct failure failure = {0};

    switch (ending) {
    case ENDING_DETACHED:
        return EXIT_STATUS_DONE;
    case ENDING_IDENTITY:
        return EXIT_STATUS_IDENTITY;
    case ENDING_OUTPUT:
        return EXIT_STATUS_FAILED; /* said at the end, as of every command */
    case ENDING_NONE:
        break;
    }
    fail(&failure, EPIPE, "the agent of /dev/nbd%u has ended", index);
    fail_hint(&failure, 0, "'nbdctl status nbd%u' tells whether the device is still attached", index);
    return print_failure(&failure);
}

static int watch_device(uint32_t index, struct watch *watch, int cancel_fd)
{
    struct deadline deadline = deadline_after(DEADLINE_NEVER, cancel_fd);
    struct failure failure = {0};
    int r = agent_watch(index, &deadline, visit, watch, &failure);

    return r < 0 ? watch_failed(r, index, &failure) : conclude((enum ending)r, index);
}

static int run(int argc, char **argv)
{
    struct watch watch = {0};
    struct failure failure = {0};
    int count, status, cancel_fd;
    char **names;
    uint32_t index;

    if (options_parse(&command_watch, argc, argv, &watch, &names, &count, &status) == OPTIONS_EXIT)
        return status;
    if (find_device(names[0], &index, &failure) < 0)
        return print_failure(&failure);
    cancel_fd = interrupt_catch();
    if (cancel_fd < 0) {
        print_error("cannot catch signals: %s", strerror(-cancel_fd));
        return EXIT_STATUS_FAILED;
    }
    return watch_device(index, &watch, cancel_fd);
}
