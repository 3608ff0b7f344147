/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An attached device as list and status show it: sysfs, what we remember of it, and the kernel's view of its
 * sockets. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/agent_view.h"
#include "agent/state.h"
#include "failure.h"
#include "netlink/sockdiag.h"
#include "netlink/sysfs.h"

struct device_view {
    struct nbd_device device;
    bool known;                /* we attached it: state holds */
    struct device_state state; /* owned */
    bool has_agent;            /* it has answered: agent holds */
    struct agent_view agent;   /* owned */
    size_t connections_up;
    struct socket_view sockets[NBD_MAX_CONNECTIONS]; /* state.connections of them */
    bool socket_found[NBD_MAX_CONNECTIONS]; /* false: it is closed, or none that the kernel tells of */
    bool socket_up[NBD_MAX_CONNECTIONS];
};

/* -ENODEV when it is not attached. */
int device_view_read(uint32_t index, struct device_view *view, struct failure *failure);
void device_view_clear(struct device_view *view);

/* All attached devices by index; *views is owned by the caller (device_views_free). Count or -errno. */
int device_views(struct device_view **views, struct failure *failure);
void device_views_free(struct device_view *views, size_t count);

/* "up", "reconnecting" or "down". */
const char *device_view_state(const struct device_view *view);

/* The agent's, whether or not it answers; 0: none, or it is gone. */
pid_t device_view_agent(const struct device_view *view);

/* Of the server that serves now; NULL for a device that we did not attach. */
const char *device_view_uri(const struct device_view *view);

/* "none", "ktls" or "relay"; "-" for a device that we did not attach. */
const char *device_view_tls(const struct device_view *view);
