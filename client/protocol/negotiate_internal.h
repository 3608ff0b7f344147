/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by negotiate.c (the states) and negotiate_replies.c (what replies mean); nobody else's. */
#pragma once

#include "protocol/negotiate.h"

#define REPLY_HEADER_SIZE 20
/*
 * The longest reply that says something: NBD_REP_SERVER with two full strings. The rest is room for fields
 * that a later server may add.
 */
#define REPLY_PAYLOAD_MAX 16384

struct negotiation {
    enum negotiation_state state;
    bool fixed;     /* server's NBD_FLAG_FIXED_NEWSTYLE */
    bool no_zeroes; /* both sides agreed on NBD_FLAG_NO_ZEROES */
    bool secured;

    enum nbd_option option; /* in flight */
    unsigned replies;       /* to it so far, bounded */
    unsigned replies_max;
    bool in_payload; /* the reply's header was read: reply_type and reply_size hold */
    uint32_t reply_type;
    uint32_t reply_size;
    struct export pending; /* described by the option in flight */
    struct export export;  /* by the last one that succeeded */

    size_t wanted, have; /* of the item being read */
    uint8_t *out;        /* owned; what is to be written starts at out_sent */
    size_t out_size, out_sent;

    uint8_t in[REPLY_HEADER_SIZE + REPLY_PAYLOAD_MAX + 1]; /* +1: room to terminate a string */
    char name[NBD_MAX_STRING + 1];                         /* for events */
    char description[NBD_MAX_STRING + 1];
};

/* One whole reply (not an error) to the option in flight. Fills *event; 0 or -EPROTO, -ENOMEM. */
int negotiation_reply(struct negotiation *n, const uint8_t *payload, size_t size,
                      struct negotiation_event *event, struct failure *failure);
