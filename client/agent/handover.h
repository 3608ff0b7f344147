/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * secured fd -> device: gives negotiated connections to the kernel and waits until the device can be used.
 * Whatever fails on the way, and whenever the caller is interrupted, nothing stays attached.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "deadline.h"
#include "failure.h"
#include "netlink/nbd.h"
#include "netlink/sysfs.h"
#include "protocol/dial.h"

struct handover {
    struct nbd_netlink *netlink; /* not owned */
    uint32_t index;              /* NBD_INDEX_ANY: whichever is free */
    bool read_only;              /* also when the server would let us write */
    uint64_t block_size;         /* logical, bytes; 0: from the server's minimum */
    bool agent;                  /* what is lost is brought back */
    uint64_t timeout_s;      /* per request; 0: the kernel never gives up on a slow server (one connection) */
    uint64_t dead_timeout_s; /* I/O waits this long for a lost server */
    const char *backend;     /* backend identifier */
};

/* The block size the device will have: the server's minimum, at least 512. -EINVAL when the kernel cannot do
 * it. */
int handover_block_size(const struct handover *handover, const struct export *export, uint64_t *block_size,
                        struct failure *failure);

/*
 * CONNECT, queue limits, partitions. The deadline bounds the waits for the kernel, udev and the first reads;
 * the connections stay the caller's to release. On success *device is what is attached.
 * -EUCLEAN: the kernel's device was spoilt by an earlier server and has been destroyed; the same once more,
 * with new connections, gets a fresh one.
 */
int handover_attach(const struct handover *handover, const struct connections *connections,
                    const struct deadline *deadline, struct nbd_device *device, struct failure *failure);

/* Takes an attach back: disconnects, unless it is over already, and waits (bounded) until the device is free.
 */
void handover_undo(const struct nbd_device *device);
