/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "protocol/reply.h"
#include "wire_builder.h"

#include "cmocka_all.h"

static void test_requests(void **state)
{
    const struct request request = {.command = NBD_CMD_READ,
                                    .flags = 0x0102,
                                    .cookie = 0x1122334455667788,
                                    .offset = 0x99,
                                    .length = 512};
    uint8_t header[NBD_EXTENDED_REQUEST_SIZE];

    (void)state;
    assert_int_equal(request_put(&request, SESSION_SIMPLE, header), 28);
    assert_int_equal(be32_get(header), NBD_REQUEST_MAGIC);
    assert_int_equal(be16_get(header + 4), 0x0102);
    assert_int_equal(be16_get(header + 6), NBD_CMD_READ);
    assert_int_equal(be64_get(header + 8), request.cookie);
    assert_int_equal(be32_get(header + 24), 512);
    assert_int_equal(request_put(&request, SESSION_EXTENDED, header), 32);
    assert_int_equal(be32_get(header), NBD_EXTENDED_REQUEST_MAGIC);
    assert_int_equal(be64_get(header + 24), 512);
}

static void test_which_reply_in_which_mode(void **state)
{
    static const struct {
        uint32_t magic;
        size_t simple, structured, extended;
    } table[] = {
        {NBD_SIMPLE_REPLY_MAGIC, 16, 16, 0},  {NBD_STRUCTURED_REPLY_MAGIC, 0, 20, 0},
        {NBD_EXTENDED_REPLY_MAGIC, 0, 0, 32}, {0x12345678, 0, 0, 0},
        {NBD_REQUEST_MAGIC, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        uint8_t magic[4];

        be32_put(magic, table[i].magic);
        assert_int_equal(reply_header_size(magic, SESSION_SIMPLE), table[i].simple);
        assert_int_equal(reply_header_size(magic, SESSION_STRUCTURED), table[i].structured);
        assert_int_equal(reply_header_size(magic, SESSION_EXTENDED), table[i].extended);
    }
}

static void test_headers(void **state)
{
    struct wire wire = {0};
    struct reply_header reply;

    (void)state;
    wire_32(&wire, NBD_SIMPLE_REPLY_MAGIC);
    wire_32(&wire, 5);
    wire_64(&wire, 42);
    reply_header_get(wire.data, &reply);
    assert_true(reply.simple && reply.done);
    assert_int_equal(reply.error, 5);
    assert_int_equal(reply.cookie, 42);

    wire.size = 0;
    wire_32(&wire, NBD_STRUCTURED_REPLY_MAGIC);
    wire_16(&wire, 0);
    wire_16(&wire, NBD_REPLY_TYPE_OFFSET_DATA);
    wire_64(&wire, 43);
    wire_32(&wire, UINT32_MAX);
    reply_header_get(wire.data, &reply);
    assert_false(reply.simple || reply.done);
    assert_int_equal(reply.type, NBD_REPLY_TYPE_OFFSET_DATA);
    assert_int_equal(reply.size, UINT32_MAX);

    wire.size = 0;
    wire_32(&wire, NBD_EXTENDED_REPLY_MAGIC);
    wire_16(&wire, NBD_REPLY_FLAG_DONE);
    wire_16(&wire, NBD_REPLY_TYPE_NONE);
    wire_64(&wire, 44);
    wire_64(&wire, 4096);
    wire_64(&wire, UINT64_C(1) << 40);
    reply_header_get(wire.data, &reply);
    assert_true(reply.done && !reply.simple);
    assert_int_equal(reply.offset, 4096);
    assert_int_equal(reply.size, UINT64_C(1) << 40);
}

static void test_error_chunks(void **state)
{
    static const struct {
        uint16_t type;
        const char *payload;
        size_t size;
        int result;
        size_t message_size;
    } table[] = {
        {NBD_REPLY_TYPE_ERROR, "\0\0\0\5\0\2no", 8, 0, 2},
        {NBD_REPLY_TYPE_ERROR, "\0\0\0\5\0\0", 6, 0, 0},
        {NBD_REPLY_TYPE_ERROR_OFFSET, "\0\0\0\5\0\2no\0\0\0\0\0\0\0\1", 16, 0, 2},
        {NBD_REPLY_TYPE_ERROR, "\0\0\0\5\0", 5, -EPROTO, 0},            /* too short */
        {NBD_REPLY_TYPE_ERROR, "\0\0\0\5\0\3no", 8, -EPROTO, 0},        /* the length lies */
        {NBD_REPLY_TYPE_ERROR, "\0\0\0\5\xff\xffno", 8, -EPROTO, 0},    /* and how */
        {NBD_REPLY_TYPE_ERROR, "\0\0\0\0\0\2no", 8, -EPROTO, 0},        /* an error of no error */
        {NBD_REPLY_TYPE_ERROR_OFFSET, "\0\0\0\5\0\2no", 8, -EPROTO, 0}, /* no room for the offset */
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const uint8_t *message = NULL;
        struct failure failure;
        uint32_t error = 0;
        size_t size = 0;

        assert_int_equal(reply_error_get(table[i].type, (const uint8_t *)table[i].payload, table[i].size,
                                         &error, &message, &size, &failure),
                         table[i].result);
        assert_int_equal(size, table[i].message_size);
        if (table[i].result == 0)
            assert_int_equal(error, 5);
    }
}

static void test_errnos(void **state)
{
    (void)state;
    assert_int_equal(nbd_errno(1), EPERM);
    assert_int_equal(nbd_errno(5), EIO);
    assert_int_equal(nbd_errno(28), ENOSPC);
    assert_int_equal(nbd_errno(95), ENOTSUP);
    assert_int_equal(nbd_errno(4711), EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests), cmocka_unit_test(test_which_reply_in_which_mode),
        cmocka_unit_test(test_headers),  cmocka_unit_test(test_error_chunks),
        cmocka_unit_test(test_errnos),
    };

    return cmocka_run_group_tests_name("reply", tests, NULL, NULL);
}
