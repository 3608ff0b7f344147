/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/reply.h"

#include <errno.h>

size_t request_put(const struct request *request, enum session_replies mode, uint8_t *header)
{
    bool extended = mode == SESSION_EXTENDED;

    be32_put(header, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
    be16_put(header + 4, request->flags);
    be16_put(header + 6, (uint16_t)request->command);
    be64_put(header + 8, request->cookie);
    be64_put(header + 16, request->offset);
    if (!extended) {
        be32_put(header + 24, (uint32_t)request->length);
        return NBD_REQUEST_SIZE;
    }
    be64_put(header + 24, request->length);
    return NBD_EXTENDED_REQUEST_SIZE;
}

size_t reply_header_size(const uint8_t *magic, enum session_replies mode)
{
    switch (be32_get(magic)) {
    case NBD_SIMPLE_REPLY_MAGIC:
        return mode == SESSION_EXTENDED ? 0 : NBD_SIMPLE_REPLY_SIZE;
    case NBD_STRUCTURED_REPLY_MAGIC:
        return mode == SESSION_STRUCTURED ? NBD_STRUCTURED_REPLY_SIZE : 0;
    case NBD_EXTENDED_REPLY_MAGIC:
        return mode == SESSION_EXTENDED ? NBD_EXTENDED_REPLY_SIZE : 0;
    default:
        return 0;
    }
}

void reply_header_get(const uint8_t *header, struct reply_header *reply)
{
    uint32_t magic = be32_get(header);

    *reply = (struct reply_header){.cookie = be64_get(header + 8)};
    if (magic == NBD_SIMPLE_REPLY_MAGIC) {
        reply->simple = reply->done = true;
        reply->error = be32_get(header + 4);
        return;
    }
    reply->done = (be16_get(header + 4) & NBD_REPLY_FLAG_DONE) != 0;
    reply->type = be16_get(header + 6);
    if (magic == NBD_STRUCTURED_REPLY_MAGIC) {
        reply->size = be32_get(header + 16);
        return;
    }
    reply->offset = be64_get(header + 16);
    reply->size = be64_get(header + 24);
}

int reply_error_get(uint16_t type, const uint8_t *payload, size_t size, uint32_t *error,
                    const uint8_t **message, size_t *message_size, struct failure *failure)
{
    size_t tail = type == NBD_REPLY_TYPE_ERROR_OFFSET ? 8 : 0;
    size_t length;

    if (size < 6 + tail)
        return fail(failure, EPROTO, "the server's error reply is too short");
    length = be16_get(payload + 4);
    if (length > size - 6 - tail)
        return fail(failure, EPROTO, "the server's error reply claims a message longer than itself");
    *error = be32_get(payload);
    if (*error == 0)
        return fail(failure, EPROTO, "the server's error reply carries no error");
    *message = payload + 6;
    *message_size = length;
    return 0;
}

int nbd_errno(uint32_t error)
{
    /* The protocol's numbers are Linux's, on purpose; those it does not list mean NBD_EINVAL. */
    switch (error) {
    case 1:
        return EPERM;
    case 5:
        return EIO;
    case 12:
        return ENOMEM;
    case 28:
        return ENOSPC;
    case 75:
        return EOVERFLOW;
    case 95:
        return ENOTSUP;
    case 108:
        return ESHUTDOWN;
    default:
        return EINVAL;
    }
}
