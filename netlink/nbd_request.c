/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "nbd_request.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/nbd-netlink.h>
#include <linux/nbd.h>
#include <netlink/genl/genl.h>
#include <netlink/msg.h>
#include <string.h>

/* The driver multiplies seconds by HZ (at most 1024) without a check: by then into 32 bits for TIMEOUT, a
 * long else. */
#define TIMEOUT_MAX      (INT_MAX / 1024)
#define DEAD_TIMEOUT_MAX (LONG_MAX / 1024)
/* BLK_MAX_BLOCK_SIZE of the newest kernels; older ones say no themselves from a page on. */
#define BLOCK_SIZE_MIN   512
#define BLOCK_SIZE_MAX   65536

static int check_geometry(const struct nbd_config *config, struct netlink_reason *reason)
{
    uint64_t block = config->block_size;

    if (config->size > INT64_MAX)
        return netlink_fail(reason, EINVAL, NULL,
                            "a disk of %" PRIu64 " bytes is larger than the kernel can address",
                            config->size);
    if (block && (block < BLOCK_SIZE_MIN || block > BLOCK_SIZE_MAX || (block & (block - 1))))
        return netlink_fail(reason, EINVAL, NULL,
                            "block size %" PRIu64 " is not a power of two from %d to %d", block,
                            BLOCK_SIZE_MIN, BLOCK_SIZE_MAX);
    return 0;
}

static int check_timeouts(const struct nbd_config *config, struct netlink_reason *reason)
{
    if (config->has_timeout && config->timeout > TIMEOUT_MAX)
        return netlink_fail(reason, EINVAL, "0 lets a request take as long as it likes",
                            "a timeout of %" PRIu64 " s is longer than the kernel can count (%ld s)",
                            config->timeout, (long)TIMEOUT_MAX);
    if (config->has_dead_timeout && config->dead_timeout > DEAD_TIMEOUT_MAX)
        return netlink_fail(reason, EINVAL, NULL,
                            "a dead connection timeout of %" PRIu64
                            " s is longer than the kernel can count (%ld s)",
                            config->dead_timeout, DEAD_TIMEOUT_MAX);
    return 0;
}

static int check_backend(const char *backend, struct netlink_reason *reason)
{
    size_t length = backend ? strlen(backend) : 1;

    if (length == 0 || length > NBD_BACKEND_MAX)
        return netlink_fail(reason, EINVAL, NULL, "a backend identifier has 1 to %d bytes, not %zu",
                            NBD_BACKEND_MAX, length);
    /* It is read back from a line of sysfs. */
    for (; backend && *backend; backend++)
        if ((unsigned char)*backend < 0x20 || *backend == 0x7f)
            return netlink_fail(reason, EINVAL, NULL, "a control character in the backend identifier");
    return 0;
}

static int check_sockets(const struct nbd_config *config, struct netlink_reason *reason)
{
    if (config->sockets_count > NBD_MAX_CONNECTIONS)
        return netlink_fail(reason, EINVAL, NULL, "%zu connections are more than %d", config->sockets_count,
                            NBD_MAX_CONNECTIONS);
    for (size_t i = 0; i < config->sockets_count; i++)
        if (config->sockets[i] < 0)
            return netlink_fail(reason, EINVAL, NULL, "connection %zu is no open socket", i + 1);
    return 0;
}

static int check_connect(const struct nbd_config *config, struct netlink_reason *reason)
{
    uint64_t flags = config->has_server_flags ? config->server_flags : 0;

    if (config->sockets_count == 0)
        return netlink_fail(reason, EINVAL, NULL, "no connection to attach");
    if (config->size == 0)
        return netlink_fail(reason, EINVAL, NULL, "an export of size 0 cannot be attached");
    if (config->sockets_count > 1 && !(flags & NBD_FLAG_CAN_MULTI_CONN))
        return netlink_fail(reason, EINVAL, "use one connection",
                            "the server does not offer several connections to one export (CAN_MULTI_CONN)");
    return 0;
}

static int check_reconfigure(const struct nbd_config *config, struct netlink_reason *reason)
{
    if (config->index == NBD_INDEX_ANY)
        return netlink_fail(reason, EINVAL, NULL, "no device named to reconfigure");
    if (config->sockets_count > 0 && (config->size || config->block_size))
        return netlink_fail(reason, EINVAL, "reconnect first, then resize",
                            "a size and connections cannot change in one step");
    return 0;
}

int nbd_config_check(int command, const struct nbd_config *config, struct netlink_reason *reason)
{
    int r = check_geometry(config, reason);

    if (r == 0)
        r = check_timeouts(config, reason);
    if (r == 0)
        r = check_backend(config->backend, reason);
    if (r == 0)
        r = check_sockets(config, reason);
    if (r == 0)
        r = command == NBD_CMD_CONNECT ? check_connect(config, reason) : check_reconfigure(config, reason);
    return r;
}

static int put_sockets(struct nl_msg *message, const struct nbd_config *config)
{
    struct nlattr *list = nla_nest_start(message, NBD_ATTR_SOCKETS);

    if (!list)
        return -ENOMEM;
    for (size_t i = 0; i < config->sockets_count; i++) {
        struct nlattr *item = nla_nest_start(message, NBD_SOCK_ITEM);

        if (!item || nla_put_u32(message, NBD_SOCK_FD, (uint32_t)config->sockets[i]) < 0)
            return -ENOMEM;
        nla_nest_end(message, item);
    }
    nla_nest_end(message, list);
    return 0;
}

static int put_config(struct nl_msg *message, const struct nbd_config *config)
{
    const struct {
        int type;
        bool present;
        uint64_t value;
    } numbers[] = {
        {NBD_ATTR_SIZE_BYTES, config->size != 0, config->size},
        {NBD_ATTR_BLOCK_SIZE_BYTES, config->block_size != 0, config->block_size},
        {NBD_ATTR_TIMEOUT, config->has_timeout, config->timeout},
        {NBD_ATTR_DEAD_CONN_TIMEOUT, config->has_dead_timeout, config->dead_timeout},
        {NBD_ATTR_SERVER_FLAGS, config->has_server_flags, config->server_flags},
        {NBD_ATTR_CLIENT_FLAGS, config->has_client_flags, config->client_flags},
    };

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i].present && nla_put_u64(message, numbers[i].type, numbers[i].value) < 0)
            return -ENOMEM;
    if (config->backend && nla_put_string(message, NBD_ATTR_BACKEND_IDENTIFIER, config->backend) < 0)
        return -ENOMEM;
    return config->sockets_count > 0 ? put_sockets(message, config) : 0;
}

struct nl_msg *nbd_request_build(int family, int command, uint32_t index, const struct nbd_config *config)
{
    struct nl_msg *message = nlmsg_alloc();

    if (!message)
        return NULL;
    if (!genlmsg_put(message, NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, NLM_F_REQUEST | NLM_F_ACK,
                     (uint8_t)command, NBD_GENL_VERSION) ||
        (index != NBD_INDEX_ANY && nla_put_u32(message, NBD_ATTR_INDEX, index) < 0) ||
        (config && put_config(message, config) < 0)) {
        nlmsg_free(message);
        return NULL;
    }
    return message;
}
