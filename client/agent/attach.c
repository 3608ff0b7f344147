/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/attach.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/adopt.h"
#include "agent/carry.h"
#include "agent/handover.h"
#include "agent/kernel_failure.h"
#include "agent/process.h"
#include "agent/servers.h"
#include "agent/state.h"
#include "cleanup.h"
#include "netlink/module.h"
#include "netlink/sysfs.h"
#include "protocol/wire.h"

#define NS_PER_S      UINT64_C(1000000000)
#define WAIT_FIRST_NS (NS_PER_S / 4)
#define WAIT_MOST_NS  (5 * NS_PER_S)
#define SPOILT_MOST   64

static const char name_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:+@";

bool attach_name_valid(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length <= ATTACH_NAME_MAX && strspn(name, name_characters) == length &&
           name[0] != '.';
}

void attach_result_clear(struct attach_result *result)
{
    connections_release(&result->connections);
    device_state_clear(&result->state);
    *result = (struct attach_result){0};
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
int attach_backend(const struct target *target, const char *name, char *backend, size_t size)
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

/*
 * With several connections the kernel takes a slow reply for a lost connection (choose_timeouts()): a server
 * that is slow for longer would never get anything done. Nobody is to be surprised by that, so whoever wants
 * an agent and several connections says how many.
 */
static size_t wanted_connections(const struct attach_request *request)
{
    return request->agent && request->connections == DIAL_AUTO ? 1 : request->connections;
}

static int dial_patiently(const struct attach_request *request, struct connections *connections,
                          size_t *found, struct failure *failure)
{
    struct deadline patience = deadline_after(request->wait_ns, request->cancel_fd);
    const struct servers servers = {
        .endpoints = request->endpoints,
        .count = request->endpoints_count,
        .connections = wanted_connections(request),
        .ktls = request->ktls,
        .connect_timeout_ns = request->connect_timeout_ns,
        /* Without --wait each server has its whole time. */
        .patience = request->wait_ns > 0 ? &patience : NULL,
        .cancel_fd = request->cancel_fd,
    };
    uint64_t pause_ns = WAIT_FIRST_NS;
    struct served served;

    for (;;) {
        struct deadline pause = deadline_after(pause_ns, request->cancel_fd);
        int r = servers_dial(&servers, connections, &served, failure);

        *found = served.server;
        if (r == 0 || r == -ECANCELED || !served.worth_waiting || deadline_remaining_ms(&patience) == 0)
            return r;
        if (pause.at_ns > patience.at_ns)
            pause.at_ns = patience.at_ns;
        if (deadline_poll(&pause, -1, 0) == -ECANCELED)
            return fail(failure, ECANCELED, "interrupted");
        pause_ns = pause_ns * 2 > WAIT_MOST_NS ? WAIT_MOST_NS : pause_ns * 2;
    }
}

/* One relay is what a person must know of. */
static enum connection_path path_of(const struct connections *connections)
{
    for (size_t i = 0; i < connections->count; i++)
        if (connections->list[i].path == CONNECTION_RELAY)
            return CONNECTION_RELAY;
    return connections->list[0].path;
}

static void remember_connections(const struct connections *connections, const struct carried *carried,
                                 struct device_state *state)
{
    state->path = path_of(connections);
    state->tls = connections->list[0].tls;
    state->connections = connections->count;
    for (size_t i = 0; i < connections->count; i++) {
        state->sockets[i] = carried->sockets[i];
        state->relays[i] = carried->relays[i];
    }
}

static int remember(const struct attach_request *request, const struct handover *handover,
                    const struct target *target, const struct connections *connections,
                    const struct carried *carried, const struct nbd_device *device,
                    struct device_state *state, struct failure *failure)
{
    const char *canonical_name = connections->export.canonical_name;

    *state = (struct device_state){.index = device->index, .pid = device->pid};
    state->backend = strdup(device->backend);
    state->uri = target_format(target);
    state->export_name = strdup(target->export_name);
    state->name = request->name ? strdup(request->name) : NULL;
    state->canonical_name = canonical_name ? strdup(canonical_name) : NULL;
    state->size = connections->export.size;
    state->flags = connections->export.flags;
    state->timeout_s = handover->timeout_s;
    state->dead_timeout_s = handover->dead_timeout_s;
    remember_connections(connections, carried, state);
    if (!state->backend || !state->uri || !state->export_name || (request->name && !state->name) ||
        (canonical_name && !state->canonical_name))
        return fail(failure, ENOMEM, "out of memory");
    return device_state_write(state, failure);
}

static void fill_result(const struct attach_request *request, const struct connections *connections,
                        const struct carried *carried, const struct nbd_device *device,
                        struct attach_result *result)
{
    result->device = *device;
    result->tail = connections->export.size - device->size;
    result->read_only = request->read_only || export_can(&connections->export, NBD_FLAG_READ_ONLY);
    result->path = path_of(connections);
    result->relay_reason = connections->relay_reason;
    result->relay_weakness = carried->relay_weakness;
}

/*
 * An agent brings a lost connection back, so that I/O waits for it. What was sent on the lost one waits for
 * its own time to run out, even when the new one is there: so that time decides how soon all flows again. One
 * connection is never cut off for being slow (the driver only looks at it every second, see be_patient());
 * of several the driver gives up whichever has a request overdue.
 */
#define SEVERAL_TIMEOUT_S    10
#define AGENT_DEAD_TIMEOUT_S 600

static void choose_timeouts(const struct attach_request *request, size_t connections,
                            struct handover *handover)
{
    handover->timeout_s = request->timeout_s;
    if (!request->has_timeout)
        handover->timeout_s = request->agent && connections > 1 ? SEVERAL_TIMEOUT_S : 0;
    handover->dead_timeout_s = request->dead_timeout_s;
    if (!request->has_dead_timeout)
        handover->dead_timeout_s = request->agent ? AGENT_DEAD_TIMEOUT_S : 0;
}

static int hand_over(const struct attach_request *request, const struct target *target,
                     const struct connections *connections, const struct carried *carried,
                     struct nbd_netlink *netlink, struct attach_result *result, struct failure *failure)
{
    struct deadline deadline = deadline_after(request->io_timeout_ns, request->cancel_fd);
    char backend[NBD_BACKEND_MAX + 1];
    struct handover handover = {
        .netlink = netlink,
        .index = request->index,
        .read_only = request->read_only,
        .block_size = request->block_size,
        .agent = request->agent,
        .backend = backend,
    };
    struct nbd_device device;
    int r;

    choose_timeouts(request, connections->count, &handover);

    if (attach_backend(target, request->name, backend, sizeof backend) < 0)
        return fail(failure, ENOMEM, "out of memory");
    r = handover_attach(&handover, connections, &deadline, &device, failure);
    if (r < 0)
        return r;
    r = remember(request, &handover, target, connections, carried, &device, &result->state, failure);
    if (r == 0)
        fill_result(request, connections, carried, &device, result);
    /* A signal that came while nobody was waiting counts all the same. */
    if (r == 0 &&
        deadline_poll(&(struct deadline){.at_ns = 0, .cancel_fd = request->cancel_fd}, -1, 0) == -ECANCELED)
        r = fail(failure, ECANCELED, "interrupted");
    if (r < 0) {
        handover_undo(&device);
        device_state_remove(&device);
    }
    return r;
}

static int attach_once(const struct attach_request *request, struct nbd_netlink *netlink,
                       struct attach_result *result, struct failure *failure)
{
    struct connections connections = {0};
    struct carried carried;
    int r = dial_patiently(request, &connections, &result->server, failure);

    if (r < 0)
        return r;
    r = carry_connections(&connections, &carried, failure);
    if (r == 0)
        r = hand_over(request, &request->endpoints[result->server].target, &connections, &carried, netlink,
                      result, failure);
    /*
     * Once handed over the session is the kernel's: no farewell from us. A rollback has disconnected it;
     * relays end when our reference is the last one that closes.
     */
    if (r == 0)
        result->connections = connections;
    else
        connections_close(&connections);
    return r;
}

/*
 * What kTLS needs, before the first handshake: a module that cannot be had may not be needed, and if it is,
 * the connection says so.
 */
static void load_tls_modules(const struct attach_request *request)
{
    struct netlink_reason ignored;
    bool wanted = false;

    for (size_t i = 0; i < request->endpoints_count; i++)
        wanted |= request->endpoints[i].target.tls != TARGET_TLS_NEVER &&
                  request->endpoints[i].target.transport == TARGET_TCP;
    if (!wanted || request->ktls == KTLS_NO)
        return;
    for (const char *const *name = secure_kernel_modules; *name; name++)
        module_load(*name, &ignored);
}

int attach_disk(const struct attach_request *request, struct attach_result *result, struct failure *failure)
{
    struct nbd_netlink *netlink = NULL;
    struct netlink_reason reason = {0};
    int r;

    *result = (struct attach_result){0};
    if (request->agent) {
        process_small_stacks();
        r = adopt_orphan(request, result, failure);
        if (r != -ENOENT)
            return r;
    }
    r = nbd_netlink_open(&netlink, true, &reason);
    if (r < 0)
        return kernel_failure(failure, r, &reason);
    load_tls_modules(request);
    r = -EUCLEAN;
    /* Each attempt does away with one spoilt device. */
    for (int attempt = 0; attempt < SPOILT_MOST && r != 0; attempt++) {
        r = attach_once(request, netlink, result, failure);
        if (r < 0)
            device_state_clear(&result->state);
        if (r != -EUCLEAN)
            break;
    }
    nbd_netlink_close(netlink);
    if (r < 0)
        attach_result_clear(result);
    return r;
}

void attach_undo(const struct attach_result *result)
{
    if (result->adopted)
        return;
    handover_undo(&result->device);
    device_state_remove(&result->device);
}
