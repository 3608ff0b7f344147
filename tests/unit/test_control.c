/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An agent's socket: its files, what is answered, and who does not play along. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/control.h"
#include "agent/control_socket.h"
#include "agent_socket.h"

#include "cmocka_all.h"

#define BUSY "{\"error\":\"" METHOD "TooManyClients\",\"parameters\":{}}"

/* ---- the socket's files ---- */

static void test_files(void **state)
{
    struct sockaddr_un address;
    struct agent agent;
    struct stat file;
    mode_t old = umask(0);

    (void)state;
    open_agent(&agent);
    umask(old);
    assert_int_equal(control_address(agent_folder, AGENT_INDEX, &address), 0);
    assert_int_equal(lstat(address.sun_path, &file), 0);
    assert_int_equal(file.st_mode, S_IFSOCK | 0600);
    assert_true(agent_file_exists("nbd7.lock"));
    control_close(agent.control);
    assert_false(agent_file_exists("nbd7.varlink"));
    assert_false(agent_file_exists("nbd7.lock"));
}

static void test_second_agent(void **state)
{
    struct agent agent, second = {0};

    (void)state;
    open_agent(&agent);
    assert_int_equal(
        control_open_in(agent_folder, &second.control, AGENT_INDEX, &agent_ops, &second, &second.failure),
        -EADDRINUSE);
    assert_string_equal(second.failure.text, "another process is the agent of /dev/nbd7");
    assert_true(agent_file_exists("nbd7.varlink"));
    assert_true(agent_file_exists("nbd7.lock"));
    close(dial());
    control_close(agent.control);
}

static void test_stale(void **state)
{
    struct agent agent;
    int listener;

    (void)state;
    leave_socket(-1, &listener);
    close(listener);
    open_agent(&agent);
    close(dial());
    control_close(agent.control);
    assert_false(agent_file_exists("nbd7.varlink"));
}

/* Also one whose queue is full, and which holds no lock of ours. */
static void test_live(void **state)
{
    struct agent agent = {0};
    int listener, waiting;

    (void)state;
    leave_socket(0, &listener);
    waiting = dial();
    assert_int_equal(
        control_open_in(agent_folder, &agent.control, AGENT_INDEX, &agent_ops, &agent, &agent.failure),
        -EADDRINUSE);
    assert_true(agent_file_exists("nbd7.varlink"));
    assert_false(agent_file_exists("nbd7.lock"));
    close(waiting);
    remove_socket(listener);
}

static void test_not_ours_any_more(void **state)
{
    struct sockaddr_un address;
    struct agent agent;
    int listener;

    (void)state;
    open_agent(&agent);
    control_address(agent_folder, AGENT_INDEX, &address);
    assert_int_equal(unlink(address.sun_path), 0);
    leave_socket(1, &listener);
    control_close(agent.control);
    assert_true(agent_file_exists("nbd7.varlink"));
    close(listener);
    unlink(address.sun_path);
}

static void test_no_folder(void **state)
{
    struct agent agent = {0};
    char name[200];

    (void)state;
    assert_int_equal(control_open_in("/nonexistent/folder", &agent.control, AGENT_INDEX, &agent_ops, &agent,
                                     &agent.failure),
                     -ENOENT);
    assert_non_null(strstr(agent.failure.text, "/nonexistent/folder/nbd7.varlink"));
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(control_open_in(name, &agent.control, AGENT_INDEX, &agent_ops, &agent, &agent.failure),
                     -ENAMETOOLONG);
}

/* ---- what is served ---- */

static void test_calls(void **state)
{
    struct agent agent;
    char expected[256];
    int fd;

    (void)state;
    open_agent(&agent);
    assert_false(is_readable(control_fd(agent.control)));
    fd = dial();
    dispatch(&agent);
    say(fd, CALL("GetStatus"));
    dispatch(&agent);
    snprintf(expected, sizeof expected, "{\"parameters\":{\"status\":{\"state\":\"up\",\"agent_pid\":%d}}}\n",
             (int)getpid());
    expect_heard(fd, expected);
    say(fd, "{\"method\":\"" METHOD "GetStatus\",\"oneway\":true}");
    say(fd, CALL("Nothing"));
    dispatch(&agent);
    expect_heard(fd, "{\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{\"method\":\"" METHOD
                     "Nothing\"}}\n");
    close(fd);
    dispatch(&agent);
    control_close(agent.control);
}

static void test_malformed_is_dropped(void **state)
{
    static const char *const bad[] = {"", "{", "[]", "{\"method\":1}"};
    struct agent agent;

    (void)state;
    open_agent(&agent);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[HEARD_MAX];
        int fd = dial();

        say(fd, bad[i]);
        say(fd, CALL("Stop"));
        dispatch(&agent);
        assert_non_null(strstr(heard(fd, text), "org.varlink.service.InvalidParameter"));
        assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
        expect_end(fd);
    }
    assert_int_equal(agent.stops, 0);
    control_close(agent.control);
}

static void test_too_long_is_dropped(void **state)
{
    static char block[32768];
    struct agent agent;
    int fd;

    (void)state;
    memset(block, ' ', sizeof block);
    open_agent(&agent);
    fd = dial();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(send(fd, block, sizeof block, 0), sizeof block);
        dispatch(&agent);
    }
    expect_heard(
        fd,
        "{\"error\":\"org.varlink.service.InvalidParameter\",\"parameters\":{\"parameter\":\"message\"}}\n");
    expect_end(fd);
    control_close(agent.control);
}

/* Half a message: nothing happens, and nothing is to be done. */
static void test_stalled(void **state)
{
    struct agent agent;
    int fd, other;

    (void)state;
    open_agent(&agent);
    fd = dial();
    assert_int_equal(send(fd, "{\"method\":", 10, 0), 10);
    dispatch(&agent);
    assert_false(is_readable(control_fd(agent.control)));
    other = dial();
    say(other, CALL("Stop"));
    dispatch(&agent);
    expect_heard(other, "{\"parameters\":{}}\n");
    say(fd, "\"" METHOD "Stop\"}");
    dispatch(&agent);
    expect_heard(fd, "{\"parameters\":{}}\n");
    assert_int_equal(agent.stops, 2);
    control_close(agent.control);
    expect_end(fd);
    expect_end(other);
}

static void test_oneway_stop(void **state)
{
    struct agent agent;
    int fd;

    (void)state;
    open_agent(&agent);
    fd = dial();
    say(fd, "{\"method\":\"" METHOD "Stop\",\"oneway\":true}");
    close(fd);
    dispatch(&agent);
    assert_int_equal(agent.stops, 1);
    control_close(agent.control);
}

static void test_renew(void **state)
{
    struct agent agent;
    int fd;

    (void)state;
    open_agent(&agent);
    fd = dial();
    say(fd, CALL("Renew"));
    dispatch(&agent);
    expect_heard(fd, "{\"parameters\":{}}\n");
    assert_int_equal(agent.renewals, 1);
    assert_int_equal(agent.stops, 0);
    control_close(agent.control);
    expect_end(fd);
}

static void test_watch(void **state)
{
    char text[HEARD_MAX];
    struct agent agent;
    int fd;

    (void)state;
    open_agent(&agent);
    fd = dial();
    say(fd, WATCH);
    dispatch(&agent);
    heard(fd, text);
    assert_memory_equal(text, "{\"parameters\":{\"event\":{\"event\":\"watching\",\"time\":\"2", 52);
    assert_non_null(strstr(text, "Z\",\"device\":\"/dev/nbd7\",\"state\":\"up\"}},\"continues\":true}\n"));
    control_announce(agent.control, control_event(agent.control, "detached"));
    assert_non_null(strstr(heard(fd, text), "{\"event\":{\"event\":\"detached\",\"time\":\"2"));
    /* Who only listens any more is not who has gone. */
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    dispatch(&agent);
    expect_open(fd);
    control_announce(agent.control, NULL);
    control_close(agent.control);
    expect_end(fd);
}

/* The connection is busy with events: further calls wait, and cost nothing. */
static void test_watcher_speaks(void **state)
{
    char text[HEARD_MAX];
    struct agent agent;
    int fd;

    (void)state;
    open_agent(&agent);
    fd = dial();
    say(fd, WATCH);
    say(fd, CALL("Stop"));
    dispatch(&agent);
    say(fd, CALL("Stop"));
    dispatch(&agent);
    assert_non_null(strstr(heard(fd, text), "watching"));
    expect_open(fd);
    assert_int_equal(agent.stops, 0);
    control_close(agent.control);
    expect_end(fd);
}

static void test_gone_watcher_frees_its_place(void **state)
{
    struct agent agent;

    (void)state;
    open_agent(&agent);
    for (int i = 0; i < 3 * CONTROL_CLIENTS_MAX; i++) {
        char text[HEARD_MAX];
        int fd = dial();

        say(fd, WATCH);
        dispatch(&agent);
        assert_non_null(strstr(heard(fd, text), "watching"));
        close(fd);
        dispatch(&agent);
    }
    control_close(agent.control);
}

/* ---- who does not play along ---- */

static void test_slow_watcher_is_dropped(void **state)
{
    char filler[1000] = "", text[HEARD_MAX];
    struct agent agent;
    int slow, quick, events = 0;

    (void)state;
    memset(filler, 'x', sizeof filler - 1);
    open_agent(&agent);
    slow = dial();
    quick = dial();
    say(slow, WATCH);
    say(quick, WATCH);
    dispatch(&agent);
    for (int i = 0; i < 2000; i++) {
        struct json_object *event = control_event(agent.control, "resized");

        json_object_object_add(event, "filler", json_object_new_string(filler));
        control_announce(agent.control, event);
        dispatch(&agent);
        assert_non_null(strstr(heard(quick, text), "}\n"));
    }
    /* What the kernel had taken still arrives, then comes the end. */
    while (*heard(slow, text))
        for (const char *at = text; (at = strchr(at, '\n')); at++)
            events++;
    assert_in_range(events, 2, 1990);
    expect_end(slow);
    expect_open(quick);
    control_close(agent.control);
    expect_end(quick);
}

/* Calls without end, whose answers nobody reads: we stop reading, and both go on when they are read. */
static void test_slow_caller_waits(void **state)
{
    char text[HEARD_MAX];
    struct agent agent;
    int fd, said = 0, answered = 0;

    (void)state;
    open_agent(&agent);
    fd = dial();
    for (; said < 100000; said++) {
        if (send(fd, CALL("GetStatus"), sizeof CALL("GetStatus"), 0) != sizeof CALL("GetStatus"))
            break;
        dispatch(&agent);
    }
    assert_in_range(said, 100, 99999);
    while (answered < said) {
        heard(fd, text);
        assert_true(*text);
        for (const char *at = text; (at = strchr(at, '\n')); at++)
            answered++;
        dispatch(&agent);
    }
    assert_int_equal(answered, said);
    control_close(agent.control);
    expect_end(fd);
}

static void test_17_clients(void **state)
{
    int fds[CONTROL_CLIENTS_MAX], another;
    struct agent agent;

    (void)state;
    open_agent(&agent);
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        fds[i] = dial();
        dispatch(&agent);
    }
    another = dial();
    dispatch(&agent);
    expect_heard(another, BUSY "\n");
    expect_end(another);
    close(fds[3]);
    dispatch(&agent);
    fds[3] = dial();
    dispatch(&agent);
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        say(fds[i], CALL("Stop"));
        dispatch(&agent);
        expect_heard(fds[i], "{\"parameters\":{}}\n");
        close(fds[i]);
    }
    control_close(agent.control);
}

static bool out_of_descriptors;

int __real_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags);

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    if (!out_of_descriptors)
        return __real_accept4(fd, address, size, flags);
    errno = EMFILE;
    return -1;
}

/* A connection that cannot be accepted does not keep the loop busy. */
static void test_no_descriptors(void **state)
{
    struct agent agent;
    int fd;

    (void)state;
    open_agent(&agent);
    fd = dial();
    say(fd, CALL("Stop"));
    out_of_descriptors = true;
    control_dispatch(agent.control);
    out_of_descriptors = false;
    assert_false(is_readable(control_fd(agent.control)));
    control_announce(agent.control, NULL);
    dispatch(&agent);
    expect_heard(fd, "{\"parameters\":{}}\n");
    close(fd);
    control_close(agent.control);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_second_agent),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_live),
        cmocka_unit_test(test_not_ours_any_more),
        cmocka_unit_test(test_no_folder),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_malformed_is_dropped),
        cmocka_unit_test(test_too_long_is_dropped),
        cmocka_unit_test(test_stalled),
        cmocka_unit_test(test_oneway_stop),
        cmocka_unit_test(test_renew),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_watcher_speaks),
        cmocka_unit_test(test_gone_watcher_frees_its_place),
        cmocka_unit_test(test_slow_watcher_is_dropped),
        cmocka_unit_test(test_slow_caller_waits),
        cmocka_unit_test(test_17_clients),
        cmocka_unit_test(test_no_descriptors),
    };

    return cmocka_run_group_tests(tests, agent_socket_create, agent_socket_remove);
}
