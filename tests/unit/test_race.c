/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/race.h"

#include "loopback.h"

/* A list of addresses as a name server would give it; every host comes with a port of its own. */
static struct addrinfo *addresses(const char *const (*hosts)[2], size_t count)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *list = NULL,
                    **end = &list;

    for (size_t i = 0; i < count; i++) {
        assert_int_equal(getaddrinfo(hosts[i][0], hosts[i][1], &hints, end), 0);
        end = &(*end)->ai_next;
    }
    return list;
}

static int race(const char *const (*hosts)[2], size_t count, uint64_t timeout_ns, char *reasons, size_t size)
{
    struct deadline deadline = deadline_after(timeout_ns, -1);
    struct addrinfo *list = addresses(hosts, count);
    int fd = race_connect(list, false, &deadline, reasons, size);

    freeaddrinfo(list);
    return fd;
}

static void test_next_after_failure(void **state)
{
    char port[8], closed[8], reasons[512];
    int listener = bind_tcp("127.0.0.1", 8, port, sizeof port);
    int holder = bind_tcp("127.0.0.2", -1, closed, sizeof closed);
    const char *const hosts[][2] = {{"::1", closed}, {"127.0.0.2", closed}, {"127.0.0.1", port}};
    uint64_t begin = monotonic_ns();
    int fd = race(hosts, 3, PATIENCE, reasons, sizeof reasons);

    (void)state;
    check_flags(fd);
    assert_true(monotonic_ns() - begin < 240 * MS);
    close(fd);
    close(listener);
    close(holder);
}

static void test_next_after_silence(void **state)
{
    char port[8], full[8], reasons[512];
    int listener = bind_tcp("127.0.0.1", 8, port, sizeof port);
    int silent = bind_tcp("127.0.0.2", 0, full, sizeof full);
    int filler = fill_backlog(silent);
    const char *const hosts[][2] = {{"127.0.0.2", full}, {"127.0.0.1", port}};
    uint64_t begin = monotonic_ns();
    int fd = race(hosts, 2, PATIENCE, reasons, sizeof reasons);

    (void)state;
    check_flags(fd);
    assert_in_range((monotonic_ns() - begin) / MS, 250, 900);
    close(fd);
    close(filler);
    close(silent);
    close(listener);
}

/* The first address wins with its second SYN, after the other was tried and failed. */
static void test_slow_first_wins(void **state)
{
    char full[8], reasons[512];
    int silent = bind_tcp("127.0.0.2", 0, full, sizeof full);
    int filler = fill_backlog(silent);
    const char *const hosts[][2] = {{"127.0.0.2", full}, {"127.0.0.3", full}};
    uint64_t begin = monotonic_ns();
    pthread_t thread;
    int fd;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, accept_later, &silent), 0);
    fd = race(hosts, 2, PATIENCE, reasons, sizeof reasons);
    check_flags(fd);
    assert_true(monotonic_ns() - begin > 250 * MS);
    assert_int_equal(pthread_join(thread, NULL), 0);
    close(fd);
    close(filler);
    close(silent);
}

static void test_reasons_in_order(void **state)
{
    char port[8], full[8], reasons[512];
    int holder = bind_tcp("0.0.0.0", -1, port, sizeof port);
    int silent = bind_tcp("127.0.0.2", 0, full, sizeof full);
    int filler = fill_backlog(silent);
    const char *const refused[][2] = {{"127.0.0.1", port}, {"127.0.0.2", port}, {"127.0.0.3", port},
                                      {"127.0.0.4", port}, {"127.0.0.5", port}, {"127.0.0.6", port}};
    const char *const mixed[][2] = {{"127.0.0.1", port}, {"127.0.0.2", full}};

    (void)state;
    assert_int_equal(race(refused, 6, PATIENCE, reasons, sizeof reasons), -ECONNREFUSED);
    assert_string_equal(reasons, "127.0.0.1: Connection refused; 127.0.0.2: Connection refused; "
                                 "127.0.0.3: Connection refused; 127.0.0.4: Connection refused; and 2 more");
    assert_int_equal(race(mixed, 2, 400 * MS, reasons, sizeof reasons), -ETIMEDOUT);
    assert_string_equal(reasons, "127.0.0.1: Connection refused; 127.0.0.2: no answer");
    assert_int_equal(race(refused, 6, PATIENCE, reasons, 20), -ECONNREFUSED);
    assert_true(strlen(reasons) < 20);
    close(filler);
    close(silent);
    close(holder);
}

static void test_families_take_turns(void **state)
{
    char port[8], port6[8], reasons[512];
    int holder = bind_tcp("0.0.0.0", -1, port, sizeof port);
    int holder6 = bind_tcp("::1", -1, port6, sizeof port6);
    const char *const hosts[][2] = {
        {"127.0.0.1", port}, {"127.0.0.2", port}, {"127.0.0.3", port}, {"::1", port6}};

    (void)state;
    if (holder6 < 0) {
        close(holder);
        print_message("# no IPv6 here\n");
        return;
    }
    assert_int_equal(race(hosts, 4, PATIENCE, reasons, sizeof reasons), -ECONNREFUSED);
    assert_string_equal(reasons, "127.0.0.1: Connection refused; ::1: Connection refused; "
                                 "127.0.0.2: Connection refused; 127.0.0.3: Connection refused");
    close(holder6);
    close(holder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_after_failure),  cmocka_unit_test(test_next_after_silence),
        cmocka_unit_test(test_slow_first_wins),     cmocka_unit_test(test_reasons_in_order),
        cmocka_unit_test(test_families_take_turns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
