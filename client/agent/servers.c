/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/servers.h"

#include <errno.h>

#include "cleanup.h"

static int dial_server(const struct servers *servers, const struct endpoint *endpoint,
                       struct connections *connections, struct failure *failure)
{
    struct deadline deadline = deadline_after(servers->connect_timeout_ns, servers->cancel_fd);
    _cleanup_free_ char *uri = NULL;
    int r;

    if (servers->patience && deadline.at_ns > servers->patience->at_ns)
        deadline.at_ns = servers->patience->at_ns;
    r = dial(endpoint, servers->connections, servers->ktls, &deadline, connections, failure);
    if (r == 0 && servers->identity)
        r = identity_check(servers->identity, &connections->export, failure);
    if (r == 0)
        return 0;
    connections_close(connections);
    uri = target_format(&endpoint->target);
    return fail_within(failure, r, "%s", uri ? uri : "?");
}

/* What passes by itself when the server, or the route to it, comes up. */
static bool worth_waiting(int error)
{
    switch (-error) {
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EADDRNOTAVAIL:
    case ETIMEDOUT:
    case ENOENT: /* the unix socket, or the export, is not there yet */
    case ENXIO:  /* nor the name */
    case EBUSY:
    case EAGAIN:
    case ESHUTDOWN:
    case EPIPE:
        return true;
    default:
        return false;
    }
}

int servers_dial(const struct servers *servers, struct connections *connections, struct served *served,
                 struct failure *failure)
{
    struct failure one = {0};
    int first = 0;

    *served = (struct served){0};
    for (size_t i = 0; i < servers->count; i++) {
        int r = dial_server(servers, &servers->endpoints[i], connections, &one);

        served->server = i;
        if (r == 0)
            return 0;
        served->worth_waiting |= worth_waiting(r);
        if (first == 0 || r == -ECANCELED || one.status == EXIT_STATUS_IDENTITY) {
            *failure = one;
            first = r;
        }
        if (r == -ECANCELED)
            return r;
    }
    return first;
}
