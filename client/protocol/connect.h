/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "deadline.h"
#include "failure.h"
#include "protocol/uri.h"

/*
 * target -> fd. Connects to the server: every address a name resolves to, RFC 8305 style (interleaved
 * families, the next address started 250 ms after the one before or as soon as that one failed), all within
 * the one deadline (the name lookup too). The socket is non-blocking and close-on-exec. TCP sockets have
 * TCP_NODELAY, keepalive and a bound on retransmission set, so that a vanished server is told from a slow one
 * (in about half a minute) even after the kernel driver owns the socket.
 * Returns the fd (>= 0, owned by the caller) or -errno: -ETIMEDOUT, -ECANCELED, -ECONNREFUSED, -ENOENT (no
 * such unix socket), -ENXIO (the name does not resolve), -EAGAIN (no name server answered), ...
 */
int target_connect(const struct target *target, const struct deadline *deadline, struct failure *failure);
