/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the kernel does not keep of an attached device: /run/nbdctl/nbdX.json, one file a device. Nothing in
 * it is believed before it was checked against sysfs: another tool may have taken the device since.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "failure.h"
#include "netlink/nbd.h"
#include "netlink/sockdiag.h"
#include "netlink/sysfs.h"
#include "protocol/dial.h"

#define STATE_FOLDER "/run/nbdctl"

struct device_state {
    uint32_t index;
    pid_t pid;       /* as sysfs has it: which attach this is */
    pid_t agent_pid; /* the process that stays beside it; it may be gone. 0: none */
    char *backend;   /* backend identifier, likewise */
    char *uri;       /* canonical, of the server in use; owned, as are all strings */
    char *export_name;
    char *name; /* --name; NULL: none */
    uint64_t size;
    uint16_t flags;            /* transmission flags */
    enum connection_path path; /* RELAY when it is so for any of them */
    struct secure_info tls;    /* of all of them; empty without */
    size_t connections;
    struct socket_identity sockets[NBD_MAX_CONNECTIONS]; /* connections of them, to the server */
    pid_t relays[NBD_MAX_CONNECTIONS];                   /* RELAY: the process of each, else 0 */

    /* What an agent that takes over from another needs to know. */
    char *canonical_name;               /* as the server calls the export; NULL: it did not say */
    uint64_t timeout_s, dead_timeout_s; /* as the kernel has them */
    uint64_t reconnects, outage_ms;
    char *last_error; /* NULL: none yet */
};

void device_state_clear(struct device_state *state);

/* Writes the file whole or not at all (a new one, renamed). -errno (ENOSPC...) with the reason; nothing is
 * left behind. */
int device_state_write(const struct device_state *state, struct failure *failure);

/* The state of an attached device. -ENOENT: none, or that of another attach, or not to be understood. */
int device_state_read(const struct nbd_device *device, struct device_state *state);

/* Removes the state of this attach, if it is this attach's. The folder stays: another process may be about to
 * write into it. */
void device_state_remove(const struct nbd_device *device);
