/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "deadline.h"
#include "failure.h"
#include "protocol/uri.h"

/* How much is given for one connection; zeroed: as much as for one that nobody would bring back. */
struct connect_policy {
    bool reconnects; /* somebody brings a lost connection back: a silent server is given up sooner */
    uint64_t tcp_ns; /* for TCP's own handshake; 0: the deadline alone */
    struct sockaddr_storage known; /* where the server was last: for when no name server answers */
    /* A name may stand for several servers, and a device's connections must all reach one: AF_UNSPEC, or the
     * only address to try. */
    struct sockaddr_storage only;
};

/*
 * target -> fd. Connects to the server: every address a name resolves to, RFC 8305 style (interleaved
 * families, the next address started 250 ms after the one before or as soon as that one failed), all within
 * the one deadline (the name lookup too). The socket is non-blocking and close-on-exec. TCP sockets have
 * TCP_NODELAY, keepalive and a bound on retransmission set, so that a vanished server is told from a slow one
 * (in two minutes; in half a minute when it reconnects) even after the kernel driver owns the socket.
 * Returns the fd (>= 0, owned by the caller) or -errno: -ETIMEDOUT, -ECANCELED, -ECONNREFUSED, -ENOENT (no
 * such unix socket), -ENXIO (the name does not resolve), -EAGAIN (no name server answered), ...
 */
int target_connect(const struct target *target, const struct connect_policy *policy,
                   const struct deadline *deadline, struct failure *failure);
