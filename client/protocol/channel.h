/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bytes to and from the server: the socket itself, or the socket under a layer that secures it. The session
 * above does not know which.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "deadline.h"
#include "failure.h"

/*
 * Both transfer 1..size bytes without blocking, and return the count, 0 (read: the peer has ended), -EAGAIN
 * with the poll(2) event to wait for in *events, or another -errno.
 */
struct channel_layer {
    ssize_t (*read)(void *state, uint8_t *into, size_t size, short *events, struct failure *failure);
    ssize_t (*write)(void *state, const uint8_t *from, size_t size, short *events, struct failure *failure);
};

struct channel {
    int fd;                            /* owned; non-blocking */
    const struct channel_layer *layer; /* NULL: plain */
    void *state;                       /* of the layer; not owned */
};

/* All of size bytes, or -errno: -ETIMEDOUT, -ECANCELED, -ECONNRESET (also when the peer ends midway). */
int channel_read(struct channel *channel, uint8_t *into, size_t size, const struct deadline *deadline,
                 struct failure *failure);
int channel_write(struct channel *channel, const uint8_t *from, size_t size, const struct deadline *deadline,
                  struct failure *failure);

/*
 * Whether the peer has sent something that nobody asked for (or has hung up): -EPROTO, -ECONNRESET; 0 when
 * the socket is silent, as it must be before a handover. Plain channels only.
 */
int channel_check_silent(const struct channel *channel, struct failure *failure);
