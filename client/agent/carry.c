/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/carry.h"

#include <errno.h>

#include "agent/kernel_failure.h"
#include "agent/relay.h"

static int identify(const struct connection *connection, struct socket_identity *identity,
                    struct failure *failure)
{
    bool relayed = connection->path == CONNECTION_RELAY;
    int fd = relayed ? session_channel(connection->session)->fd : connection->fd;
    struct netlink_reason reason = {0};
    int r = socket_identify(fd, identity, &reason);

    /* vsock: its addresses are all we know of it. */
    if (r == 0 || (relayed && r == -EAFNOSUPPORT))
        return 0;
    return kernel_failure(failure, r, &reason);
}

int carry_connections(struct connections *connections, struct carried *carried, struct failure *failure)
{
    int r = 0;

    *carried = (struct carried){0};
    for (size_t i = 0; i < connections->count && r == 0; i++)
        r = identify(&connections->list[i], &carried->sockets[i], failure);
    for (size_t i = 0; i < connections->count && r == 0; i++)
        if (connections->list[i].path == CONNECTION_RELAY)
            r = relay_start(&connections->list[i], &carried->relays[i], &carried->relay_weakness, failure);
    return r;
}
