/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The answers come out of a socket pair, whose sender looks like the kernel: it has no netlink address. */

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmocka_all.h"
#include "exchange.h"
#include "netlink_build.h"

struct fixture {
    int pair[2];
    char buffer[4096];
    struct netlink_exchange exchange;
    int taken, stop;
};

static int take(const void *message, size_t size, void *arg)
{
    struct fixture *fixture = arg;

    assert_non_null(message);
    assert_true(size >= sizeof(struct nlmsghdr));
    fixture->taken++;
    return fixture->stop;
}

static int set_up(void **state)
{
    static struct fixture fixture;

    fixture = (struct fixture){0};
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fixture.pair) < 0)
        return -1;
    fixture.exchange = (struct netlink_exchange){
        .fd = fixture.pair[0],
        .timeout_ms = 50,
        .sequence = 7,
        .buffer = fixture.buffer,
        .buffer_size = sizeof fixture.buffer,
        .take = take,
        .arg = &fixture,
    };
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    close(fixture->pair[0]);
    close(fixture->pair[1]);
    return 0;
}

static void say(struct fixture *fixture, const struct build *build)
{
    assert_int_equal(send(fixture->pair[1], build->data, build->size, 0), (ssize_t)build->size);
}

static void say_answer(struct fixture *fixture, uint32_t sequence)
{
    struct build build = {0};

    build_message_end(&build, build_message(&build, 0x1b, 0, sequence));
    say(fixture, &build);
}

static void say_verdict(struct fixture *fixture, uint32_t sequence, int32_t error, const char *words)
{
    struct build build = {0};

    build_verdict(&build, sequence, error, words);
    say(fixture, &build);
}

static void answers_come_before_the_ack(void **state)
{
    struct fixture *fixture = *state;

    say_answer(fixture, 7);
    say_answer(fixture, 7);
    say_verdict(fixture, 7, 0, NULL);
    say_answer(fixture, 7);
    assert_int_equal(netlink_exchange_run(&fixture->exchange), 0);
    assert_int_equal(fixture->taken, 2);
}

static void a_datagram_may_hold_several(void **state)
{
    struct fixture *fixture = *state;
    struct build build = {0};

    build_message_end(&build, build_message(&build, 0x1b, 0, 7));
    build_message_end(&build, build_message(&build, 0x1b, 0, 7));
    build_verdict(&build, 7, -EBUSY, NULL);
    say(fixture, &build);
    assert_int_equal(netlink_exchange_run(&fixture->exchange), -EBUSY);
    assert_int_equal(fixture->taken, 2);
}

static void a_refusal_keeps_its_words(void **state)
{
    struct fixture *fixture = *state;

    say_verdict(fixture, 7, -EINVAL, "no such thing");
    assert_int_equal(netlink_exchange_run(&fixture->exchange), -EINVAL);
    assert_string_equal(fixture->exchange.text, "no such thing");
}

static void done_ends_a_dump(void **state)
{
    struct fixture *fixture = *state;
    struct build build = {0};
    const int32_t code = -ENOENT;
    size_t at = build_message(&build, NLMSG_DONE, NLM_F_MULTI, 7);

    build_put(&build, &code, sizeof code);
    build_message_end(&build, at);
    say(fixture, &build);
    assert_int_equal(netlink_exchange_run(&fixture->exchange), -ENOENT);
}

static void answers_to_older_requests_are_passed_over(void **state)
{
    struct fixture *fixture = *state;

    say_answer(fixture, 6);
    say_verdict(fixture, 6, -EPERM, NULL);
    say_verdict(fixture, 7, 0, NULL);
    assert_int_equal(netlink_exchange_run(&fixture->exchange), 0);
    assert_int_equal(fixture->taken, 0);
}

static void nobody_need_take_the_answers(void **state)
{
    struct fixture *fixture = *state;

    fixture->exchange.take = NULL;
    say_answer(fixture, 7);
    say_verdict(fixture, 7, 0, NULL);
    assert_int_equal(netlink_exchange_run(&fixture->exchange), 0);
}

static void taking_may_stop_it(void **state)
{
    struct fixture *fixture = *state;

    fixture->stop = -EBADMSG;
    say_answer(fixture, 7);
    say_answer(fixture, 7);
    say_verdict(fixture, 7, 0, NULL);
    assert_int_equal(netlink_exchange_run(&fixture->exchange), -EBADMSG);
    assert_int_equal(fixture->taken, 1);
}

static void silence_ends_in_time(void **state)
{
    struct fixture *fixture = *state;

    say_answer(fixture, 7);
    assert_int_equal(netlink_exchange_run(&fixture->exchange), -ETIMEDOUT);
}

static void garbage_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct build build = {.size = 10};

    say(fixture, &build);
    assert_int_equal(netlink_exchange_run(&fixture->exchange), -EBADMSG);
}

static void too_long_datagrams_are_no_messages(void **state)
{
    struct fixture *fixture = *state;
    struct build build = {.size = sizeof fixture->buffer + 4};

    say(fixture, &build);
    assert_int_equal(netlink_receive(fixture->pair[0], fixture->buffer, sizeof fixture->buffer), -EMSGSIZE);
    assert_int_equal(netlink_receive(fixture->pair[0], fixture->buffer, sizeof fixture->buffer), 0);
    assert_int_equal(netlink_receive(-1, fixture->buffer, sizeof fixture->buffer), -EBADF);
}

/* A real netlink socket, to which this process itself sends. */
static void messages_of_processes_are_passed_over(void **state)
{
    struct fixture *fixture = *state;
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    socklen_t size = sizeof address;
    int to = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_USERSOCK);
    int from = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_USERSOCK);

    if (to < 0 || from < 0)
        skip();
    assert_int_equal(bind(to, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(to, (struct sockaddr *)&address, &size), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sendto(from, "forged", 6, 0, (struct sockaddr *)&address, size), 6);
    assert_int_equal(netlink_receive(to, fixture->buffer, sizeof fixture->buffer), 0);
    assert_int_equal(recv(to, fixture->buffer, sizeof fixture->buffer, MSG_DONTWAIT), -1);
    close(to);
    close(from);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_come_before_the_ack),
        TEST(a_datagram_may_hold_several),
        TEST(a_refusal_keeps_its_words),
        TEST(done_ends_a_dump),
        TEST(answers_to_older_requests_are_passed_over),
        TEST(nobody_need_take_the_answers),
        TEST(taking_may_stop_it),
        TEST(silence_ends_in_time),
        TEST(garbage_is_refused),
        TEST(too_long_datagrams_are_no_messages),
        TEST(messages_of_processes_are_passed_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
