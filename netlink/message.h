/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Netlink messages and attributes taken apart, free of I/O. Nothing is assumed of the bytes: neither
 * alignment nor that any length in them is true. Views point into the caller's buffer.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct netlink_view {
    const uint8_t *data;
    size_t size;
};

struct netlink_message {
    struct netlink_view whole; /* header included */
    struct netlink_view payload;
    uint16_t type;
    uint16_t flags;
    uint32_t sequence;
};

struct netlink_attribute {
    uint16_t type; /* without NLA_F_NESTED and NLA_F_NET_BYTEORDER */
    struct netlink_view value;
};

/* Takes one from the front of rest: 1, 0 at the end, -EBADMSG. */
int netlink_message_next(struct netlink_view *rest, struct netlink_message *message);
int netlink_attribute_next(struct netlink_view *rest, struct netlink_attribute *attribute);

/* A fixed header from the front of rest, copied out; 0 or -EBADMSG. */
int netlink_header(struct netlink_view *rest, void *header, size_t size);

/* The first attribute of that type: 1, 0 when there is none, -EBADMSG. */
int netlink_attribute_find(struct netlink_view attributes, uint16_t type, struct netlink_attribute *found);

/* Integers of exactly that size; 0 or -EBADMSG. */
int netlink_attribute_u8(const struct netlink_attribute *attribute, uint8_t *ret);
int netlink_attribute_u16(const struct netlink_attribute *attribute, uint16_t *ret);
int netlink_attribute_u32(const struct netlink_attribute *attribute, uint32_t *ret);

/*
 * What an NLMSG_ERROR or NLMSG_DONE message says: *error is 0 or -errno, text the kernel's own words (""
 * where it has none; made printable). 0 or -EBADMSG.
 */
int netlink_message_verdict(const struct netlink_message *message, int *error, char *text, size_t text_size);
