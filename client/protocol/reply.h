/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Replies of the transmission phase, taken apart without I/O (proto.md, "Simple reply message", "Structured
 * reply chunk message", and the extended form of it). Also the requests, put together.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"
#include "protocol/session.h"
#include "protocol/wire.h"

#define REPLY_MAGIC_SIZE      4
#define REPLY_HEADER_MAX_SIZE NBD_EXTENDED_REPLY_SIZE

struct request {
    enum nbd_command command;
    uint16_t flags;
    uint64_t cookie;
    uint64_t offset, length; /* length above 32 bits only with extended headers */
};

/* Writes the header of a request; returns its size. header has room for NBD_EXTENDED_REQUEST_SIZE bytes. */
size_t request_put(const struct request *request, enum session_replies mode, uint8_t *header);

/* One simple reply, or one chunk of a structured or extended one. */
struct reply_header {
    bool simple;
    bool done;     /* nothing follows for this cookie (simple replies: always) */
    uint16_t type; /* NBD_REPLY_TYPE_*; NONE for a simple reply */
    uint64_t cookie;
    uint64_t offset; /* extended only: echo of the request's */
    uint64_t size;   /* bytes of payload that follow; for a simple reply to READ the caller knows */
    uint32_t error;  /* simple: NBD errno, 0 is success */
};

/* Size of the whole header that begins with these REPLY_MAGIC_SIZE bytes; 0 when the mode does not allow it.
 */
size_t reply_header_size(const uint8_t *magic, enum session_replies mode);

/* header is as long as reply_header_size() says. */
void reply_header_get(const uint8_t *header, struct reply_header *reply);

/* The payload of an error chunk (ERROR or ERROR_OFFSET). -EPROTO when its lengths lie; *error is an NBD
 * errno, never 0. */
int reply_error_get(uint16_t type, const uint8_t *payload, size_t size, uint32_t *error,
                    const uint8_t **message, size_t *message_size, struct failure *failure);

/* "Error values" as an errno of this system; unknown ones are EINVAL, as the specification says. */
int nbd_errno(uint32_t error);
