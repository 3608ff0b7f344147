/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/view.h"

#include <errno.h>
#include <stdlib.h>

#include "cleanup.h"

static int from_kernel(struct failure *failure, int error, const struct netlink_reason *reason)
{
    return fail_hint(failure, fail(failure, -error, "%s", reason->text), "%s", reason->hint);
}

static void look_at_sockets(struct device_view *view)
{
    for (size_t i = 0; i < view->state.connections; i++) {
        struct netlink_reason ignored;

        view->socket_found[i] = socket_view(&view->state.sockets[i], &view->sockets[i], &ignored) == 0;
        if (view->socket_found[i] && view->sockets[i].established)
            view->connections_up++;
    }
}

static void fill(struct device_view *view)
{
    view->known = device_state_read(&view->device, &view->state) == 0;
    if (view->known)
        look_at_sockets(view);
}

int device_view_read(uint32_t index, struct device_view *view, struct failure *failure)
{
    struct netlink_reason reason = {0};
    int r;

    *view = (struct device_view){0};
    r = nbd_device_read("", index, &view->device, &reason);
    if (r < 0)
        return from_kernel(failure, r, &reason);
    if (!view->device.attached)
        return fail(failure, ENODEV, "/dev/nbd%u is not attached", index);
    fill(view);
    return 0;
}

void device_view_clear(struct device_view *view)
{
    device_state_clear(&view->state);
}

int device_views(struct device_view **views, struct failure *failure)
{
    _cleanup_free_ struct nbd_device *devices = NULL;
    struct netlink_reason reason = {0};
    int count = nbd_device_list("", &devices, &reason);
    int attached = 0;

    if (count < 0)
        return from_kernel(failure, count, &reason);
    *views = calloc(count > 0 ? (size_t)count : 1, sizeof **views);
    if (!*views)
        return fail(failure, ENOMEM, "out of memory");
    for (int i = 0; i < count; i++) {
        if (!devices[i].attached)
            continue;
        (*views)[attached].device = devices[i];
        fill(&(*views)[attached++]);
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
    /* Of a device that is not ours only so much is known: the kernel has not let go of it. */
    return !view->known || view->connections_up > 0 ? "up" : "down";
}

const char *device_view_tls(const struct device_view *view)
{
    if (!view->known)
        return "-";
    for (size_t i = 0; i < view->state.connections; i++)
        if (view->socket_found[i] && view->sockets[i].has_tls)
            return "ktls";
    return "none";
}
