/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/attach.h"
#include "agent/relay.h"
#include "cleanup.h"
#include "commands/commands.h"
#include "commands/unverified.h"
#include "connection_options.h"
#include "interrupt.h"
#include "netlink/sysfs.h"
#include "number.h"
#include "output.h"

#define URIS_MAX      16
#define POLL_LEAST_NS UINT64_C(100000000)

struct attach {
    struct connection_options connection; /* first: the shared group's offset is 0 */
    struct attach_request request;
    bool json;
    bool no_agent, foreground;
    bool essential; /* --swap, or a root disk's */
    bool has_wait;
    uint64_t wait_ns, poll_ns;
};

enum {
    ID_READ_ONLY = 2000,
    ID_CONNECTIONS,
    ID_BLOCK_SIZE,
    ID_TIMEOUT,
    ID_DEAD_TIMEOUT,
    ID_NAME,
    ID_KTLS,
    ID_NO_AGENT,
    ID_FOREGROUND,
    ID_SWAP,
    ID_POLL_INTERVAL,
    ID_WAIT,
    ID_JSON
};

static const struct option_spec table[] = {
    {ID_READ_ONLY, "read-only", NULL, "the device refuses writes", 'r'},
    {ID_CONNECTIONS, "connections", "N|auto",
     "connections to the server (default: auto; more than one\nonly with --no-agent, where the server keeps "
     "them coherent)",
     'c'},
    {ID_BLOCK_SIZE, "block-size", "N", "logical block size (default: the server's minimum,\nat least 512)",
     'b'},
    {ID_TIMEOUT, "timeout", "T",
     "give up a connection that answers a request no sooner;\n0: never (default: 0; 10 with several "
     "connections)",
     0},
    {ID_DEAD_TIMEOUT, "dead-timeout", "T",
     "how long I/O waits for a lost server before it fails,\nor forever (default: 10min; with --no-agent 0)",
     0},
    {ID_NAME, "name", "NAME", "names the disk, in status and for the kernel", 0},
    {ID_KTLS, "ktls", "MODE",
     "who encrypts: auto (the kernel where it can, else a\nprocess), require (the kernel, or fail), no", 0},
    {ID_NO_AGENT, "no-agent", NULL, "hand over and leave no process: a lost connection stays lost", 0},
    {ID_FOREGROUND, "foreground", NULL, "be the agent, and tell the service manager when ready", 0},
    {ID_POLL_INTERVAL, "poll-interval", "T",
     "how often the agent asks whether the disk has grown\n(default: when it reconnects)", 0},
    {ID_SWAP, "swap", NULL,
     "the machine needs the disk to go on: I/O waits for ever,\nand no signal ends the agent", 0},
    {ID_WAIT, "wait", "T", "keep trying this long until a server answers", 'w'},
    {ID_JSON, "json", NULL, "print a JSON object instead of the device", 'j'},
    {0},
};

static int set_connections(const char *argument, size_t *connections, struct failure *failure)
{
    uint64_t n;

    if (strcmp(argument, "auto") == 0) {
        *connections = DIAL_AUTO;
        return 0;
    }
    if (parse_u64(argument, 1, DIAL_MAX_CONNECTIONS, &n) < 0)
        return fail(failure, EINVAL, "--connections is auto or 1 to %d, not %s", DIAL_MAX_CONNECTIONS,
                    argument);
    *connections = (size_t)n;
    return 0;
}

static int set_block_size(const char *argument, uint64_t *size, struct failure *failure)
{
    if (parse_size(argument, size) < 0 || *size < 512 || *size > 65536 || (*size & (*size - 1)) != 0)
        return fail(failure, EINVAL, "--block-size is a power of two from 512 to 64K, not %s", argument);
    return 0;
}

/* The kernel counts in whole seconds: a shorter time must not become 0, which means something else. */
static int set_seconds(const char *name, const char *argument, uint64_t most, uint64_t *seconds,
                       struct failure *failure)
{
    const uint64_t ns_per_s = UINT64_C(1000000000);
    uint64_t ns;

    if (parse_time(argument, &ns) < 0)
        return fail(failure, EINVAL, "--%s %s is not a time (500ms, 10, 2min)", name, argument);
    *seconds = ns / ns_per_s + (ns % ns_per_s ? 1 : 0);
    if (*seconds > most)
        return fail(failure, EINVAL, "--%s %s is too long; the kernel knows at most %" PRIu64 " s", name,
                    argument, most);
    return 0;
}

static int set_dead_timeout(const char *argument, uint64_t *seconds, struct failure *failure)
{
    if (strcmp(argument, "forever") != 0)
        return set_seconds("dead-timeout", argument, ATTACH_FOREVER_S, seconds, failure);
    *seconds = ATTACH_FOREVER_S;
    return 0;
}

static int set_name(const char *argument, const char **name, struct failure *failure)
{
    if (!attach_name_valid(argument))
        return fail(failure, EINVAL, "--name may have 1 to %d letters, digits, and any of _ - . : + @",
                    ATTACH_NAME_MAX);
    *name = argument;
    return 0;
}

static int set_ktls(const char *argument, enum ktls_mode *mode, struct failure *failure)
{
    if (strcmp(argument, "auto") == 0)
        *mode = KTLS_AUTO;
    else if (strcmp(argument, "require") == 0)
        *mode = KTLS_REQUIRE;
    else if (strcmp(argument, "no") == 0)
        *mode = KTLS_NO;
    else
        return fail(failure, EINVAL, "--ktls is auto, require or no, not %s", argument);
    return 0;
}

static int set_wait(const char *argument, struct attach *attach, struct failure *failure)
{
    attach->has_wait = true;
    if (strcmp(argument, "forever") == 0)
        attach->wait_ns = UINT64_MAX;
    else if (parse_time(argument, &attach->wait_ns) < 0)
        return fail(failure, EINVAL, "--wait %s is not a time (500ms, 10, 2min, forever)", argument);
    return 0;
}

static int set(void *into, int id, const char *argument, struct failure *failure)
{
    struct attach *attach = into;

    switch (id) {
    case ID_READ_ONLY:
        attach->request.read_only = true;
        return 0;
    case ID_CONNECTIONS:
        return set_connections(argument, &attach->request.connections, failure);
    case ID_BLOCK_SIZE:
        return set_block_size(argument, &attach->request.block_size, failure);
    case ID_TIMEOUT:
        attach->request.has_timeout = true;
        return set_seconds("timeout", argument, ATTACH_TIMEOUT_MAX_S, &attach->request.timeout_s, failure);
    case ID_DEAD_TIMEOUT:
        attach->request.has_dead_timeout = true;
        return set_dead_timeout(argument, &attach->request.dead_timeout_s, failure);
    case ID_NAME:
        return set_name(argument, &attach->request.name, failure);
    case ID_KTLS:
        return set_ktls(argument, &attach->request.ktls, failure);
    case ID_NO_AGENT:
        attach->no_agent = true;
        return 0;
    case ID_FOREGROUND:
        attach->foreground = true;
        return 0;
    case ID_POLL_INTERVAL:
        if (parse_time(argument, &attach->poll_ns) < 0 || attach->poll_ns < POLL_LEAST_NS)
            return fail(failure, EINVAL, "--poll-interval is a time from 100ms (2, 1min), not %s", argument);
        return 0;
    case ID_SWAP:
        attach->essential = true;
        return 0;
    case ID_WAIT:
        return set_wait(argument, attach, failure);
    case ID_JSON:
        attach->json = true;
        return 0;
    default:
        return 0;
    }
}

static const struct option_group group = {.title = "Options", .options = table, .set = set};

static int run(int argc, char **argv);

const struct command command_attach = {
    .name = "attach",
    .arguments = "URI... [DEVICE]",
    .summary = "attach a remote disk as /dev/nbdX",
    .details =
        "Prints the device when it can be used: its size is set and its partitions are there. More than\n"
        "one URI: equal servers of one disk, tried in order. DEVICE is /dev/nbd0, nbd0 or 0; without it\n"
        "a free one is taken.\n"
        "\n"
        "  nbdctl attach nbd://server/disk\n"
        "  nbdctl attach 'nbd+unix:///disk?socket=/run/nbd.sock' /dev/nbd3",
    .groups = {&group, &connection_option_group},
    .arguments_min = 1,
    .arguments_max = URIS_MAX + 1,
    .run = run,
};

/* The last argument is a device unless it looks like a URI: no device name has a colon behind letters and
 * '+'. */
static bool is_uri(const char *argument)
{
    return strstr(argument, "://") != NULL;
}

static int resolve_device(const char *name, uint32_t *index, struct failure *failure)
{
    struct netlink_reason reason = {0};
    int r = nbd_device_resolve("", name, index, &reason);

    /* Attaching loads the module and makes the device, so it need not be there yet. */
    if (r == -ENODEV && *index != NBD_INDEX_ANY)
        return 0;
    if (r < 0)
        fail_hint(failure, fail_status(failure, -r, EXIT_STATUS_USAGE, "%s", reason.text), "%s", reason.hint);
    return r;
}

static int parse_arguments(struct attach *attach, char **arguments, int count, struct endpoint *endpoints,
                           struct failure *failure)
{
    struct attach_request *request = &attach->request;

    request->endpoints = endpoints;
    request->index = NBD_INDEX_ANY;
    for (int i = 0; i < count; i++) {
        int r;

        if (i == count - 1 && i > 0 && !is_uri(arguments[i]))
            return resolve_device(arguments[i], &request->index, failure);
        if (request->endpoints_count == URIS_MAX)
            return fail_status(failure, EINVAL, EXIT_STATUS_USAGE, "attach: more than %d URIs", URIS_MAX);
        r = connection_target(&attach->connection, arguments[i], &endpoints[request->endpoints_count].target,
                              failure);
        if (r < 0) {
            failure->status = EXIT_STATUS_USAGE;
            return r;
        }
        request->endpoints_count++;
    }
    return 0;
}

static void print_json(const struct attach_result *result)
{
    struct json_object *object = json_object_new_object();
    char device[32];

    snprintf(device, sizeof device, "/dev/nbd%" PRIu32, result->device.index);
    json_object_object_add(object, "device", json_object_new_string(device));
    json_object_object_add(object, "size", json_object_new_uint64(result->device.size));
    json_object_object_add(object, "read_only", json_object_new_boolean(result->read_only));
    json_object_object_add(object, "connections", json_object_new_uint64(result->state.connections));
    json_object_object_add(object, "tls", json_object_new_string(connection_path_name(result->path)));
    json_object_object_add(object, "uri", json_object_new_string(result->state.uri));
    printf("%s\n",
           json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(object);
}

/* A script that cannot learn the device's name could never detach it: so it is taken back. */
static int report(const struct attach *attach, struct attach_result *result)
{
    if (result->tail)
        print_warning("/dev/nbd%" PRIu32 " lacks the export's last %" PRIu64
                      " bytes: they are less than a sector",
                      result->device.index, result->tail);
    if (attach->json)
        print_json(result);
    else
        printf("/dev/nbd%" PRIu32 "\n", result->device.index);
    if (finish_output() == EXIT_STATUS_DONE)
        return EXIT_STATUS_DONE;
    attach_undo(result);
    return EXIT_STATUS_FAILED;
}

/* Nobody asked for these, so they are said, once. */
static void warn_of_relay(const struct attach *attach, const struct attach_result *result)
{
    if (result->relay_reason.text[0] && attach->request.ktls == KTLS_AUTO)
        print_warning("a process (" RELAY_NAME ") stands between kernel and server: %s",
                      result->relay_reason.text);
    if (result->relay_weakness.text[0])
        print_warning("a shortage of memory may hang this disk: " RELAY_NAME " %s%s%s",
                      result->relay_weakness.text, result->relay_weakness.hint[0] ? "; " : "",
                      result->relay_weakness.hint);
}

static void tell_verbose(const struct attach *attach, const struct attach_result *result)
{
    print_verbose("%s: %" PRIu64 " bytes, %zu connections%s", result->state.uri, result->device.size,
                  result->state.connections,
                  result->adopted ? "; it was attached already, without its agent" : "");
    if (!attach->no_agent)
        print_verbose("a request may take %" PRIu64 " s (0: any time), a lost server %" PRIu64 " s",
                      result->state.timeout_s, result->state.dead_timeout_s);
}

static void make_plan(const struct attach *attach, struct endpoint *endpoints, struct attach_result *result,
                      struct agent_plan *plan)
{
    *plan = (struct agent_plan){
        .endpoints = endpoints,
        .endpoints_count = attach->request.endpoints_count,
        .serving = result->server,
        .ktls = attach->request.ktls,
        .connect_timeout_ns = attach->request.connect_timeout_ns,
        .timeout_s = result->state.timeout_s,
        .dead_timeout_s = result->state.dead_timeout_s,
        .poll_ns = attach->poll_ns,
        .cancel_fd = attach->request.cancel_fd,
        .essential = attach->essential,
        .device = result->device,
        .state = &result->state,
    };
    for (size_t i = 0; i < NBD_MAX_CONNECTIONS; i++)
        plan->fds[i] = i < result->connections.count ? steal_fd(&result->connections.list[i].fd) : -1;
}

struct foreground {
    const struct attach *attach;
    struct attach_result *result;
    bool ready;
    int status;
};

static void foreground_ready(void *opaque)
{
    struct foreground *foreground = opaque;

    foreground->ready = true;
    foreground->status = report(foreground->attach, foreground->result);
}

static int be_agent(const struct attach *attach, struct agent_plan *plan, struct attach_result *result)
{
    struct foreground foreground = {.attach = attach, .result = result, .status = EXIT_STATUS_DONE};
    struct failure failure = {0};

    if (agent_foreground(plan, foreground_ready, &foreground, &failure) == 0)
        return foreground.status;
    /* Once it was usable somebody may be using it: without its agent it is as good as before. */
    if (!foreground.ready)
        attach_undo(result);
    return print_failure(&failure);
}

/* From here on somebody looks after the device, or the caller has said that nobody shall. */
static int conclude(const struct attach *attach, struct endpoint *endpoints, struct attach_result *result)
{
    struct failure failure = {0};
    struct agent_plan plan;

    if (attach->no_agent)
        return report(attach, result);
    make_plan(attach, endpoints, result, &plan);
    if (attach->essential)
        program_invocation_name[0] = '@';
    if (attach->foreground)
        return be_agent(attach, &plan, result);
    if (agent_start(&plan, &failure) == 0)
        return report(attach, result);
    attach_undo(result);
    return print_failure(&failure);
}

static int attach_and_report(struct attach *attach, char **arguments, int count)
{
    struct endpoint endpoints[URIS_MAX] = {0};
    struct attach_result result = {0};
    struct failure failure = {0};
    int r = parse_arguments(attach, arguments, count, endpoints, &failure);
    int status;

    for (size_t i = 0; i < attach->request.endpoints_count && r == 0; i++) {
        warn_unverified(&endpoints[i].target);
        endpoints[i].policy.reconnects = !attach->no_agent;
        r = endpoint_load(&endpoints[i], &failure);
    }
    if (r == 0)
        r = attach_disk(&attach->request, &result, &failure);
    if (r == 0)
        tell_verbose(attach, &result);
    if (r == 0)
        warn_of_relay(attach, &result);
    status = r < 0 ? print_failure(&failure) : conclude(attach, endpoints, &result);
    attach_result_clear(&result);
    for (size_t i = 0; i < URIS_MAX; i++)
        endpoint_clear(&endpoints[i]);
    return status;
}

static int run(int argc, char **argv)
{
    struct attach attach = {.connection = CONNECTION_OPTIONS_DEFAULT, .request = {.connections = DIAL_AUTO}};
    char **arguments;
    int count, status, cancel_fd;

    if (options_parse(&command_attach, argc, argv, &attach, &arguments, &count, &status) == OPTIONS_EXIT)
        return status;
    if (attach.no_agent && (attach.foreground || attach.essential)) {
        print_error("attach: --no-agent contradicts --foreground and --swap");
        return EXIT_STATUS_USAGE;
    }
    cancel_fd = interrupt_catch();
    if (cancel_fd < 0) {
        print_error("cannot catch signals: %s", strerror(-cancel_fd));
        return EXIT_STATUS_FAILED;
    }
    attach.request.cancel_fd = cancel_fd;
    attach.request.connect_timeout_ns = attach.connection.connect_timeout_ns;
    attach.request.io_timeout_ns = attach.connection.io_timeout_ns;
    attach.request.wait_ns = attach.has_wait ? attach.wait_ns : 0;
    attach.request.agent = !attach.no_agent;
    if (program_invocation_name[0] == '@' &&
        !attach.no_agent) /* systemd's ROOT_STORAGE_DAEMONS: not to be killed */
        attach.essential = true;
    if (attach.essential && !attach.request.has_dead_timeout) {
        attach.request.has_dead_timeout = true;
        attach.request.dead_timeout_s = ATTACH_FOREVER_S;
    }
    return attach_and_report(&attach, arguments, count);
}
