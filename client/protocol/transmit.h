/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests on a session of our own (never on the kernel's), one at a time. */
#pragma once

#include <stdint.h>

#include "protocol/session.h"

/*
 * Reads length bytes at offset into buffer, whatever mixture of chunks the server answers with. Every byte of
 * the buffer comes from the server or is a hole it declared; a reply that leaves one out, or writes one
 * twice, is -EPROTO. length: at most the export's maximum payload. -errno of the server's with its message
 * otherwise.
 */
int transmit_read(struct session *session, uint64_t offset, uint32_t length, uint8_t *buffer,
                  struct failure *failure);

/* NBD_CMD_DISC: no reply is due. */
int transmit_disconnect(struct session *session, struct failure *failure);
