/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/control_socket.h"

#include "cmocka_all.h"

char agent_folder[] = "/tmp/nbdctl-XXXXXX";

static struct json_object *status(void *opaque)
{
    struct json_object *object = json_object_new_object();

    (void)opaque;
    json_object_object_add(object, "state", json_object_new_string("up"));
    json_object_object_add(object, "agent_pid", json_object_new_int(getpid()));
    return object;
}

static void stop(void *opaque)
{
    struct agent *agent = opaque;

    agent->stops++;
    control_announce(agent->control, control_event(agent->control, "agent-stopped"));
}

static void renew(void *opaque)
{
    struct agent *agent = opaque;

    agent->renewals++;
}

const struct control_ops agent_ops = {.status = status, .stop = stop, .renew = renew};

void open_agent(struct agent *agent)
{
    *agent = (struct agent){.end_fd = -1};
    assert_int_equal(
        control_open_in(agent_folder, &agent->control, AGENT_INDEX, &agent_ops, agent, &agent->failure), 0);
}

bool is_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    return poll(&poll_fd, 1, 0) == 1;
}

void dispatch(struct agent *agent)
{
    for (int i = 0; is_readable(control_fd(agent->control)); i++) {
        assert_true(i < 1000);
        control_dispatch(agent->control);
    }
}

int dial(void)
{
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_int_equal(control_address(agent_folder, AGENT_INDEX, &address), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text) + 1, MSG_NOSIGNAL), strlen(text) + 1);
}

char *heard(int fd, char text[static HEARD_MAX])
{
    ssize_t n = recv(fd, text, HEARD_MAX - 1, 0);

    for (ssize_t i = 0; i < n; i++)
        text[i] = text[i] ? text[i] : '\n';
    text[n > 0 ? n : 0] = '\0';
    return text;
}

void expect_heard(int fd, const char *expected)
{
    char text[HEARD_MAX];

    assert_string_equal(heard(fd, text), expected);
}

void expect_end(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, 0);

    assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
    close(fd);
}

void expect_open(int fd)
{
    char byte;

    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, EAGAIN);
}

bool agent_file_exists(const char *name)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", agent_folder, name);
    return access(path, F_OK) == 0;
}

void leave_socket(int backlog, int *listener)
{
    struct sockaddr_un address;
    char path[128];

    *listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(control_address(agent_folder, AGENT_INDEX, &address), 0);
    assert_int_equal(bind(*listener, (struct sockaddr *)&address, sizeof address), 0);
    if (backlog >= 0)
        assert_int_equal(listen(*listener, backlog), 0);
    snprintf(path, sizeof path, "%s/nbd7.lock", agent_folder);
    fclose(fopen(path, "we"));
}

void remove_socket(int listener)
{
    struct sockaddr_un address;

    close(listener);
    assert_int_equal(control_address(agent_folder, AGENT_INDEX, &address), 0);
    unlink(address.sun_path);
}

static void *serve(void *opaque)
{
    struct agent *agent = opaque;
    struct pollfd fds[] = {{.fd = control_fd(agent->control), .events = POLLIN},
                           {.fd = agent->end_fd, .events = POLLIN}};

    while (!fds[1].revents) {
        poll(fds, 2, -1);
        control_dispatch(agent->control);
    }
    return NULL;
}

void start_agent(struct agent *agent)
{
    open_agent(agent);
    agent->end_fd = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(pthread_create(&agent->thread, NULL, serve, agent), 0);
}

void end_agent(struct agent *agent)
{
    assert_int_equal(eventfd_write(agent->end_fd, 1), 0);
    assert_int_equal(pthread_join(agent->thread, NULL), 0);
    control_close(agent->control);
    close(agent->end_fd);
}

int agent_socket_create(void **state)
{
    (void)state;
    return mkdtemp(agent_folder) ? 0 : -1;
}

int agent_socket_remove(void **state)
{
    char path[128];

    (void)state;
    snprintf(path, sizeof path, "%s/nbd7.lock", agent_folder);
    unlink(path);
    return rmdir(agent_folder);
}
