/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/kernel_failure.h"
#include "agent/relay.h"
#include "cleanup.h"

/* For all devices together: an agent that is stuck must not hold up the list. */
#define AGENT_PATIENCE_NS UINT64_C(1000000000)

/* The kernel knows nothing of vsock sockets by sock_diag as we ask it: there the relay is all that tells. */
static bool is_up(const struct device_view *view, size_t i)
{
    const struct device_state *state = &view->state;

    if (state->relays[i] && !relay_lives(state->relays[i]))
        return false;
    if (state->relays[i] && state->sockets[i].remote.ss_family == AF_VSOCK)
        return true;
    return view->socket_found[i] && view->sockets[i].established;
}

static void look_at_sockets(struct device_view *view)
{
    for (size_t i = 0; i < view->state.connections; i++) {
        struct netlink_reason ignored;
        int r = socket_view(&view->state.sockets[i], &view->sockets[i], &ignored);

        view->socket_found[i] = r == 0;
        /* A kernel that cannot tell (no tcp_diag, no unix_diag) has not said that the link is down. */
        view->socket_up[i] = is_up(view, i) || (r < 0 && r != -ENOENT && !view->state.relays[i]);
        view->connections_up += view->socket_up[i];
    }
}

/* What an agent that is gone, or too busy to answer, has written. */
static void remember_agent(struct device_view *view)
{
    view->agent.reconnects = view->state.reconnects;
    view->agent.outage_seconds = (double)view->state.outage_ms / 1000;
    view->agent.last_error = view->state.last_error ? strdup(view->state.last_error) : NULL;
}

static void fill(struct device_view *view, const struct deadline *deadline)
{
    view->known = device_state_read(&view->device, &view->state) == 0;
    if (!view->known)
        return;
    view->has_agent = agent_view_read(view->device.index, deadline, &view->agent) == 0;
    if (!view->has_agent && view->known)
        remember_agent(view);
    look_at_sockets(view);
}

int device_view_read(uint32_t index, struct device_view *view, struct failure *failure)
{
    struct deadline deadline = deadline_after(AGENT_PATIENCE_NS, -1);
    struct netlink_reason reason = {0};
    int r;

    *view = (struct device_view){0};
    r = nbd_device_read("", index, &view->device, &reason);
    if (r < 0)
        return kernel_failure(failure, r, &reason);
    if (!view->device.attached)
        return fail(failure, ENODEV, "/dev/nbd%u is not attached", index);
    fill(view, &deadline);
    return 0;
}

void device_view_clear(struct device_view *view)
{
    device_state_clear(&view->state);
    agent_view_clear(&view->agent);
}

int device_views(struct device_view **views, struct failure *failure)
{
    _cleanup_free_ struct nbd_device *devices = NULL;
    struct netlink_reason reason = {0};
    struct deadline deadline = deadline_after(AGENT_PATIENCE_NS, -1);
    int count = nbd_device_list("", &devices, &reason);
    int attached = 0;

    if (count < 0)
        return kernel_failure(failure, count, &reason);
    *views = calloc(count > 0 ? (size_t)count : 1, sizeof **views);
    if (!*views)
        return fail(failure, ENOMEM, "out of memory");
    for (int i = 0; i < count; i++) {
        if (!devices[i].attached)
            continue;
        (*views)[attached].device = devices[i];
        fill(&(*views)[attached++], &deadline);
    }
    return attached;
}

void device_views_free(struct device_view *views, size_t count)
{
    for (size_t i = 0; i < count; i++)
        device_view_clear(&views[i]);
    free(views);
}

const char *device_view_state(const struct device_view *view)
{
    if (view->has_agent)
        return agent_link_name(view->agent.link);
    /* Of a device that is not ours only so much is known: the kernel has not let go of it. */
    if (!view->known || view->connections_up > 0)
        return "up";
    /* Its agent has much to do just now, or it would have told. */
    return agent_lives(view->state.agent_pid) ? "reconnecting" : "down";
}

pid_t device_view_agent(const struct device_view *view)
{
    pid_t pid = view->known ? view->state.agent_pid : 0;

    if (view->has_agent)
        return view->agent.pid;
    return agent_lives(pid) ? pid : 0;
}

const char *device_view_uri(const struct device_view *view)
{
    return view->has_agent && view->agent.uri ? view->agent.uri : view->state.uri;
}

const char *device_view_tls(const struct device_view *view)
{
    if (!view->known)
        return "-";
    /* What is encrypted by the kernel, the kernel must confirm as long as it has the socket. */
    for (size_t i = 0; i < view->state.connections && view->state.path == CONNECTION_KTLS; i++)
        if (view->socket_up[i] && !view->sockets[i].has_tls)
            return connection_path_name(CONNECTION_PLAIN);
    return connection_path_name(view->state.path);
}
