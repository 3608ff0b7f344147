/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the driver is told, what is refused before it is, and how its refusals read. */

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <netlink/msg.h>
#include <string.h>

#include "cmocka_all.h"
#include "message.h"
#include "nbd_request.h"

#define FLAG_CAN_MULTI_CONN (1 << 8)

static const int sockets[NBD_MAX_CONNECTIONS + 1] = {3,  4,  5,  6,  7,  8,  9,  10, 11,
                                                     12, 13, 14, 15, 16, 17, 18, 19};
static const int closed[1] = {-1};
static char long_backend[NBD_BACKEND_MAX + 2];

static const struct nbd_config good = {
    .index = NBD_INDEX_ANY, .size = 4096, .sockets = sockets, .sockets_count = 1, .backend = "disk"};

#define MULTI .has_server_flags = true, .server_flags = FLAG_CAN_MULTI_CONN

struct row {
    int command;
    struct nbd_config config;
    const char *text; /* NULL: it is taken */
};

static const struct row rows[] = {
    {NBD_CMD_CONNECT, {.size = 1, .sockets = sockets, .sockets_count = 1}, NULL},
    {NBD_CMD_CONNECT, {.size = 1, .sockets = sockets, .sockets_count = 16, MULTI}, NULL},
    {NBD_CMD_CONNECT,
     {.size = 1, .sockets = sockets, .sockets_count = 17, MULTI},
     "17 connections are more than 16"},
    {NBD_CMD_CONNECT, {.size = 1, .sockets = sockets, .sockets_count = 2}, "CAN_MULTI_CONN"},
    {NBD_CMD_CONNECT, {.size = 1, .sockets = closed, .sockets_count = 1}, "connection 1 is no open socket"},
    {NBD_CMD_CONNECT, {.size = 1}, "no connection"},
    {NBD_CMD_CONNECT, {.sockets = sockets, .sockets_count = 1}, "size 0"},
    {NBD_CMD_CONNECT, {.size = INT64_MAX, .sockets = sockets, .sockets_count = 1}, NULL},
    {NBD_CMD_CONNECT,
     {.size = UINT64_C(1) << 63, .sockets = sockets, .sockets_count = 1},
     "9223372036854775808"},
    {NBD_CMD_CONNECT, {.size = 1, .block_size = 512, .sockets = sockets, .sockets_count = 1}, NULL},
    {NBD_CMD_CONNECT, {.size = 1, .block_size = 65536, .sockets = sockets, .sockets_count = 1}, NULL},
    {NBD_CMD_CONNECT,
     {.size = 1, .block_size = 256, .sockets = sockets, .sockets_count = 1},
     "block size 256"},
    {NBD_CMD_CONNECT,
     {.size = 1, .block_size = 1000, .sockets = sockets, .sockets_count = 1},
     "power of two"},
    {NBD_CMD_CONNECT, {.size = 1, .block_size = 131072, .sockets = sockets, .sockets_count = 1}, "131072"},
    {NBD_CMD_RECONFIGURE, {.has_timeout = true, .timeout = 86400}, NULL},
    {NBD_CMD_RECONFIGURE, {.has_timeout = true, .timeout = UINT64_C(1) << 32}, "timeout of 4294967296 s"},
    {NBD_CMD_RECONFIGURE, {.timeout = UINT64_MAX, .dead_timeout = UINT64_MAX}, NULL},
    {NBD_CMD_RECONFIGURE, {.has_dead_timeout = true, .dead_timeout = 1 << 20}, NULL},
    {NBD_CMD_RECONFIGURE, {.has_dead_timeout = true, .dead_timeout = UINT64_MAX}, "dead connection timeout"},
    {NBD_CMD_RECONFIGURE, {.size = 4096, .block_size = 512}, NULL},
    {NBD_CMD_RECONFIGURE, {.sockets = sockets, .sockets_count = 3}, NULL},
    {NBD_CMD_RECONFIGURE, {.size = 4096, .sockets = sockets, .sockets_count = 1}, "in one step"},
    {NBD_CMD_RECONFIGURE, {.block_size = 512, .sockets = sockets, .sockets_count = 1}, "in one step"},
    {NBD_CMD_RECONFIGURE, {.index = NBD_INDEX_ANY, .size = 4096}, "no device named"},
    {NBD_CMD_RECONFIGURE, {.backend = ""}, "not 0"},
    {NBD_CMD_RECONFIGURE, {.backend = long_backend}, "not 256"},
    {NBD_CMD_RECONFIGURE, {.backend = long_backend + 1}, NULL},
    {NBD_CMD_RECONFIGURE, {.backend = "a\nb"}, "control character"},
    {NBD_CMD_RECONFIGURE, {.backend = "a\177"}, "control character"},
    {NBD_CMD_RECONFIGURE, {.backend = "\xc3\xa4 b"}, NULL},
};

static void configs_are_checked(void **state)
{
    (void)state;
    memset(long_backend, 'x', sizeof long_backend - 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct netlink_reason reason = {0};
        int r = nbd_config_check(rows[i].command, &rows[i].config, &reason);

        assert_int_equal(r, rows[i].text ? -EINVAL : 0);
        if (rows[i].text && !strstr(reason.text, rows[i].text))
            fail_msg("row %zu: %s", i, reason.text);
    }
}

/* The attributes of a request. */
static struct netlink_view attributes_of(struct nl_msg *request, uint8_t command)
{
    struct nlmsghdr *header = nlmsg_hdr(request);
    struct netlink_view rest = {(const uint8_t *)header, header->nlmsg_len};
    struct netlink_message message;
    struct genlmsghdr genl;

    assert_int_equal(netlink_message_next(&rest, &message), 1);
    assert_int_equal(message.type, 0x1b);
    assert_int_equal(message.flags, NLM_F_REQUEST | NLM_F_ACK);
    assert_int_equal(netlink_header(&message.payload, &genl, sizeof genl), 0);
    assert_int_equal(genl.cmd, command);
    assert_int_equal(genl.version, NBD_GENL_VERSION);
    return message.payload;
}

static uint64_t u64_of(struct netlink_view attributes, uint16_t type)
{
    struct netlink_attribute attribute;
    uint64_t value;

    assert_int_equal(netlink_attribute_find(attributes, type, &attribute), 1);
    assert_int_equal(attribute.value.size, sizeof value);
    memcpy(&value, attribute.value.data, sizeof value);
    return value;
}

static void requests_say_everything(void **state)
{
    const struct nbd_config config = {
        .index = 5,
        .size = 1 << 20,
        .block_size = 4096,
        .has_timeout = true,
        .has_dead_timeout = true,
        .dead_timeout = 60,
        .has_server_flags = true,
        .server_flags = 0x10d,
        .has_client_flags = true,
        .client_flags = NBD_DESTROY_ON_DISCONNECT,
        .backend = "disk",
        .sockets = sockets,
        .sockets_count = 2,
    };
    struct nl_msg *request = nbd_request_build(0x1b, NBD_CMD_CONNECT, config.index, &config);
    struct netlink_attribute attribute;
    struct netlink_view attributes;
    uint32_t index;

    (void)state;
    assert_non_null(request);
    attributes = attributes_of(request, NBD_CMD_CONNECT);
    assert_int_equal(u64_of(attributes, NBD_ATTR_SIZE_BYTES), 1 << 20);
    assert_int_equal(u64_of(attributes, NBD_ATTR_BLOCK_SIZE_BYTES), 4096);
    assert_int_equal(u64_of(attributes, NBD_ATTR_TIMEOUT), 0);
    assert_int_equal(u64_of(attributes, NBD_ATTR_DEAD_CONN_TIMEOUT), 60);
    assert_int_equal(u64_of(attributes, NBD_ATTR_SERVER_FLAGS), 0x10d);
    assert_int_equal(u64_of(attributes, NBD_ATTR_CLIENT_FLAGS), NBD_DESTROY_ON_DISCONNECT);
    assert_int_equal(netlink_attribute_find(attributes, NBD_ATTR_INDEX, &attribute), 1);
    assert_int_equal(netlink_attribute_u32(&attribute, &index), 0);
    assert_int_equal(index, 5);
    assert_int_equal(netlink_attribute_find(attributes, NBD_ATTR_BACKEND_IDENTIFIER, &attribute), 1);
    assert_memory_equal(attribute.value.data, "disk", 5);
    nlmsg_free(request);
}

static void requests_list_the_sockets(void **state)
{
    const struct nbd_config config = {.index = 1, .sockets = sockets, .sockets_count = NBD_MAX_CONNECTIONS};
    struct nl_msg *request = nbd_request_build(0x1b, NBD_CMD_RECONFIGURE, 1, &config);
    struct netlink_attribute list, item, fd;
    struct netlink_view items;
    uint32_t value;

    (void)state;
    assert_non_null(request);
    assert_int_equal(
        netlink_attribute_find(attributes_of(request, NBD_CMD_RECONFIGURE), NBD_ATTR_SOCKETS, &list), 1);
    items = list.value;
    for (int i = 0; i < NBD_MAX_CONNECTIONS; i++) {
        assert_int_equal(netlink_attribute_next(&items, &item), 1);
        assert_int_equal(item.type, NBD_SOCK_ITEM);
        assert_int_equal(netlink_attribute_find(item.value, NBD_SOCK_FD, &fd), 1);
        assert_int_equal(netlink_attribute_u32(&fd, &value), 0);
        assert_int_equal(value, sockets[i]);
    }
    assert_int_equal(netlink_attribute_next(&items, &item), 0);
    nlmsg_free(request);
}

static void requests_leave_out_what_is_absent(void **state)
{
    struct nl_msg *request = nbd_request_build(0x1b, NBD_CMD_CONNECT, NBD_INDEX_ANY, &good);
    struct nl_msg *bare = nbd_request_build(0x1b, NBD_CMD_STATUS, NBD_INDEX_ANY, NULL);
    static const uint16_t absent[] = {NBD_ATTR_INDEX,        NBD_ATTR_BLOCK_SIZE_BYTES,
                                      NBD_ATTR_TIMEOUT,      NBD_ATTR_SERVER_FLAGS,
                                      NBD_ATTR_CLIENT_FLAGS, NBD_ATTR_DEAD_CONN_TIMEOUT};
    struct netlink_attribute attribute;

    (void)state;
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        assert_int_equal(
            netlink_attribute_find(attributes_of(request, NBD_CMD_CONNECT), absent[i], &attribute), 0);
    assert_int_equal(attributes_of(bare, NBD_CMD_STATUS).size, 0);
    nlmsg_free(request);
    nlmsg_free(bare);
}

struct refusal {
    int command, error, result;
    const char *text, *hint;
};

static const struct refusal refusals[] = {
    {NBD_CMD_CONNECT, EBUSY, -EBUSY, "cannot attach /dev/nbd3: it is attached already", "another device"},
    {NBD_CMD_CONNECT, EEXIST, -EEXIST, "torn down", "try again"},
    {NBD_CMD_CONNECT, EINVAL, -EINVAL, "does not take", "kernel log"},
    {NBD_CMD_CONNECT, EPERM, -EPERM, "not permitted",
     "CAP_SYS_ADMIN in the initial namespaces: run as root, not inside"},
    {NBD_CMD_CONNECT, ENOSPC, -ENOSPC, "device numbers", "detach"},
    {NBD_CMD_CONNECT, EBADF, -EBADF, "no open descriptor", ""},
    {NBD_CMD_CONNECT, ENOTSOCK, -ENOTSOCK, "no socket", ""},
    {NBD_CMD_CONNECT, ENOENT, -ENOENT, "gone", "modprobe nbd"},
    {NBD_CMD_CONNECT, EIO, -EIO, "Input/output error", ""},
    {NBD_CMD_RECONFIGURE, EINVAL, -EINVAL, "cannot reconfigure /dev/nbd3", "backend identifier"},
    {NBD_CMD_RECONFIGURE, EBUSY, -EBUSY, "busy", ""},
    {NBD_CMD_DISCONNECT, EINVAL, -ENODEV, "cannot detach /dev/nbd3: there is no such device", ""},
    {NBD_CMD_DISCONNECT, EPERM, -EPERM, "not permitted", "root"},
    {NBD_CMD_STATUS, EOPNOTSUPP, -EOPNOTSUPP, "cannot ask about", "4.12"},
    {NBD_CMD_STATUS, ETIMEDOUT, -ETIMEDOUT, "did not answer", ""},
    {NBD_CMD_STATUS, EBADMSG, -EBADMSG, "cannot be understood", ""},
    {NBD_CMD_STATUS, ENOMEM, -ENOMEM, "out of memory", ""},
};

static void refusals_are_explained(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct refusal *row = &refusals[i];
        struct netlink_reason reason = {0};

        assert_int_equal(nbd_refused(row->command, 3, row->error, "", &reason), row->result);
        if (!strcasestr(reason.text, row->text) || !strstr(reason.hint, row->hint))
            fail_msg("row %zu: %s [%s]", i, reason.text, reason.hint);
        assert_int_equal(row->hint[0] == '\0', reason.hint[0] == '\0');
    }
}

static void refusals_carry_the_kernels_words(void **state)
{
    struct netlink_reason reason = {0};

    (void)state;
    assert_int_equal(nbd_refused(NBD_CMD_CONNECT, NBD_INDEX_ANY, EIO, "words", &reason), -EIO);
    assert_string_equal(reason.text, "cannot attach an nbd device: Input/output error (words)");
}

static void reasons_are_cut_and_may_be_unwanted(void **state)
{
    struct netlink_reason reason = {.hint = "old"};
    char text[1024];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(netlink_fail(&reason, EIO, NULL, "%s", text), -EIO);
    assert_int_equal(strlen(reason.text), sizeof reason.text - 1);
    assert_string_equal(reason.hint, "");
    assert_int_equal(netlink_fail(&reason, EIO, text, "short"), -EIO);
    assert_int_equal(strlen(reason.hint), sizeof reason.hint - 1);
    assert_int_equal(netlink_fail(NULL, EIO, NULL, "nobody asks"), -EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configs_are_checked),
        cmocka_unit_test(requests_say_everything),
        cmocka_unit_test(requests_list_the_sockets),
        cmocka_unit_test(requests_leave_out_what_is_absent),
        cmocka_unit_test(refusals_are_explained),
        cmocka_unit_test(refusals_carry_the_kernels_words),
        cmocka_unit_test(reasons_are_cut_and_may_be_unwanted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
