/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Netlink messages put together for tests, right ones and wrong ones. */
#pragma once

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <string.h>

struct build {
    uint8_t data[8192];
    size_t size;
};

static inline void build_put(struct build *build, const void *data, size_t size)
{
    memcpy(build->data + build->size, data, size);
    build->size += (size + 3) & ~(size_t)3;
}

/* Begins a message; the end is where build_end() is told its offset again. */
static inline size_t build_message(struct build *build, uint16_t type, uint16_t flags, uint32_t sequence)
{
    const struct nlmsghdr header = {.nlmsg_type = type, .nlmsg_flags = flags, .nlmsg_seq = sequence};
    size_t at = build->size;

    build_put(build, &header, sizeof header);
    return at;
}

static inline void build_message_end(struct build *build, size_t at)
{
    uint32_t size = (uint32_t)(build->size - at);

    memcpy(build->data + at, &size, sizeof size);
}

static inline size_t build_genl(struct build *build, uint8_t command)
{
    const struct genlmsghdr header = {.cmd = command, .version = 1};
    size_t at = build_message(build, 0x1b, 0, 7);

    build_put(build, &header, sizeof header);
    return at;
}

static inline void build_attribute(struct build *build, uint16_t type, const void *value, size_t size)
{
    const struct nlattr header = {.nla_type = type, .nla_len = (uint16_t)(sizeof header + size)};

    build_put(build, &header, sizeof header);
    build_put(build, value, size);
}

static inline void build_u8(struct build *build, uint16_t type, uint8_t value)
{
    build_attribute(build, type, &value, sizeof value);
}

static inline void build_u16(struct build *build, uint16_t type, uint16_t value)
{
    build_attribute(build, type, &value, sizeof value);
}

static inline void build_u32(struct build *build, uint16_t type, uint32_t value)
{
    build_attribute(build, type, &value, sizeof value);
}

static inline size_t build_nest(struct build *build, uint16_t type)
{
    const struct nlattr header = {.nla_type = type};
    size_t at = build->size;

    build_put(build, &header, sizeof header);
    return at;
}

static inline void build_nest_end(struct build *build, size_t at)
{
    uint16_t size = (uint16_t)(build->size - at);

    memcpy(build->data + at, &size, sizeof size);
}

/* NLMSG_ERROR: error 0 is an ACK; words may be NULL. */
static inline void build_verdict(struct build *build, uint32_t sequence, int32_t error, const char *words)
{
    const struct nlmsghdr request = {.nlmsg_len = sizeof request};
    uint16_t flags = words ? NLM_F_CAPPED | NLM_F_ACK_TLVS : NLM_F_CAPPED;
    size_t at = build_message(build, NLMSG_ERROR, flags, sequence);

    build_put(build, &error, sizeof error);
    build_put(build, &request, sizeof request);
    if (words)
        build_attribute(build, NLMSGERR_ATTR_MSG, words, strlen(words) + 1);
    build_message_end(build, at);
}
