/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <string.h>

#include "message.h"
#include "nbd.h"

/* The generic netlink header, and where the attributes begin. */
static int open_message(const void *data, size_t size, uint8_t *command, struct netlink_view *attributes)
{
    struct netlink_view rest = {.data = data, .size = size};
    struct netlink_message message;
    struct genlmsghdr header;

    if (netlink_message_next(&rest, &message) <= 0 || message.type < NLMSG_MIN_TYPE)
        return -EBADMSG;
    *attributes = message.payload;
    if (netlink_header(attributes, &header, sizeof header) < 0)
        return -EBADMSG;
    *command = header.cmd;
    return 0;
}

static int find_index(struct netlink_view attributes, uint16_t type, uint32_t *index)
{
    struct netlink_attribute attribute;

    if (netlink_attribute_find(attributes, type, &attribute) <= 0)
        return -EBADMSG;
    return netlink_attribute_u32(&attribute, index);
}

int nbd_decode_connect(const void *data, size_t size, uint32_t *index)
{
    struct netlink_view attributes;
    uint8_t command;

    if (open_message(data, size, &command, &attributes) < 0 || command != NBD_CMD_CONNECT)
        return -EBADMSG;
    return find_index(attributes, NBD_ATTR_INDEX, index);
}

static int decode_device(struct netlink_view attributes, struct nbd_status *device)
{
    struct netlink_attribute attribute;
    uint8_t connected = 0;
    int r;

    if (find_index(attributes, NBD_DEVICE_INDEX, &device->index) < 0)
        return -EBADMSG;
    r = netlink_attribute_find(attributes, NBD_DEVICE_CONNECTED, &attribute);
    if (r < 0 || (r > 0 && netlink_attribute_u8(&attribute, &connected) < 0))
        return -EBADMSG;
    device->connected = connected != 0;
    return 0;
}

static int decode_devices(struct netlink_view items, struct nbd_status *list, size_t capacity)
{
    struct netlink_attribute item;
    int r, count = 0;

    while ((r = netlink_attribute_next(&items, &item)) > 0) {
        struct nbd_status device;

        if (item.type != NBD_DEVICE_ITEM)
            continue;
        if (decode_device(item.value, &device) < 0)
            return -EBADMSG;
        if ((size_t)count < capacity)
            list[count] = device;
        count++;
    }
    return r < 0 ? r : count;
}

int nbd_decode_status(const void *data, size_t size, struct nbd_status *list, size_t capacity)
{
    struct netlink_attribute devices;
    struct netlink_view attributes;
    uint8_t command;
    int r;

    if (open_message(data, size, &command, &attributes) < 0 || command != NBD_CMD_STATUS)
        return -EBADMSG;
    r = netlink_attribute_find(attributes, NBD_ATTR_DEVICE_LIST, &devices);
    /* The list may be left out when it is empty. */
    return r <= 0 ? r : decode_devices(devices.value, list, capacity);
}

int nbd_decode_event(const void *data, size_t size, uint32_t *index)
{
    struct netlink_view attributes;
    uint8_t command;
    int r;

    if (open_message(data, size, &command, &attributes) < 0)
        return -EBADMSG;
    if (command != NBD_CMD_LINK_DEAD)
        return 0;
    r = find_index(attributes, NBD_ATTR_INDEX, index);
    return r < 0 ? r : 1;
}
