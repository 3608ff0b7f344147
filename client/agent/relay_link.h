/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The server's side of a relay: data to and from it, blocking, in large pieces, with TLS or without; one
 * thread reads while another writes. Everything is allocated by relay_link_new().
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "failure.h"
#include "protocol/channel.h"

#define RELAY_LINK_PARTS 8

struct relay_link;

/*
 * Over the session that the channel belongs to, which must live as long, and be silent: -EPROTO when the
 * server has said something that nobody asked for. The channel's fd must block from then on.
 */
int relay_link_new(struct relay_link **ret, const struct channel *channel, struct failure *failure);
void relay_link_free(struct relay_link *link); /* sends nothing; the channel is as before; NULL is fine */

/* At least a byte, *data living until the next call; 0: the server has ended; -errno. */
ssize_t relay_link_read(struct relay_link *link, const uint8_t **data, struct failure *failure);

/* Where to put what is to be written (for readv(2)), and then that size bytes are there. */
size_t relay_link_room(struct relay_link *link, struct iovec parts[static RELAY_LINK_PARTS]);
int relay_link_write(struct relay_link *link, size_t size, struct failure *failure);

/* Nothing more will be written: with TLS, close_notify. */
void relay_link_bye(struct relay_link *link);

/* In the relay's process: away with our copy of what only a handshake needs (the pre-shared or private key).
 */
void relay_link_drop_secrets(struct relay_link *link);
