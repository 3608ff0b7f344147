/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The process that stays beside an attached device and brings its connections back. It is not in the data
 * path: whatever becomes of it, I/O goes on as long as the connections live.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/state.h"
#include "failure.h"
#include "netlink/sysfs.h"
#include "protocol/dial.h"
#include "protocol/secure.h"

#define AGENT_NAME "nbdctl-agent" /* as ps -o comm and /proc/PID/comm have it */

/* Everything a reconnect needs, in memory: it must not touch a file. */
struct agent_plan {
    struct endpoint *endpoints; /* not owned; the agent notes in them where the servers were */
    size_t endpoints_count;
    size_t serving; /* index of the one in use */
    enum ktls_mode ktls;
    uint64_t connect_timeout_ns;
    uint64_t timeout_s;      /* as the kernel has it: for one request; 0: none */
    uint64_t dead_timeout_s; /* as the kernel has it */
    uint64_t poll_ns;        /* how often to ask the server for the disk's size; 0: at reconnects only */
    int cancel_fd;           /* ends the wait for a start; -1: nothing does */
    bool essential;          /* the machine needs the disk: no signal ends the agent */
    struct nbd_device device;
    struct device_state *state; /* not owned; what /run has */
    /* Our references to what the kernel has, by slot; -1: of an agent before us. Owned; closed by both below.
     */
    int fds[NBD_MAX_CONNECTIONS];
};

/*
 * Starts the agent in a process of its own, and waits until it is ready; its pid is in the state it wrote.
 * The caller must be single-threaded.
 */
int agent_start(struct agent_plan *plan, struct failure *failure);

/*
 * Is the agent in this process, until the device is detached or it is told to stop: 0. ready() is called once
 * it is; the service manager is told too. After a failure before that -errno, and nothing has happened.
 */
int agent_foreground(struct agent_plan *plan, void (*ready)(void *opaque), void *opaque,
                     struct failure *failure);

/* Whether that process is an agent. */
bool agent_lives(pid_t pid);
