/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/control.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/control_client.h"
#include "agent/control_socket.h"
#include "agent/json_fields.h"
#include "agent/state.h"
#include "agent/varlink_service.h"
#include "cleanup.h"

#define LISTENER CONTROL_CLIENTS_MAX /* its number among the clients' */

struct control {
    int epoll_fd;
    struct control_socket socket;
    bool deaf; /* the listener is not watched: what it has cannot be accepted for now */
    struct client_context context;
    struct client clients[CONTROL_CLIENTS_MAX];
};

static int watch_fd(const struct control *control, int operation, int fd, uint32_t events, size_t number)
{
    struct epoll_event event = {.events = events, .data.u64 = number};

    return epoll_ctl(control->epoll_fd, operation, fd, &event) < 0 ? -errno : 0;
}

static int open_epoll(struct control *control, struct failure *failure)
{
    int r;

    control->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    r = control->epoll_fd < 0 ? -errno
                              : watch_fd(control, EPOLL_CTL_ADD, control->socket.fd, EPOLLIN, LISTENER);
    return r < 0 ? fail(failure, -r, "cannot watch %s: %s", control->socket.path, strerror(-r)) : 0;
}

int control_open_in(const char *folder, struct control **ret, uint32_t index, const struct control_ops *ops,
                    void *opaque, struct failure *failure)
{
    struct control *control = calloc(1, sizeof *control);
    int r;

    if (!control)
        return fail(failure, ENOMEM, "out of memory");
    control->epoll_fd = -1;
    control->context = (struct client_context){.ops = ops, .opaque = opaque, .index = index};
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        control->clients[i].fd = -1;
    r = control_socket_open(&control->socket, folder, index, failure);
    if (r == 0)
        r = open_epoll(control, failure);
    if (r < 0) {
        control_close(control);
        return r;
    }
    *ret = control;
    return 0;
}

int control_open(struct control **ret, uint32_t index, const struct control_ops *ops, void *opaque,
                 struct failure *failure)
{
    return control_open_in(STATE_FOLDER, ret, index, ops, opaque, failure);
}

void control_close(struct control *control)
{
    if (!control)
        return;
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        if (control->clients[i].output_size > 0)
            client_flush(&control->clients[i]);
        client_drop(&control->clients[i]);
    }
    control_socket_close(&control->socket);
    cleanup_close(&control->epoll_fd);
    free(control);
}

void control_sweep(uint32_t index)
{
    struct control_socket socket = {.fd = -1, .lock_fd = -1};
    struct failure ignored = {0};
    struct sockaddr_un address;

    if (control_address(STATE_FOLDER, index, &address) < 0 || access(address.sun_path, F_OK) < 0)
        return;
    if (control_socket_open(&socket, STATE_FOLDER, index, &ignored) == 0)
        control_socket_close(&socket);
}

int control_fd(const struct control *control)
{
    return control->epoll_fd;
}

/* Out of descriptors, say: what cannot be accepted would wake us up again and again. Tried again whenever
 * something else happens. */
static void set_deaf(struct control *control, bool deaf)
{
    if (control->deaf != deaf)
        watch_fd(control, EPOLL_CTL_MOD, control->socket.fd, deaf ? 0 : EPOLLIN, LISTENER);
    control->deaf = deaf;
}

/* Not left to close(): a fork that has a copy of the descriptor would keep it reporting. */
static void drop(struct control *control, struct client *client)
{
    epoll_ctl(control->epoll_fd, EPOLL_CTL_DEL, client->fd, NULL);
    client_drop(client);
}

/* After each use of a client: drops it, or watches for what it waits for now. */
static void settle(struct control *control, struct client *client, bool keep)
{
    size_t number = (size_t)(client - control->clients);

    if (!keep || watch_fd(control, EPOLL_CTL_MOD, client->fd, client_events(client), number) < 0)
        drop(control, client);
    set_deaf(control, false);
}

static struct client *free_place(struct control *control)
{
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (control->clients[i].fd < 0)
            return &control->clients[i];
    return NULL;
}

/* The answer to the call that the client is about to make. */
static void refuse(int fd)
{
    struct client client;

    client_start(&client, fd);
    client_send(&client, varlink_error_new(DEVICE_BUSY_ERROR, NULL, NULL));
    client_drop(&client);
}

static void accept_client(struct control *control)
{
    _cleanup_close_ int fd = accept4(control->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct client *client = free_place(control);

    if (fd < 0)
        set_deaf(control, errno != EAGAIN && errno != EINTR && errno != ECONNABORTED);
    if (fd < 0 || !control_peer_allowed(fd))
        return;
    if (!client) {
        refuse(steal_fd(&fd));
        return;
    }
    if (watch_fd(control, EPOLL_CTL_ADD, fd, EPOLLIN, (size_t)(client - control->clients)) == 0)
        client_start(client, steal_fd(&fd));
}

/* An earlier event may have dropped the client of this one, and given its place to another: that one has
 * nothing to read, or had it read early. */
static void serve(struct control *control, size_t number, uint32_t revents)
{
    struct client *client = &control->clients[number];

    if (client->fd >= 0)
        settle(control, client, client_serve(client, &control->context, revents));
}

void control_dispatch(struct control *control)
{
    struct epoll_event events[CONTROL_CLIENTS_MAX + 1];
    int count = epoll_wait(control->epoll_fd, events, CONTROL_CLIENTS_MAX + 1, 0);

    for (int i = 0; i < count; i++)
        if (events[i].data.u64 == LISTENER)
            accept_client(control);
        else
            serve(control, events[i].data.u64, events[i].events);
}

struct json_object *control_event(const struct control *control, const char *name)
{
    return client_event(control->context.index, name);
}

static struct json_object *event_message(struct json_object *event)
{
    struct json_object *parameters = json_object_new_object();

    if (parameters && json_object_object_add(parameters, "event", event) == 0)
        return varlink_reply_new(parameters, true);
    json_object_put(parameters);
    json_object_put(event);
    return NULL;
}

void control_announce(struct control *control, struct json_object *event)
{
    _cleanup_json_ struct json_object *message = event ? event_message(event) : NULL;

    set_deaf(control, false);
    for (size_t i = 0; message && i < CONTROL_CLIENTS_MAX; i++) {
        struct client *client = &control->clients[i];

        if (client->watching)
            settle(control, client, client_send(client, json_object_get(message)));
    }
}
