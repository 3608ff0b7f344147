/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/adopt.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/kernel_failure.h"
#include "cleanup.h"

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

/* Which of the servers asked for it is; the count of them: none. */
static size_t find_server(const struct attach_request *request, const struct device_state *state)
{
    size_t i;

    for (i = 0; i < request->endpoints_count; i++) {
        _cleanup_free_ char *uri = target_format(&request->endpoints[i].target);

        if (uri && strcmp(uri, state->uri) == 0)
            break;
    }
    return i;
}

static bool is_orphan(const struct attach_request *request, const struct nbd_device *device,
                      struct attach_result *result)
{
    struct device_state *state = &result->state;

    if (!device->attached || (request->index != NBD_INDEX_ANY && request->index != device->index) ||
        device_state_read(device, state) < 0)
        return false;
    result->server = find_server(request, state);
    if (state->agent_pid > 0 && !agent_lives(state->agent_pid) && same_text(state->name, request->name) &&
        result->server < request->endpoints_count)
        return true;
    device_state_clear(state);
    return false;
}

/*
 * Attached under the name of this disk, with nobody who remembers it: attached once more it would be two
 * devices of one disk, and each unaware of the other's writes.
 */
static bool was_left_half_done(const struct attach_request *request, const struct nbd_device *device)
{
    char backend[NBD_BACKEND_MAX + 1];
    struct device_state state;

    if (!device->attached || !device->backend[0] || kill(device->pid, 0) == 0 || errno != ESRCH)
        return false;
    if (device_state_read(device, &state) == 0) {
        device_state_clear(&state);
        return false;
    }
    for (size_t i = 0; i < request->endpoints_count; i++)
        if (attach_backend(&request->endpoints[i].target, request->name, backend, sizeof backend) == 0 &&
            strcmp(backend, device->backend) == 0)
            return true;
    return false;
}

int adopt_orphan(const struct attach_request *request, struct attach_result *result, struct failure *failure)
{
    _cleanup_free_ struct nbd_device *list = NULL;
    struct netlink_reason reason = {0};
    int count = nbd_device_list("", &list, &reason);

    if (count < 0)
        return kernel_failure(failure, count, &reason);
    for (int i = 0; i < count; i++) {
        if (was_left_half_done(request, &list[i]))
            return fail_hint(
                failure,
                fail(failure, EBUSY,
                     "the disk is attached already, as /dev/nbd%u, by a process that died before "
                     "it was done",
                     list[i].index),
                "nbdctl detach /dev/nbd%u", list[i].index);
        if (!is_orphan(request, &list[i], result))
            continue;
        if (request->read_only && !list[i].read_only) {
            device_state_clear(&result->state);
            return fail_hint(
                failure,
                fail(failure, EBUSY, "the disk is attached already, writable, as /dev/nbd%u", list[i].index),
                "detach it first, or name another device");
        }
        result->adopted = true;
        result->device = list[i];
        result->read_only = list[i].read_only;
        result->path = result->state.path;
        return 0;
    }
    return -ENOENT;
}
