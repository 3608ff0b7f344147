/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <linux/nbd-netlink.h>
#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/socket.h>
#include <string.h>

#include "exchange.h"
#include "nbd.h"
#include "nbd_genl.h"
#include "scoped.h"

/* Messages that are no event, taken in one call: another may always be on its way. */
#define OTHERS_MAX 64

struct nbd_events {
    struct nl_sock *socket;
};

void nbd_events_close(struct nbd_events *events)
{
    if (!events)
        return;
    nl_socket_free(events->socket);
    free(events);
}

static void nbd_events_closep(struct nbd_events **events)
{
    nbd_events_close(*events);
}

static int join_group(struct nl_sock *socket, struct netlink_reason *reason)
{
    int r = genl_ctrl_resolve_grp(socket, NBD_GENL_FAMILY_NAME, NBD_GENL_MCAST_GROUP_NAME);

    if (r < 0)
        return nbd_genl_absent(nbd_genl_error(r), reason);
    r = nl_socket_add_membership(socket, r);
    if (r < 0)
        return netlink_fail(reason, nbd_genl_error(r), NULL, "cannot listen to the nbd driver's events: %s",
                            nl_geterror(r));
    return 0;
}

int nbd_events_open(struct nbd_events **ret, struct netlink_reason *reason)
{
    _cleanup_(nbd_events_closep) struct nbd_events *events = calloc(1, sizeof *events);
    int r;

    if (events)
        events->socket = nl_socket_alloc();
    if (!events || !events->socket)
        return netlink_fail(reason, ENOMEM, NULL, "out of memory");
    r = nbd_genl_connect_socket(events->socket, reason);
    if (r < 0)
        return r;
    r = join_group(events->socket, reason);
    if (r < 0)
        return r;
    nl_socket_set_nonblocking(events->socket);
    *ret = steal_ptr(&events);
    return 0;
}

int nbd_events_fd(const struct nbd_events *events)
{
    return nl_socket_get_fd(events->socket);
}

static int receive_failed(int error, struct netlink_reason *reason)
{
    /* An event that is too long is as lost as one that found no room. */
    if (error == EMSGSIZE || error == ENOBUFS)
        return netlink_fail(reason, ENOBUFS, NULL, "events of the nbd driver were lost");
    return netlink_fail(reason, error, NULL, "cannot receive the nbd driver's events: %s", strerror(error));
}

int nbd_events_next(struct nbd_events *events, uint32_t *index, struct netlink_reason *reason)
{
    /* The driver sends each event in a datagram of its own (genlmsg_multicast). */
    char buffer[4096];

    for (int i = 0; i < OTHERS_MAX; i++) {
        int n = netlink_receive(nbd_events_fd(events), buffer, sizeof buffer);

        if (n == 0)
            return 0;
        if (n < 0)
            return receive_failed(-n, reason);
        if (nbd_decode_event(buffer, (size_t)n, index) > 0)
            return 1;
    }
    return 0;
}
