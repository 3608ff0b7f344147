/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * target -> fd -> export, as often as the kernel is to have connections: each negotiated in a thread of its own,
 * all checked to reach the same disk.
 */
#pragma once

#include <stddef.h>

#include "deadline.h"
#include "failure.h"
#include "protocol/export.h"
#include "protocol/uri.h"

#define DIAL_MAX_CONNECTIONS 16
#define DIAL_AUTO            0

/* Ready for the kernel: negotiated, silent, simple replies. */
struct connections {
    int fds[DIAL_MAX_CONNECTIONS]; /* owned; count of them */
    size_t count;
    struct export export; /* what all of them reach */
};

/* Says good-bye with NBD_CMD_DISC where a socket is still ours, closes and frees; safe on a zeroed struct. */
void connections_close(struct connections *connections);

/* Closes our references only: the kernel holds its own, and the session goes on. */
void connections_release(struct connections *connections);

/*
 * wanted: 1..DIAL_MAX_CONNECTIONS, or DIAL_AUTO. More than one is refused (-EOPNOTSUPP) of a server that does not say
 * CAN_MULTI_CONN, since a flush on one connection would not cover writes on another. -ESTALE with the exit status
 * for a changed identity when two connections reach different disks.
 */
int dial(const struct target *target, size_t wanted, const struct deadline *deadline,
         struct connections *connections, struct failure *failure);
