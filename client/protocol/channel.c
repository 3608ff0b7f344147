/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/channel.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

static ssize_t layer_read(struct channel *channel, uint8_t *into, size_t size, short *events,
                          struct failure *failure)
{
    ssize_t n;

    if (channel->layer)
        return channel->layer->read(channel->state, into, size, events, failure);
    *events = POLLIN;
    n = recv(channel->fd, into, size, MSG_DONTWAIT);
    if (n >= 0)
        return n;
    if (errno == EAGAIN || errno == EINTR)
        return -EAGAIN;
    return fail(failure, errno, "cannot read from the server: %s", strerror(errno));
}

static ssize_t layer_write(struct channel *channel, const uint8_t *from, size_t size, short *events,
                           struct failure *failure)
{
    ssize_t n;

    if (channel->layer)
        return channel->layer->write(channel->state, from, size, events, failure);
    *events = POLLOUT;
    n = send(channel->fd, from, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0)
        return n;
    if (errno == EAGAIN || errno == EINTR)
        return -EAGAIN;
    return fail(failure, errno, "cannot write to the server: %s", strerror(errno));
}

/*
 * A server that sends a reply in several small pieces without TCP_NODELAY (qemu-nbd, until it has negotiated)
 * holds the second back until the first is acknowledged, which the kernel would put off for 40 ms. The option
 * lasts only for a while, and fails, without harm, on what is not TCP.
 */
static void acknowledge_now(int fd)
{
    const int on = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
}

static int wait_for(struct channel *channel, short events, const struct deadline *deadline,
                    struct failure *failure)
{
    int r;

    if (events & POLLIN)
        acknowledge_now(channel->fd);
    r = deadline_poll(deadline, channel->fd, events);
    if (r >= 0)
        return 0;
    if (r == -ETIMEDOUT)
        return fail(failure, ETIMEDOUT, "the server did not answer in time");
    if (r == -ECANCELED)
        return fail(failure, ECANCELED, "interrupted");
    return fail(failure, -r, "cannot wait for the server: %s", strerror(-r));
}

/* A server that drips is held to the deadline here: progress alone does not buy it more time. */
static int still_in_time(const struct deadline *deadline, struct failure *failure)
{
    if (deadline_remaining_ms(deadline) == 0)
        return fail(failure, ETIMEDOUT, "the server did not answer in time");
    return 0;
}

int channel_read(struct channel *channel, uint8_t *into, size_t size, const struct deadline *deadline,
                 struct failure *failure)
{
    while (size > 0) {
        short events = POLLIN;
        ssize_t n = layer_read(channel, into, size, &events, failure);
        int r = 0;

        if (n == 0)
            return fail(failure, ECONNRESET, "the server closed the connection");
        if (n == -EAGAIN)
            r = wait_for(channel, events, deadline, failure);
        else if (n < 0)
            r = (int)n;
        else
            r = still_in_time(deadline, failure);
        if (r < 0)
            return r;
        if (n > 0) {
            into += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

int channel_write(struct channel *channel, const uint8_t *from, size_t size, const struct deadline *deadline,
                  struct failure *failure)
{
    while (size > 0) {
        short events = POLLOUT;
        ssize_t n = layer_write(channel, from, size, &events, failure);
        int r = n == -EAGAIN ? wait_for(channel, events, deadline, failure) : n < 0 ? (int)n : 0;

        if (r < 0)
            return r;
        if (n > 0) {
            from += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

int channel_check_silent(const struct channel *channel, struct failure *failure)
{
    uint8_t byte;
    ssize_t n = recv(channel->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n > 0)
        return fail(failure, EPROTO, "the server sent bytes that nobody asked for");
    if (n == 0)
        return fail(failure, ECONNRESET, "the server closed the connection");
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    return fail(failure, errno, "the connection to the server is lost: %s", strerror(errno));
}
