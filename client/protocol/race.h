/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <netdb.h>
#include <stdbool.h>

#include "deadline.h"

/*
 * One connection to any of the addresses, RFC 8305: families take turns beginning with that of the first
 * address, each attempt starts 250 ms after the one before or as soon as that one failed, the first to
 * connect wins. On failure reasons says why, one line with every address (the first few) where there are
 * several: "127.0.0.1: Connection refused; ::1: no answer". Returns a connected TCP socket as
 * target_connect() describes it, -ETIMEDOUT, -ECANCELED, or another -errno; where addresses failed in
 * different ways, the one that says most.
 */
int race_connect(const struct addrinfo *addresses, bool reconnects, const struct deadline *deadline,
                 char *reasons, size_t size);
