/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/attach.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/handover.h"
#include "agent/state.h"
#include "cleanup.h"
#include "netlink/sysfs.h"
#include "protocol/wire.h"

#define NS_PER_S      UINT64_C(1000000000)
#define WAIT_FIRST_NS (NS_PER_S / 4)
#define WAIT_MOST_NS  (5 * NS_PER_S)

static const char name_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:+@";

bool attach_name_valid(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length <= ATTACH_NAME_MAX && strspn(name, name_characters) == length &&
           name[0] != '.';
}

void attach_result_clear(struct attach_result *result)
{
    free(result->uri);
    *result = (struct attach_result){0};
}

static int from_kernel(struct failure *failure, int error, const struct netlink_reason *reason)
{
    return fail_hint(failure, fail(failure, -error, "%s", reason->text), "%s", reason->hint);
}

/* Where the disk is, without who asks for it and how: "server:10810/disk", "/run/nbd.sock/disk". New string.
 */
static char *location_of(const struct target *target)
{
    char *text = NULL;
    int size;

    if (target->transport == TARGET_UNIX && target->socket_path[0] == '\0') /* abstract */
        size = asprintf(&text, "@%.*s/%s", (int)target->socket_path_size - 1,
                        (const char *)target->socket_path + 1, target->export_name);
    else if (target->transport == TARGET_UNIX)
        size = asprintf(&text, "%.*s/%s", (int)target->socket_path_size, (const char *)target->socket_path,
                        target->export_name);
    else if (target->transport == TARGET_VSOCK)
        size = asprintf(&text, "vsock-%u:%u/%s", target->vsock_cid, target->vsock_port, target->export_name);
    else if (strcmp(target->port, NBD_DEFAULT_PORT) == 0)
        size = asprintf(&text, "%s/%s", target->host, target->export_name);
    else
        size = asprintf(&text, "%s:%s/%s", target->host, target->port, target->export_name);
    return size < 0 ? NULL : text;
}

/*
 * The backend identifier is what tells disks apart for the kernel, udev and RECONFIGURE: the name the user
 * gave, or where the disk is. It becomes a file name, so other bytes than a name's become '_'.
 */
static int make_backend(const struct target *target, const char *name, char *backend, size_t size)
{
    _cleanup_free_ char *location = name ? NULL : location_of(target);

    if (!name && !location)
        return -ENOMEM;
    snprintf(backend, size, "%s", name ? name : location);
    for (char *c = backend; *c; c++)
        if (!strchr(name_characters, *c))
            *c = '_';
    return 0;
}

static int dial_endpoint(const struct attach_request *request, const struct endpoint *endpoint,
                         struct connections *connections, struct failure *failure)
{
    struct deadline deadline = deadline_after(request->connect_timeout_ns, request->cancel_fd);
    _cleanup_free_ char *uri = NULL;
    int r = dial(endpoint, request->connections, request->ktls, &deadline, connections, failure);

    if (r == 0)
        return 0;
    uri = target_format(&endpoint->target);
    return fail_within(failure, r, "%s", uri ? uri : "?");
}

/* In the order given: the first that answers is taken. Which one is told by *found. */
static int dial_first(const struct attach_request *request, struct connections *connections,
                      const struct target **found, struct failure *failure)
{
    int r = -EINVAL;

    for (size_t i = 0; i < request->endpoints_count; i++) {
        *found = &request->endpoints[i].target;
        r = dial_endpoint(request, &request->endpoints[i], connections, failure);
        if (r == 0 || r == -ECANCELED)
            return r;
    }
    return r;
}

/* What passes by itself when the server, or the route to it, comes up. */
static bool worth_waiting(int error)
{
    switch (-error) {
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EADDRNOTAVAIL:
    case ETIMEDOUT:
    case ENOENT: /* the unix socket, or the export, is not there yet */
    case ENXIO:  /* nor the name */
    case EBUSY:
    case EAGAIN:
    case ESHUTDOWN:
    case EPIPE:
        return true;
    default:
        return false;
    }
}

static int dial_patiently(const struct attach_request *request, struct connections *connections,
                          const struct target **found, struct failure *failure)
{
    struct deadline patience = deadline_after(request->wait_ns, request->cancel_fd);
    uint64_t pause_ns = WAIT_FIRST_NS;

    for (;;) {
        struct deadline pause = deadline_after(pause_ns, request->cancel_fd);
        int r = dial_first(request, connections, found, failure);

        if (r == 0 || !worth_waiting(r) || deadline_remaining_ms(&patience) == 0)
            return r;
        if (pause.at_ns > patience.at_ns)
            pause.at_ns = patience.at_ns;
        if (deadline_poll(&pause, -1, 0) == -ECANCELED)
            return fail(failure, ECANCELED, "interrupted");
        pause_ns = pause_ns * 2 > WAIT_MOST_NS ? WAIT_MOST_NS : pause_ns * 2;
    }
}

/* Everything of the sockets that cannot be asked for any more once only the kernel holds them. */
static int remember_sockets(const struct connections *connections, struct device_state *state,
                            struct failure *failure)
{
    for (size_t i = 0; i < connections->count; i++) {
        struct netlink_reason reason = {0};
        int r = socket_identify(connections->list[i].fd, &state->sockets[i], &reason);

        if (r < 0)
            return from_kernel(failure, r, &reason);
        state->connections++;
    }
    return 0;
}

static int remember(const struct attach_request *request, const struct target *target,
                    const struct connections *connections, const char *backend, uint32_t index,
                    struct failure *failure)
{
    struct device_state state = {.index = index};
    struct netlink_reason reason = {0};
    struct nbd_device device;
    int r = nbd_device_read("", index, &device, &reason);

    if (r < 0)
        return from_kernel(failure, r, &reason);
    state.pid = device.pid;
    state.backend = strdup(backend);
    state.uri = target_format(target);
    state.export_name = strdup(target->export_name);
    state.name = request->name ? strdup(request->name) : NULL;
    state.size = connections->export.size;
    state.flags = connections->export.flags;
    if (!state.backend || !state.uri || !state.export_name || (request->name && !state.name))
        r = fail(failure, ENOMEM, "out of memory");
    if (r == 0)
        r = remember_sockets(connections, &state, failure);
    if (r == 0)
        r = device_state_write(&state, failure);
    device_state_clear(&state);
    return r;
}

static int fill_result(const struct attach_request *request, const struct target *target,
                       const struct connections *connections, uint32_t index, struct attach_result *result,
                       struct failure *failure)
{
    *result = (struct attach_result){
        .index = index,
        .size = connections->export.size,
        .read_only = request->read_only || export_can(&connections->export, NBD_FLAG_READ_ONLY),
        .connections = connections->count,
        .path = connections->list[0].path,
        .relay_reason = connections->relay_reason,
        .uri = target_format(target),
    };
    return result->uri ? 0 : fail(failure, ENOMEM, "out of memory");
}

static int hand_over(const struct attach_request *request, const struct target *target,
                     const struct connections *connections, struct nbd_netlink *netlink,
                     struct attach_result *result, struct failure *failure)
{
    struct deadline deadline = deadline_after(request->io_timeout_ns, request->cancel_fd);
    char backend[NBD_BACKEND_MAX + 1];
    struct handover handover = {
        .netlink = netlink,
        .index = request->index,
        .read_only = request->read_only,
        .block_size = request->block_size,
        .timeout_s = request->timeout_s,
        .dead_timeout_s = request->dead_timeout_s,
        .backend = backend,
    };
    uint32_t index;
    int r;

    if (make_backend(target, request->name, backend, sizeof backend) < 0)
        return fail(failure, ENOMEM, "out of memory");
    r = handover_attach(&handover, connections, &deadline, &index, failure);
    if (r < 0)
        return r;
    r = remember(request, target, connections, backend, index, failure);
    if (r == 0)
        r = fill_result(request, target, connections, index, result, failure);
    /* A signal that came while nobody was waiting counts all the same. */
    if (r == 0 &&
        deadline_poll(&(struct deadline){.at_ns = 0, .cancel_fd = request->cancel_fd}, -1, 0) == -ECANCELED)
        r = fail(failure, ECANCELED, "interrupted");
    if (r < 0) {
        handover_undo(netlink, index);
        device_state_remove(index);
    }
    return r;
}

static int attach_once(const struct attach_request *request, struct nbd_netlink *netlink,
                       struct attach_result *result, struct failure *failure)
{
    struct connections connections = {0};
    const struct target *target = NULL;
    int r = dial_patiently(request, &connections, &target, failure);

    if (r < 0)
        return r;
    r = hand_over(request, target, &connections, netlink, result, failure);
    /* Once handed over the session is the kernel's: no farewell from us. A rollback has disconnected it. */
    if (r == 0)
        connections_release(&connections);
    else
        connections_close(&connections);
    return r;
}

int attach_disk(const struct attach_request *request, struct attach_result *result, struct failure *failure)
{
    struct nbd_netlink *netlink = NULL;
    struct netlink_reason reason = {0};
    int r = nbd_netlink_open(&netlink, true, &reason);

    if (r < 0)
        return from_kernel(failure, r, &reason);
    r = attach_once(request, netlink, result, failure);
    if (r == -EUCLEAN)
        r = attach_once(request, netlink, result, failure);
    nbd_netlink_close(netlink);
    if (r < 0)
        attach_result_clear(result);
    return r;
}

void attach_undo(const struct attach_result *result, struct failure *failure)
{
    struct nbd_netlink *netlink = NULL;
    struct netlink_reason reason = {0};

    if (nbd_netlink_open(&netlink, false, &reason) < 0) {
        from_kernel(failure, -EIO, &reason);
        return;
    }
    handover_undo(netlink, result->index);
    device_state_remove(result->index);
    nbd_netlink_close(netlink);
}
