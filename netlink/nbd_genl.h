/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What nbd.c and nbd_events.c both need of libnl. */
#pragma once

#include "reason.h"

struct nl_sock;

/* A positive errno for one of libnl's own error numbers, of either sign. */
int nbd_genl_error(int nl_error);

/* Connects a new socket to generic netlink, with a bound on every wait. 0 or -errno. */
int nbd_genl_connect_socket(struct nl_sock *socket, struct netlink_reason *reason);

/* Says why the family cannot be found (error: what the kernel answered, ENOENT for "no such family"). */
int nbd_genl_absent(int error, struct netlink_reason *reason);
