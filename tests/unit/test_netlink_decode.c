/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <linux/nbd-netlink.h>
#include <stdlib.h>

#include "cmocka_all.h"
#include "message.h"
#include "nbd.h"
#include "netlink_build.h"

static void put_device(struct build *build, uint32_t index, int connected)
{
    size_t item = build_nest(build, NBD_DEVICE_ITEM);

    build_u32(build, NBD_DEVICE_INDEX, index);
    if (connected >= 0)
        build_u8(build, NBD_DEVICE_CONNECTED, (uint8_t)connected);
    build_nest_end(build, item);
}

static void make_index(struct build *build, uint8_t command, uint32_t index)
{
    size_t at = build_genl(build, command);

    build_u32(build, NBD_ATTR_INDEX, index);
    build_message_end(build, at);
}

static void make_status(struct build *build, uint32_t count)
{
    size_t at = build_genl(build, NBD_CMD_STATUS), list = build_nest(build, NBD_ATTR_DEVICE_LIST);

    for (uint32_t i = 0; i < count; i++)
        put_device(build, i * 3, i % 2 == 0);
    build_nest_end(build, list);
    build_message_end(build, at);
}

/* In a copy of exactly this size, at an odd address: a sanitizer sees a read behind the end or an aligned
 * one. */
struct exact {
    uint8_t *base;
    const uint8_t *data;
};

static struct exact exactly(const struct build *build, size_t size)
{
    struct exact exact = {.base = malloc(size + 1)};

    assert_non_null(exact.base);
    memcpy(exact.base + 1, build->data, size);
    exact.data = exact.base + 1;
    return exact;
}

typedef int (*decoder)(const void *data, size_t size);

static int decode_connect(const void *data, size_t size)
{
    uint32_t index = 0;
    int r = nbd_decode_connect(data, size, &index);

    return r < 0 ? r : (int)index;
}

static int decode_status(const void *data, size_t size)
{
    struct nbd_status list[4];

    return nbd_decode_status(data, size, list, 4);
}

static int decode_event(const void *data, size_t size)
{
    uint32_t index;

    return nbd_decode_event(data, size, &index);
}

static int decode(decoder function, const struct build *build, size_t size)
{
    struct exact exact = exactly(build, size);
    int r = function(exact.data, size);

    free(exact.base);
    return r;
}

static void connect_gives_the_index(void **state)
{
    struct build build = {0};

    (void)state;
    make_index(&build, NBD_CMD_CONNECT, 42);
    assert_int_equal(decode(decode_connect, &build, build.size), 42);
    assert_int_equal(decode(decode_event, &build, build.size), 0);
    assert_int_equal(decode(decode_status, &build, build.size), -EBADMSG);
}

static void event_gives_the_index(void **state)
{
    struct build build = {0};
    uint32_t index = 0;

    (void)state;
    make_index(&build, NBD_CMD_LINK_DEAD, 7);
    assert_int_equal(nbd_decode_event(build.data, build.size, &index), 1);
    assert_int_equal(index, 7);
    assert_int_equal(decode(decode_connect, &build, build.size), -EBADMSG);
}

static void status_lists_every_device(void **state)
{
    struct build build = {0};
    struct nbd_status list[8];

    (void)state;
    make_status(&build, 6);
    assert_int_equal(nbd_decode_status(build.data, build.size, list, 8), 6);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(list[i].index, i * 3);
        assert_int_equal(list[i].connected, i % 2 == 0);
    }
}

static void status_writes_no_more_than_there_is_room_for(void **state)
{
    struct build build = {0};
    struct nbd_status list[3] = {[2] = {.index = 99}};

    (void)state;
    make_status(&build, 6);
    assert_int_equal(nbd_decode_status(build.data, build.size, list, 2), 6);
    assert_int_equal(list[1].index, 3);
    assert_int_equal(list[2].index, 99);
    assert_int_equal(nbd_decode_status(build.data, build.size, NULL, 0), 6);
}

static void status_may_be_empty(void **state)
{
    struct build empty = {0}, absent = {0};

    (void)state;
    make_status(&empty, 0);
    assert_int_equal(decode(decode_status, &empty, empty.size), 0);
    build_message_end(&absent, build_genl(&absent, NBD_CMD_STATUS));
    assert_int_equal(decode(decode_status, &absent, absent.size), 0);
}

static void status_passes_over_what_it_does_not_know(void **state)
{
    struct build build = {0};
    struct nbd_status list[2];
    size_t at = build_genl(&build, NBD_CMD_STATUS), nest;

    (void)state;
    build_u32(&build, 99, 1);
    nest = build_nest(&build, NBD_ATTR_DEVICE_LIST | NLA_F_NESTED);
    build_u32(&build, 77, 5);
    put_device(&build, 11, -1);
    build_nest_end(&build, nest);
    build_message_end(&build, at);
    assert_int_equal(nbd_decode_status(build.data, build.size, list, 2), 1);
    assert_int_equal(list[0].index, 11);
    assert_false(list[0].connected);
}

static void status_needs_the_index_of_a_device(void **state)
{
    struct build build = {0};
    size_t at = build_genl(&build, NBD_CMD_STATUS), list = build_nest(&build, NBD_ATTR_DEVICE_LIST);
    size_t item = build_nest(&build, NBD_DEVICE_ITEM);

    (void)state;
    build_u8(&build, NBD_DEVICE_CONNECTED, 1);
    build_nest_end(&build, item);
    build_nest_end(&build, list);
    build_message_end(&build, at);
    assert_int_equal(decode(decode_status, &build, build.size), -EBADMSG);
}

/* Shorter than it says, at every length; longer is no harm. */
static void truncated_messages_are_refused(void **state)
{
    static const decoder decoders[] = {decode_connect, decode_status, decode_event};
    struct build builds[3] = {0};

    (void)state;
    make_index(&builds[0], NBD_CMD_CONNECT, 1);
    make_status(&builds[1], 4);
    make_index(&builds[2], NBD_CMD_LINK_DEAD, 1);
    for (size_t i = 0; i < 3; i++) {
        for (size_t size = 0; size < builds[i].size; size++)
            assert_int_equal(decode(decoders[i], &builds[i], size), -EBADMSG);
        assert_true(decode(decoders[i], &builds[i], builds[i].size + 5) >= 0);
    }
}

/* Every byte changed to every value: any answer is right but a crash. */
static void garbage_does_no_harm(void **state)
{
    static const decoder decoders[] = {decode_connect, decode_status, decode_event};
    struct build build = {0};

    (void)state;
    make_status(&build, 2);
    for (size_t at = 0; at < build.size; at++)
        for (unsigned value = 0; value < 256; value++)
            for (size_t i = 0; i < 3; i++) {
                uint8_t before = build.data[at];

                build.data[at] = (uint8_t)value;
                assert_true(decode(decoders[i], &build, build.size) >= -EBADMSG);
                build.data[at] = before;
            }
}

static void wrong_sizes_of_values_are_refused(void **state)
{
    struct build build = {0};
    size_t at = build_genl(&build, NBD_CMD_CONNECT);

    (void)state;
    build_u16(&build, NBD_ATTR_INDEX, 3);
    build_message_end(&build, at);
    assert_int_equal(decode(decode_connect, &build, build.size), -EBADMSG);
}

static void control_messages_are_no_answers(void **state)
{
    struct build build = {0};

    (void)state;
    build_verdict(&build, 7, 0, NULL);
    assert_int_equal(decode(decode_connect, &build, build.size), -EBADMSG);
    assert_int_equal(decode(decode_status, &build, build.size), -EBADMSG);
    assert_int_equal(decode(decode_event, &build, build.size), -EBADMSG);
}

static void first_message(const struct build *build, struct netlink_message *message)
{
    struct netlink_view rest = {build->data, build->size};

    assert_int_equal(netlink_message_next(&rest, message), 1);
}

static int verdict(const struct build *build, int *error, char text[static 16])
{
    struct netlink_message message;

    first_message(build, &message);
    return netlink_message_verdict(&message, error, text, 16);
}

static void verdicts_carry_the_kernels_words(void **state)
{
    struct build ack = {0}, plain = {0}, worded = {0};
    char text[16];
    int error;

    (void)state;
    build_verdict(&ack, 1, 0, NULL);
    assert_int_equal(verdict(&ack, &error, text), 0);
    assert_int_equal(error, 0);
    assert_string_equal(text, "");
    build_verdict(&plain, 1, -EBUSY, NULL);
    assert_int_equal(verdict(&plain, &error, text), 0);
    assert_int_equal(error, -EBUSY);
    build_verdict(&worded, 1, -EINVAL, "bad\n attribute, very bad");
    assert_int_equal(verdict(&worded, &error, text), 0);
    assert_int_equal(error, -EINVAL);
    assert_string_equal(text, "bad? attribute,");
}

/* Without NETLINK_CAP_ACK the whole request comes back before the words. */
static void verdicts_may_echo_the_request(void **state)
{
    struct nlmsghdr request = {.nlmsg_len = sizeof request + 8};
    const uint8_t payload[8] = {0};
    struct build build = {0};
    int32_t code = -EPERM;
    size_t at = build_message(&build, NLMSG_ERROR, NLM_F_ACK_TLVS, 1);
    char text[16];
    int error;

    (void)state;
    build_put(&build, &code, sizeof code);
    build_put(&build, &request, sizeof request);
    build_put(&build, payload, sizeof payload);
    build_attribute(&build, NLMSGERR_ATTR_MSG, "no", 3);
    build_message_end(&build, at);
    assert_int_equal(verdict(&build, &error, text), 0);
    assert_int_equal(error, -EPERM);
    assert_string_equal(text, "no");
}

static void verdicts_out_of_range_are_refused(void **state)
{
    static const int32_t codes[] = {1, -4096, INT32_MIN, INT32_MAX};
    char text[16];
    int error;

    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct build build = {0};

        build_verdict(&build, 1, codes[i], NULL);
        assert_int_equal(verdict(&build, &error, text), -EBADMSG);
    }
}

static void verdicts_without_a_number_are_refused(void **state)
{
    struct build build = {0};
    char text[16];
    int error;

    (void)state;
    build_message_end(&build, build_message(&build, NLMSG_ERROR, 0, 1));
    assert_int_equal(verdict(&build, &error, text), -EBADMSG);
}

static void attributes_are_walked_to_the_end(void **state)
{
    struct netlink_attribute attribute;
    struct build build = {0};
    struct netlink_view rest;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;

    (void)state;
    build_u8(&build, 1, 200);
    build_u16(&build, 2 | NLA_F_NET_BYTEORDER, 60000);
    build_u32(&build, 3 | NLA_F_NESTED, 4000000000);
    rest = (struct netlink_view){build.data, build.size};
    assert_int_equal(netlink_attribute_next(&rest, &attribute), 1);
    assert_int_equal(netlink_attribute_u8(&attribute, &u8), 0);
    assert_int_equal(netlink_attribute_u16(&attribute, &u16), -EBADMSG);
    assert_int_equal(u8, 200);
    assert_int_equal(netlink_attribute_next(&rest, &attribute), 1);
    assert_int_equal(attribute.type, 2);
    assert_int_equal(netlink_attribute_u16(&attribute, &u16), 0);
    assert_int_equal(u16, 60000);
    assert_int_equal(netlink_attribute_next(&rest, &attribute), 1);
    assert_int_equal(attribute.type, 3);
    assert_int_equal(netlink_attribute_u32(&attribute, &u32), 0);
    assert_int_equal(u32, 4000000000);
    assert_int_equal(netlink_attribute_next(&rest, &attribute), 0);
}

static void unpadded_last_attributes_are_taken(void **state)
{
    struct netlink_attribute attribute;
    struct build build = {0};
    struct netlink_view rest;

    (void)state;
    build_u8(&build, 1, 5);
    rest = (struct netlink_view){build.data, 5};
    assert_int_equal(netlink_attribute_next(&rest, &attribute), 1);
    assert_int_equal(netlink_attribute_next(&rest, &attribute), 0);
    rest = (struct netlink_view){build.data, 3};
    assert_int_equal(netlink_attribute_next(&rest, &attribute), -EBADMSG);
    build.data[0] = 3;
    rest = (struct netlink_view){build.data, 8};
    assert_int_equal(netlink_attribute_find(rest, 1, &attribute), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_gives_the_index),
        cmocka_unit_test(event_gives_the_index),
        cmocka_unit_test(status_lists_every_device),
        cmocka_unit_test(status_writes_no_more_than_there_is_room_for),
        cmocka_unit_test(status_may_be_empty),
        cmocka_unit_test(status_passes_over_what_it_does_not_know),
        cmocka_unit_test(status_needs_the_index_of_a_device),
        cmocka_unit_test(truncated_messages_are_refused),
        cmocka_unit_test(garbage_does_no_harm),
        cmocka_unit_test(wrong_sizes_of_values_are_refused),
        cmocka_unit_test(control_messages_are_no_answers),
        cmocka_unit_test(verdicts_carry_the_kernels_words),
        cmocka_unit_test(verdicts_may_echo_the_request),
        cmocka_unit_test(verdicts_out_of_range_are_refused),
        cmocka_unit_test(verdicts_without_a_number_are_refused),
        cmocka_unit_test(attributes_are_walked_to_the_end),
        cmocka_unit_test(unpadded_last_attributes_are_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
