/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include "cmocka_all.h"

#include "deadline.h"

#define MS UINT64_C(1000000)

static void test_remaining(void **state)
{
    struct deadline deadline = deadline_after(DEADLINE_NEVER, -1);
    int ms;

    (void)state;
    assert_int_equal(deadline_remaining_ms(&deadline), -1);
    deadline = deadline_after(0, -1);
    assert_int_equal(deadline_remaining_ms(&deadline), 0);
    deadline = deadline_after(5000 * MS, -1);
    ms = deadline_remaining_ms(&deadline);
    assert_in_range(ms, 4000, 5000);
    deadline = (struct deadline){.at_ns = 1, .cancel_fd = -1};
    assert_int_equal(deadline_remaining_ms(&deadline), 0);
}

/* Anything that ends poll(2) a moment early would make callers spin. */
static void test_rounds_up(void **state)
{
    struct deadline deadline = deadline_after(60000 * MS + 1, -1);

    (void)state;
    deadline.at_ns = monotonic_ns() + MS / 2;
    assert_in_range(deadline_remaining_ms(&deadline), 0, 1);
    deadline.at_ns = DEADLINE_NEVER - 1;
    assert_int_equal(deadline_remaining_ms(&deadline), INT_MAX);
}

static void test_overflow_is_never(void **state)
{
    (void)state;
    assert_true(deadline_after(DEADLINE_NEVER - 1, -1).at_ns == DEADLINE_NEVER);
    assert_true(deadline_after(DEADLINE_NEVER - monotonic_ns(), -1).at_ns == DEADLINE_NEVER);
}

static void test_times_out(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    uint64_t begin = monotonic_ns();
    struct deadline deadline = deadline_after(50 * MS, -1);

    (void)state;
    assert_int_equal(deadline_poll(&deadline, fd, POLLIN), -ETIMEDOUT);
    assert_true(monotonic_ns() - begin >= 50 * MS);
    close(fd);
}

static void test_sleeps_without_fd(void **state)
{
    uint64_t begin = monotonic_ns();
    struct deadline deadline = deadline_after(30 * MS, -1);

    (void)state;
    assert_int_equal(deadline_poll(&deadline, -1, 0), -ETIMEDOUT);
    assert_true(monotonic_ns() - begin >= 30 * MS);
}

static void test_ready(void **state)
{
    int fd = eventfd(1, EFD_CLOEXEC);
    struct deadline deadline = deadline_after(5000 * MS, -1);

    (void)state;
    assert_int_equal(deadline_poll(&deadline, fd, POLLIN), POLLIN);
    deadline = deadline_after(DEADLINE_NEVER, -1);
    assert_int_equal(deadline_poll(&deadline, fd, POLLIN | POLLOUT), POLLIN | POLLOUT);
    close(fd);
}

static void test_hangup_is_reported(void **state)
{
    struct deadline deadline = deadline_after(5000 * MS, -1);
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    close(fds[1]);
    assert_true(deadline_poll(&deadline, fds[0], POLLIN) & POLLHUP);
    close(fds[0]);
}

/* Also when the fd is ready: an interrupted command must not go on. */
static void test_cancel_wins(void **state)
{
    int cancel = eventfd(1, EFD_CLOEXEC), ready = eventfd(1, EFD_CLOEXEC), silent = eventfd(0, EFD_CLOEXEC);
    struct deadline deadline = deadline_after(DEADLINE_NEVER, cancel);

    (void)state;
    assert_int_equal(deadline_poll(&deadline, -1, 0), -ECANCELED);
    assert_int_equal(deadline_poll(&deadline, silent, POLLIN), -ECANCELED);
    assert_int_equal(deadline_poll(&deadline, ready, POLLIN), -ECANCELED);
    close(cancel);
    close(ready);
    close(silent);
}

static void on_alarm(int number)
{
    (void)number;
}

static void test_interrupted_by_signal(void **state)
{
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval timer = {.it_value.tv_usec = 10000, .it_interval.tv_usec = 10000}, off = {0};
    uint64_t begin = monotonic_ns();
    struct deadline deadline = deadline_after(80 * MS, -1);

    (void)state;
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
    assert_int_equal(deadline_poll(&deadline, -1, 0), -ETIMEDOUT);
    assert_int_equal(setitimer(ITIMER_REAL, &off, NULL), 0);
    assert_true(monotonic_ns() - begin >= 80 * MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remaining),
        cmocka_unit_test(test_rounds_up),
        cmocka_unit_test(test_overflow_is_never),
        cmocka_unit_test(test_times_out),
        cmocka_unit_test(test_sleeps_without_fd),
        cmocka_unit_test(test_ready),
        cmocka_unit_test(test_hangup_is_reported),
        cmocka_unit_test(test_cancel_wins),
        cmocka_unit_test(test_interrupted_by_signal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
