/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One conversation with NETLINK_SOCK_DIAG. Shared by the sockdiag*.c files. */
#pragma once

#include <libmnl/libmnl.h>
#include <linux/netlink.h>

#include "sockdiag.h"

/* A socket has a dozen attributes of at most some hundred bytes. */
#define ANSWER_MAX 16384

struct sockdiag {
    struct mnl_socket *socket;
    unsigned sequence;
    _Alignas(struct nlmsghdr) char buffer[ANSWER_MAX]; /* the request, then its answer */
};

/* NULL with errno. */
struct sockdiag *sockdiag_open(void);
void sockdiag_close(struct sockdiag **query);

/* A request about one TCP socket, in the buffer; type: SOCK_DIAG_BY_FAMILY or SOCK_DESTROY. */
struct nlmsghdr *sockdiag_put_inet(struct sockdiag *query, uint16_t type,
                                   const struct socket_identity *identity);

/*
 * Runs a request about one socket; view may be NULL. 0; -ENOENT: the socket is gone; -EOPNOTSUPP: the kernel
 * does not answer such a request; or another -errno.
 */
int sockdiag_ask(struct sockdiag *query, const struct nlmsghdr *request, int family,
                 struct socket_view *view);
