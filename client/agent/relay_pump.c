/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two threads that block: one copies from the kernel to the server, one back. Each holds one batch of
 * records, so that whoever is slow stops the other. They end by what happens to the sockets:
 *
 *   the kernel shuts its direction (EOF)  what was read has been sent by then; close_notify, and the server
 *                                         sees the end; its answers still go to the kernel
 *   the kernel has let go (POLLHUP)       the same, and within GRACE_MS the process ends: a server that does
 *                                         not read must not keep it. Until then what the server sends is
 *                                         thrown away, since closing a socket with unread bytes would reset
 *                                         the connection, and could cost the server our last requests
 *   the server ends or fails, a record    what was authentic before it is the kernel's, the kernel's socket
 *   does not authenticate                 is shut down so that the driver sees a dead link at once, and the
 *                                         process ends
 */
#include "agent/relay_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/process.h"
#include "agent/relay.h"
#include "protocol/wire.h"

#define GRACE_MS 700

/* The first that fails says why. */
static void link_failed(struct relay *relay, const struct failure *failure)
{
    pthread_mutex_lock(&relay->lock);
    if (!relay->failure.text[0])
        relay->failure = *failure;
    pthread_mutex_unlock(&relay->lock);
}

static ssize_t read_kernel(const struct relay *relay, const struct iovec *parts, size_t count)
{
    ssize_t n;

    do
        n = readv(relay->kernel_fd, parts, (int)count);
    while (n < 0 && errno == EINTR);
    return n;
}

static int write_kernel(const struct relay *relay, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(relay->kernel_fd, data, size, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

/* Only for the log. One that lies across two parts is missed; it comes alone. */
static bool ends_with_farewell(const struct iovec *parts, size_t size)
{
    const uint8_t *request;

    for (; size > parts->iov_len; parts++)
        size -= parts->iov_len;
    if (size < NBD_REQUEST_SIZE)
        return false;
    request = (const uint8_t *)parts->iov_base + size - NBD_REQUEST_SIZE;
    return be32_get(request) == NBD_REQUEST_MAGIC && be16_get(request + 6) == NBD_CMD_DISC;
}

static void *to_server(void *opaque)
{
    struct relay *relay = opaque;
    struct iovec parts[RELAY_LINK_PARTS];
    struct failure failure;

    process_prefault();
    for (;;) {
        size_t count = relay_link_room(relay->link, parts);
        ssize_t n = read_kernel(relay, parts, count);

        /* A reset too is the kernel letting go: of answers that it did not wait for. */
        if (n <= 0)
            break;
        if (ends_with_farewell(parts, (size_t)n))
            atomic_store(&relay->farewell, true);
        if (relay_link_write(relay->link, (size_t)n, &failure) < 0) {
            link_failed(relay, &failure);
            /* Ends the other thread, once it has passed on what has come. */
            shutdown(relay->server_fd, SHUT_RDWR);
            return NULL;
        }
    }
    relay_link_bye(relay->link);
    shutdown(relay->server_fd, SHUT_WR);
    return NULL;
}

static void *to_kernel(void *opaque)
{
    struct relay *relay = opaque;
    struct failure failure;
    const uint8_t *data;
    bool wanted = true;
    uint64_t one = 1;
    ssize_t n;

    process_prefault();
    while ((n = relay_link_read(relay->link, &data, &failure)) > 0)
        if (wanted)
            wanted = write_kernel(relay, data, (size_t)n) == 0;
    if (n == 0)
        fail(&failure, ECONNRESET, "the server closed the connection");
    if (wanted)
        link_failed(relay, &failure);
    if (write(relay->done_fd, &one, sizeof one) < 0)
        _exit(1); /* cannot happen: the counter was 0 */
    return NULL;
}

static int start_thread(void *(*run)(void *), struct relay *relay)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int r = pthread_attr_init(&attributes);

    if (r != 0)
        return -r;
    pthread_attr_setstacksize(&attributes, PROCESS_STACK_SIZE);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    r = pthread_create(&thread, &attributes, run, relay);
    pthread_attr_destroy(&attributes);
    return -r;
}

int relay_pump_start(struct relay *relay, struct failure *failure)
{
    int r;

    pthread_mutex_init(&relay->lock, NULL);
    relay->done_fd = eventfd(0, EFD_CLOEXEC);
    if (relay->done_fd < 0)
        return fail(failure, errno, "cannot make an eventfd: %s", strerror(errno));
    r = start_thread(to_server, relay);
    if (r == 0)
        r = start_thread(to_kernel, relay);
    return r < 0 ? fail(failure, -r, "cannot start a thread: %s", strerror(-r)) : 0;
}

/* Whether the link has ended while the kernel still wanted it. */
static bool link_ended_first(const struct relay *relay)
{
    struct pollfd waiting[] = {{.fd = relay->done_fd, .events = POLLIN}, {.fd = relay->kernel_fd}};

    while (poll(waiting, 2, -1) < 0 && errno == EINTR)
        continue;
    return waiting[0].revents && !waiting[1].revents;
}

/* The kernel's log is where people look for why a disk went away. */
static void say_why(struct relay *relay)
{
    char line[1200];
    int size;

    pthread_mutex_lock(&relay->lock);
    size =
        snprintf(line, sizeof line, "<4>" RELAY_NAME "[%d]: %.1000s\n", (int)getpid(), relay->failure.text);
    if (relay->log_fd >= 0 && write(relay->log_fd, line, (size_t)size) < 0)
        relay->log_fd = -1; /* nobody else to tell */
    pthread_mutex_unlock(&relay->lock);
}

void relay_pump_wait(struct relay *relay)
{
    struct pollfd done = {.fd = relay->done_fd, .events = POLLIN};

    if (!link_ended_first(relay)) {
        poll(&done, 1, GRACE_MS);
        return;
    }
    shutdown(relay->kernel_fd, SHUT_RDWR);
    if (!atomic_load(&relay->farewell))
        say_why(relay);
}
