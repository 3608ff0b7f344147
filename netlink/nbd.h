/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's nbd driver over generic netlink (include/uapi/linux/nbd-netlink.h, drivers/block/nbd.c):
 * family "nbd" version 1. CONNECT, RECONFIGURE and DISCONNECT need CAP_SYS_ADMIN in the initial user
 * namespace; STATUS and events need nothing. Older kernels (6.1) answer in the initial network namespace
 * only, newer ones load the module for whoever asks for the family. All integers are host-endian.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reason.h"

#define NBD_INDEX_ANY       UINT32_MAX
#define NBD_MAX_CONNECTIONS 16  /* our own bound on sockets in one message */
#define NBD_BACKEND_MAX     255 /* bytes of a backend identifier, without terminator: our own bound */

/* NBD_CFLAG_* of the kernel */
#define NBD_DESTROY_ON_DISCONNECT (UINT64_C(1) << 0)
#define NBD_DISCONNECT_ON_CLOSE   (UINT64_C(1) << 1)

struct nbd_netlink; /* one conversation; not for two threads at once */

/*
 * Opens the conversation; loads the nbd module through libkmod when the family is absent and load_module is
 * set. -ENOENT: no such family (module missing or its loading was refused; the reason says which),
 * -ENOMEM, -EPROTO. On success *ret is owned by the caller.
 */
int nbd_netlink_open(struct nbd_netlink **ret, bool load_module, struct netlink_reason *reason);
void nbd_netlink_close(struct nbd_netlink *netlink);   /* NULL is fine */
void nbd_netlink_closep(struct nbd_netlink **netlink); /* for __attribute__((cleanup)) */

/* What CONNECT and RECONFIGURE say. A field at its "absent" value is left out of the message. */
struct nbd_config {
    uint32_t index;      /* NBD_INDEX_ANY: CONNECT takes a free device or makes one */
    uint64_t size;       /* bytes; 0: absent */
    uint64_t block_size; /* bytes, a power of two, 512..page size (64K on new kernels); 0: absent */
    bool has_timeout;
    uint64_t timeout; /* seconds one request may take */
    bool has_dead_timeout;
    uint64_t dead_timeout; /* seconds I/O waits for a lost server */
    bool has_server_flags;
    uint64_t server_flags; /* transmission flags */
    bool has_client_flags;
    uint64_t client_flags; /* NBD_DESTROY_ON_DISCONNECT ... */
    const char *backend;   /* backend identifier; NULL: absent. RECONFIGURE must repeat the one of CONNECT. */
    const int *sockets;    /* the kernel takes its own reference; the caller's fds stay the caller's */
    size_t sockets_count;  /* at most NBD_MAX_CONNECTIONS */
};

/*
 * Hands over (nbd_genl_connect). *index is set on success to the device that was taken. Errors, each with its
 * reason and hint: -EPERM; -EBUSY (attached, or merely open by somebody: udev); -EEXIST (somebody else makes
 * it just now); -EINVAL (size, block size, index or a socket that the driver does not take; several sockets
 * without CAN_MULTI_CONN in server_flags; and, for some tens of milliseconds, a device that is just going
 * away because of DESTROY_ON_DISCONNECT: where an index was named, one more try is worth it); -ENOENT;
 * -EOPNOTSUPP...
 */
int nbd_netlink_connect(struct nbd_netlink *netlink, const struct nbd_config *config, uint32_t *index,
                        struct netlink_reason *reason);

/*
 * Fills dead socket slots, or changes size and timeouts (nbd_genl_reconfigure). Never a size and sockets in
 * one message: -EINVAL here, before the kernel is asked (it would freeze the queue first).
 */
int nbd_netlink_reconfigure(struct nbd_netlink *netlink, const struct nbd_config *config,
                            struct netlink_reason *reason);

/*
 * Fails in-flight I/O and lets go of the sockets (nbd_genl_disconnect): flush first. 0 also for a device that
 * is not attached. -ENODEV: there is no such device; -EPERM.
 */
int nbd_netlink_disconnect(struct nbd_netlink *netlink, uint32_t index, struct netlink_reason *reason);

struct nbd_status {
    uint32_t index;
    bool connected; /* the kernel says so also of a device that is only open: believe sysfs (sysfs.h) instead
                     */
};

/*
 * All devices (index NBD_INDEX_ANY) or one. Returns the number of devices there are (0 or 1 for one), of
 * which at most capacity were written to list; or -errno. Every item of the reply is read, and one device is
 * found by its index, not its place.
 */
int nbd_netlink_status(struct nbd_netlink *netlink, uint32_t index, struct nbd_status *list, size_t capacity,
                       struct netlink_reason *reason);

/* The multicast group: LINK_DEAD events. The fd is for poll(2) and is owned by the events object. */
struct nbd_events;

int nbd_events_open(struct nbd_events **ret, struct netlink_reason *reason);
void nbd_events_close(struct nbd_events *events);
int nbd_events_fd(const struct nbd_events *events);
/*
 * Takes one event without blocking: 1 and *index set, 0 when there is none, -ENOBUFS when events were lost
 * (look at every device), or another -errno.
 */
int nbd_events_next(struct nbd_events *events, uint32_t *index, struct netlink_reason *reason);

/*
 * Decoders, free of I/O (fuzzed): data is one whole netlink message, header included.
 * nbd_decode_connect: 0 and *index, or -EBADMSG. nbd_decode_status: number of devices or -EBADMSG.
 * nbd_decode_event: 1 (LINK_DEAD) and *index, 0 (another message), -EBADMSG.
 */
int nbd_decode_connect(const void *data, size_t size, uint32_t *index);
int nbd_decode_status(const void *data, size_t size, struct nbd_status *list, size_t capacity);
int nbd_decode_event(const void *data, size_t size, uint32_t *index);
