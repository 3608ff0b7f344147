/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The whole way: targets -> connections -> device -> state. All or nothing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/state.h"
#include "failure.h"
#include "netlink/nbd.h"
#include "netlink/sysfs.h"
#include "protocol/dial.h"
#include "protocol/uri.h"

#define ATTACH_NAME_MAX      64
/* The kernel counts DEAD_CONN_TIMEOUT in jiffies in a long (up to 1000 a second): a century, or 23 days with
 * 32 bits. */
#define ATTACH_FOREVER_S     (sizeof(long) == 8 ? UINT64_C(3155760000) : UINT64_C(2000000))
/* TIMEOUT is kept in jiffies in 32 bits. */
#define ATTACH_TIMEOUT_MAX_S UINT64_C(2000000)

struct attach_request {
    const struct endpoint *endpoints; /* equal servers of one disk, in order; not owned, as is all here */
    size_t endpoints_count;
    uint32_t index; /* NBD_INDEX_ANY: whichever is free */
    bool read_only;
    size_t connections; /* DIAL_AUTO or a number */
    enum ktls_mode ktls;
    uint64_t block_size;                /* 0: from the server */
    bool agent;                         /* there will be one: what is lost is brought back */
    bool has_timeout, has_dead_timeout; /* else chosen, by whether there is an agent */
    uint64_t timeout_s, dead_timeout_s;
    const char *name;            /* NULL: none */
    uint64_t connect_timeout_ns; /* for each target */
    uint64_t io_timeout_ns;      /* for the kernel's first reads */
    uint64_t wait_ns;            /* keep trying; 0: each target once */
    int cancel_fd;
};

struct attach_result {
    bool adopted;              /* it was attached already, and its agent has died: only that is missing */
    struct nbd_device device;  /* as the kernel has it */
    size_t server;             /* index of the endpoint that serves */
    struct device_state state; /* as it was written; owned */
    struct connections connections; /* our references to what the kernel has; owned; none when adopted */
    uint64_t tail;                  /* bytes of the export behind the last sector, which no device reaches */
    bool read_only;
    enum connection_path path;     /* RELAY when it is so for any of them */
    struct failure relay_reason;   /* RELAY: why; to be told once */
    struct failure relay_weakness; /* RELAY: why a shortage of memory may hang it; text empty: it may not */
};

/* What --name may be: it becomes a file name under /dev/disk/by-id. */
bool attach_name_valid(const char *name);

/* The backend identifier of a disk that is so asked for. -ENOMEM. */
int attach_backend(const struct target *target, const char *name, char *backend, size_t size);

/*
 * Attaches, or (with an agent wanted) finds the device that this disk is attached as, and which has lost its
 * agent: its connections are left as they are.
 */
int attach_disk(const struct attach_request *request, struct attach_result *result, struct failure *failure);

/* Takes it back, unless it was adopted. */
void attach_undo(const struct attach_result *result);

void attach_result_clear(struct attach_result *result);
