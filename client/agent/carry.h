/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * export -> secured fd: whoever carries each connection takes it over. After this only sock_diag can tell of
 * the sockets to the server, so what it needs is remembered first.
 */
#pragma once

#include <sys/types.h>

#include "failure.h"
#include "netlink/sockdiag.h"
#include "protocol/dial.h"

struct carried {
    struct socket_identity sockets[DIAL_MAX_CONNECTIONS]; /* to the server, whoever has them */
    pid_t relays[DIAL_MAX_CONNECTIONS];                   /* 0: the kernel has the socket itself */
    struct failure relay_weakness; /* why the relays are not safe from a shortage of memory; or empty */
};

/*
 * Starts a relay for each connection that needs one: then all have an fd for the kernel. The caller must be
 * single-threaded. After a failure connections_close() ends those that run already.
 */
int carry_connections(struct connections *connections, struct carried *carried, struct failure *failure);
