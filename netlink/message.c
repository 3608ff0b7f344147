/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "message.h"

#include <errno.h>
#include <linux/netlink.h>
#include <string.h>

static void skip(struct netlink_view *rest, size_t size)
{
    size_t aligned = (size + 3) & ~(size_t)3;

    /* The last one of a buffer need not be padded. */
    if (aligned > rest->size)
        aligned = rest->size;
    rest->data += aligned;
    rest->size -= aligned;
}

int netlink_header(struct netlink_view *rest, void *header, size_t size)
{
    if (rest->size < size)
        return -EBADMSG;
    memcpy(header, rest->data, size);
    skip(rest, size);
    return 0;
}

int netlink_message_next(struct netlink_view *rest, struct netlink_message *message)
{
    struct nlmsghdr header;

    if (rest->size == 0)
        return 0;
    if (rest->size < sizeof header)
        return -EBADMSG;
    memcpy(&header, rest->data, sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > rest->size)
        return -EBADMSG;
    *message = (struct netlink_message){
        .whole = {rest->data, header.nlmsg_len},
        .payload = {rest->data + sizeof header, header.nlmsg_len - sizeof header},
        .type = header.nlmsg_type,
        .flags = header.nlmsg_flags,
        .sequence = header.nlmsg_seq,
    };
    skip(rest, header.nlmsg_len);
    return 1;
}

int netlink_attribute_next(struct netlink_view *rest, struct netlink_attribute *attribute)
{
    struct nlattr header;

    if (rest->size == 0)
        return 0;
    if (rest->size < sizeof header)
        return -EBADMSG;
    memcpy(&header, rest->data, sizeof header);
    if (header.nla_len < sizeof header || header.nla_len > rest->size)
        return -EBADMSG;
    attribute->type = header.nla_type & (uint16_t)NLA_TYPE_MASK;
    attribute->value.data = rest->data + sizeof header;
    attribute->value.size = header.nla_len - sizeof header;
    skip(rest, header.nla_len);
    return 1;
}

int netlink_attribute_find(struct netlink_view attributes, uint16_t type, struct netlink_attribute *found)
{
    int r;

    while ((r = netlink_attribute_next(&attributes, found)) > 0)
        if (found->type == type)
            return 1;
    return r;
}

static int integer(const struct netlink_attribute *attribute, void *ret, size_t size)
{
    if (attribute->value.size != size)
        return -EBADMSG;
    memcpy(ret, attribute->value.data, size);
    return 0;
}

int netlink_attribute_u8(const struct netlink_attribute *attribute, uint8_t *ret)
{
    return integer(attribute, ret, sizeof *ret);
}

int netlink_attribute_u16(const struct netlink_attribute *attribute, uint16_t *ret)
{
    return integer(attribute, ret, sizeof *ret);
}

int netlink_attribute_u32(const struct netlink_attribute *attribute, uint32_t *ret)
{
    return integer(attribute, ret, sizeof *ret);
}

static void copy_printable(struct netlink_view from, char *text, size_t text_size)
{
    size_t n = 0;

    while (n < from.size && n + 1 < text_size && from.data[n]) {
        uint8_t c = from.data[n];

        text[n++] = (char)(c >= 0x20 && c < 0x7f ? c : '?');
    }
    text[n] = '\0';
}

/* Behind the error number: the request that failed, whole unless the socket asked for a capped one, then
 * attributes. */
static int kernel_words(const struct netlink_message *message, struct netlink_view rest, char *text,
                        size_t text_size)
{
    struct netlink_attribute attribute;
    struct nlmsghdr request;
    int r;

    if (message->type == NLMSG_ERROR) {
        if (rest.size < sizeof request)
            return -EBADMSG;
        memcpy(&request, rest.data, sizeof request);
        if (message->flags & NLM_F_CAPPED)
            request.nlmsg_len = sizeof request;
        if (request.nlmsg_len < sizeof request || request.nlmsg_len > rest.size)
            return -EBADMSG;
        skip(&rest, request.nlmsg_len);
    }
    r = netlink_attribute_find(rest, NLMSGERR_ATTR_MSG, &attribute);
    if (r > 0)
        copy_printable(attribute.value, text, text_size);
    return r < 0 ? r : 0;
}

int netlink_message_verdict(const struct netlink_message *message, int *error, char *text, size_t text_size)
{
    struct netlink_view rest = message->payload;
    int32_t code;

    text[0] = '\0';
    if (netlink_header(&rest, &code, sizeof code) < 0 || code > 0 || code < -4095)
        return -EBADMSG;
    *error = code;
    return message->flags & NLM_F_ACK_TLVS ? kernel_words(message, rest, text, text_size) : 0;
}
