/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The relay process between a server, plain or with TLS, and what the kernel driver would be. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/relay.h"
#include "relayed.h"

#include "cmocka_all.h"

/* ---- each with and without TLS ---- */

static void both_ways(bool tls)
{
    struct relayed r = {.peer = {.tls = tls, .tcp = true}};

    relayed_start(&r);
    relayed_exchange(&r, 8 << 20);
    relayed_end(&r);
}

static size_t resident_kb(pid_t pid)
{
    char path[64], line[128];
    size_t kb = 0;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kb = strtoul(line + 6, NULL, 10);
    fclose(file);
    return kb;
}

/* Writes until nothing more is taken for a while; how much that was. */
static size_t fill(struct relayed *r)
{
    static uint8_t zeroes[65536];
    size_t filled = 0;

    for (;;) {
        struct pollfd writable = {.fd = r->peer.connection.fd, .events = POLLOUT};
        ssize_t n = send(r->peer.connection.fd, zeroes, sizeof zeroes, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && poll(&writable, 1, 300) == 0)
            return filled;
        filled += n > 0 ? (size_t)n : 0;
    }
}

static void who_is_slow_stops_the_other(bool tls)
{
    struct relayed r = {.peer = {.tls = tls}};
    static uint8_t data[65536];
    size_t filled, before;

    relayed_start(&r);
    relayed_pass(&r, true, "ready");
    before = resident_kb(r.pid);
    filled = fill(&r);
    assert_true(filled > 65536 && filled < (16 << 20));
    assert_true(resident_kb(r.pid) <= before + 512);
    while (filled > 0) {
        ssize_t n = relayed_read(&r, true, data, filled < sizeof data ? filled : sizeof data);

        assert_true(n > 0);
        filled -= (size_t)n;
    }
    relayed_exchange(&r, 1 << 20);
    relayed_end(&r);
}

static void the_kernel_ends_its_direction(bool tls)
{
    struct relayed r = {.peer = {.tls = tls}};

    relayed_start(&r);
    assert_int_equal(relayed_write(&r, false, "last words", 10), 10);
    shutdown(r.peer.connection.fd, SHUT_WR);
    for (size_t left = 10; left > 0;) {
        char text[10];
        ssize_t n = relayed_read(&r, true, text, left);

        assert_true(n > 0);
        left -= (size_t)n;
    }
    relayed_expect_eof(&r, true);
    relayed_pass(&r, false, "still here");
    relay_peer_shut(&r.peer);
    relayed_expect_eof(&r, false);
    relayed_expect_end(&r);
    relay_peer_clear(&r.peer);
}

static void the_server_ends(bool tls)
{
    struct relayed r = {.peer = {.tls = tls}};
    char text[16];

    relayed_start(&r);
    relayed_pass(&r, true, "request");
    assert_int_equal(relayed_write(&r, true, "answer", 6), 6);
    relay_peer_shut(&r.peer);
    assert_int_equal(recv(r.peer.connection.fd, text, 6, MSG_WAITALL), 6);
    assert_memory_equal(text, "answer", 6);
    relayed_expect_eof(&r, false);
    relayed_expect_end(&r);
    relay_peer_clear(&r.peer);
}

static void the_server_resets(bool tls)
{
    struct relayed r = {.peer = {.tls = tls, .tcp = true}};
    char byte;

    relayed_start(&r);
    relayed_pass(&r, true, "request");
    relay_peer_reset(&r.peer);
    assert_int_equal(recv(r.peer.connection.fd, &byte, 1, 0), 0);
    relayed_expect_end(&r);
    relay_peer_clear(&r.peer);
}

static void the_kernel_lets_go(bool tls)
{
    struct relayed r = {.peer = {.tls = tls}};

    relayed_start(&r);
    relayed_pass(&r, true, "request");
    assert_int_equal(relayed_write(&r, false, "last words", 10), 10);
    relayed_let_go(&r);
    for (size_t left = 10; left > 0;) {
        char text[10];
        ssize_t n = relayed_read(&r, true, text, left);

        assert_true(n > 0);
        left -= (size_t)n;
    }
    relayed_expect_eof(&r, true);
    relayed_expect_end(&r);
    relay_peer_clear(&r.peer);
}

/* With a server that neither reads nor answers. */
static void the_kernel_lets_go_of_a_stuck_server(bool tls)
{
    struct relayed r = {.peer = {.tls = tls}};

    relayed_start(&r);
    fill(&r);
    relayed_let_go(&r);
    relayed_expect_end(&r);
    relay_peer_clear(&r.peer);
}

#define BOTH(name)                                                                                           \
    static void test_##name(void **state)                                                                    \
    {                                                                                                        \
        (void)state;                                                                                         \
        name(false);                                                                                         \
    }                                                                                                        \
    static void test_##name##_tls(void **state)                                                              \
    {                                                                                                        \
        (void)state;                                                                                         \
        if (HAVE_TLS)                                                                                        \
            name(true);                                                                                      \
    }

BOTH(both_ways)
BOTH(who_is_slow_stops_the_other)
BOTH(the_kernel_ends_its_direction)
BOTH(the_server_ends)
BOTH(the_server_resets)
BOTH(the_kernel_lets_go)
BOTH(the_kernel_lets_go_of_a_stuck_server)

/* ---- the process ---- */

static void read_proc(pid_t pid, const char *name, char *into, size_t size)
{
    char path[64];
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    file = fopen(path, "re");
    assert_non_null(file);
    into[fread(into, 1, size - 1, file)] = '\0';
    fclose(file);
}

static void test_the_process(void **state)
{
    struct relayed r = {.peer = {.tls = HAVE_TLS}};
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE};
    char text[4096];

    (void)state;
    relayed_start(&r);
    read_proc(r.pid, "comm", text, sizeof text);
    assert_string_equal(text, RELAY_NAME "\n");
    assert_int_not_equal(getpgid(r.pid), getpgid(0));
    assert_int_not_equal(getsid(r.pid), getsid(0));
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        assert_int_equal(kill(r.pid, signals[i]), 0);
    relayed_pass(&r, true, "alive");
    relayed_pass(&r, false, "and well");
    read_proc(r.pid, "limits", text, sizeof text);
    assert_non_null(strstr(text, "Max core file size        0 "));
    relayed_end(&r);
}

static void test_two_relays_do_not_hold_each_other(void **state)
{
    struct relayed a = {0}, b = {0};

    (void)state;
    relayed_start(&a);
    relayed_start(&b);
    relayed_pass(&b, true, "b");
    relayed_let_go(&a);
    /* b was started while a's kernel end was open here. */
    assert_int_equal(relay_peer_read(&a.peer, (char[1]){0}, 1), 0);
    for (int i = 0; i < 500 && waitpid(a.pid, NULL, WNOHANG) == 0; i++)
        usleep(10000);
    assert_int_equal(kill(a.pid, 0), -1);
    relayed_pass(&b, false, "b is still there");
    relay_peer_clear(&a.peer);
    relayed_end(&b);
}

static void test_a_server_that_has_spoken_already(void **state)
{
    struct relay_peer peer = {.tls = HAVE_TLS};
    struct failure weakness = {0}, failure = {0};
    pid_t pid = 0;

    (void)state;
    relay_peer_open(&peer);
    assert_int_equal(relay_peer_write(&peer, "unasked", 7), 7);
    assert_int_equal(relay_start(&peer.connection, &pid, &weakness, &failure), -EPROTO);
    assert_non_null(strstr(failure.text, "nobody asked for"));
    assert_int_equal(pid, 0);
    relay_peer_clear(&peer);
}

#define BOTH_TESTS(name) cmocka_unit_test(test_##name), cmocka_unit_test(test_##name##_tls)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_TESTS(both_ways),
        BOTH_TESTS(who_is_slow_stops_the_other),
        BOTH_TESTS(the_kernel_ends_its_direction),
        BOTH_TESTS(the_server_ends),
        BOTH_TESTS(the_server_resets),
        BOTH_TESTS(the_kernel_lets_go),
        BOTH_TESTS(the_kernel_lets_go_of_a_stuck_server),
        cmocka_unit_test(test_the_process),
        cmocka_unit_test(test_two_relays_do_not_hold_each_other),
        cmocka_unit_test(test_a_server_that_has_spoken_already),
    };

    relayed_prepare();
    return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
