/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <netdb.h>

#include "deadline.h"

/*
 * getaddrinfo(3) for a TCP socket, under a deadline. A numeric address is parsed on the spot; a name is
 * looked up in a thread of its own, since neither a deadline nor a signal can end a lookup: one that takes
 * too long is abandoned, and cleans up after itself when it comes back.
 *
 * Returns 0 and the list (owned by the caller, freeaddrinfo()), -ETIMEDOUT, -ECANCELED, or another -errno.
 * -ENXIO means that the lookup was answered with an error: *gai_error then holds the EAI_* value.
 */
int resolve(const char *host, const char *port, const struct deadline *deadline, struct addrinfo **ret,
            int *gai_error);
