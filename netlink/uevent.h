/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Kernel object events over libmnl (NETLINK_KOBJECT_UEVENT, group 1: what the kernel says, not udevd). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "reason.h"

enum uevent_action {
    UEVENT_ADD,
    UEVENT_CHANGE,
    UEVENT_REMOVE,
    UEVENT_OTHER,
};

/* Pointers point into the message that was parsed; absent values are "". */
struct uevent {
    enum uevent_action action;
    const char *subsystem; /* "block" */
    const char *devtype;   /* "disk", "partition" */
    const char *devname;   /* "nbd0p1", without /dev/ */
};

struct uevent_socket;

int uevent_open(struct uevent_socket **ret, struct netlink_reason *reason);
void uevent_close(struct uevent_socket *socket); /* NULL is fine */
void uevent_closep(struct uevent_socket **socket);
int uevent_fd(const struct uevent_socket *socket); /* for poll(2); owned by the socket */

/*
 * Takes one event without blocking; messages that are not from the kernel (nl_pid != 0) are passed over. 1
 * and *event (valid until the next call), 0 when there is none, -ENOBUFS when some were lost, or another
 * -errno.
 */
int uevent_next(struct uevent_socket *socket, struct uevent *event, struct netlink_reason *reason);

/*
 * The parser alone, free of I/O (fuzzed). data need not be terminated (but is -EBADMSG then, as the kernel
 * terminates every string). 0 or -EBADMSG.
 */
int uevent_parse(const char *data, size_t size, struct uevent *event);
