/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <linux/sock_diag.h>
#include <string.h>

#include "scoped.h"
#include "sockdiag_query.h"

static int destroy(const struct socket_identity *identity)
{
    _cleanup_(sockdiag_close) struct sockdiag *query = NULL;

    /* Not the kernel's to destroy; and our question about its address would be one about TCP. */
    if (identity->local.ss_family == AF_UNIX)
        return -EOPNOTSUPP;
    /* The kernel compares no cookie of ones (INET_DIAG_NOCOOKIE): any socket with that address would do. */
    if (identity->cookie == UINT64_MAX)
        return -EINVAL;
    query = sockdiag_open();
    if (!query)
        return -errno;
    return sockdiag_ask(query, sockdiag_put_inet(query, SOCK_DESTROY, identity), identity->local.ss_family,
                        NULL);
}

int socket_destroy(const struct socket_identity *identity, struct netlink_reason *reason)
{
    int r = destroy(identity);

    if (r == -ENOENT)
        return netlink_fail(reason, ENOENT, NULL, "the connection is gone");
    if (r == -EOPNOTSUPP || r == -EPROTONOSUPPORT)
        return netlink_fail(reason, EOPNOTSUPP, NULL, "the kernel cannot break such a connection");
    if (r == -EPERM)
        return netlink_fail(reason, EPERM, "CAP_NET_ADMIN is needed in its network namespace",
                            "not permitted to break a connection");
    return r < 0 ? netlink_fail(reason, -r, NULL, "cannot break a connection: %s", strerror(-r)) : 0;
}
