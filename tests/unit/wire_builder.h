/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a server would send, byte by byte; for tests of the negotiation and of replies. */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/wire.h"

struct wire {
    uint8_t data[200000];
    size_t size;
};

static inline void wire_bytes(struct wire *wire, const void *bytes, size_t size)
{
    if (size > sizeof wire->data - wire->size)
        abort();
    memcpy(wire->data + wire->size, bytes, size);
    wire->size += size;
}

static inline void wire_16(struct wire *wire, uint16_t value)
{
    uint8_t bytes[2];

    be16_put(bytes, value);
    wire_bytes(wire, bytes, sizeof bytes);
}

static inline void wire_32(struct wire *wire, uint32_t value)
{
    uint8_t bytes[4];

    be32_put(bytes, value);
    wire_bytes(wire, bytes, sizeof bytes);
}

static inline void wire_64(struct wire *wire, uint64_t value)
{
    uint8_t bytes[8];

    be64_put(bytes, value);
    wire_bytes(wire, bytes, sizeof bytes);
}

static inline void wire_greeting(struct wire *wire, uint16_t flags)
{
    wire_64(wire, NBD_MAGIC);
    wire_64(wire, NBD_OPTION_MAGIC);
    wire_16(wire, flags);
}

static inline void wire_reply(struct wire *wire, enum nbd_option option, uint32_t type, const void *payload,
                              size_t size)
{
    wire_64(wire, NBD_OPTION_REPLY_MAGIC);
    wire_32(wire, (uint32_t)option);
    wire_32(wire, type);
    wire_32(wire, (uint32_t)size);
    wire_bytes(wire, payload, size);
}

static inline void wire_ack(struct wire *wire, enum nbd_option option)
{
    wire_reply(wire, option, NBD_REP_ACK, "", 0);
}

static inline void wire_info_export(struct wire *wire, enum nbd_option option, uint64_t size, uint16_t flags)
{
    uint8_t payload[12];

    be16_put(payload, NBD_INFO_EXPORT);
    be64_put(payload + 2, size);
    be16_put(payload + 10, flags);
    wire_reply(wire, option, NBD_REP_INFO, payload, sizeof payload);
}

static inline void wire_info_blocks(struct wire *wire, enum nbd_option option, uint32_t minimum,
                                    uint32_t preferred, uint32_t maximum)
{
    uint8_t payload[14];

    be16_put(payload, NBD_INFO_BLOCK_SIZE);
    be32_put(payload + 2, minimum);
    be32_put(payload + 6, preferred);
    be32_put(payload + 10, maximum);
    wire_reply(wire, option, NBD_REP_INFO, payload, sizeof payload);
}

static inline void wire_info_text(struct wire *wire, enum nbd_option option, uint16_t info, const char *text)
{
    uint8_t payload[2 + NBD_MAX_STRING + 100];
    size_t size = strlen(text);

    be16_put(payload, info);
    memcpy(payload + 2, text, size);
    wire_reply(wire, option, NBD_REP_INFO, payload, 2 + size);
}
