/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "exchange.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "message.h"

/* The kernel answers before send() returns; this only keeps a lost answer from holding us for ever. */
#define ANSWER_MS   5000
/* Datagrams of processes that are passed over in one call: another may always be on its way. */
#define FOREIGN_MAX 64

int netlink_receive(int fd, void *buffer, size_t size)
{
    for (int i = 0; i < FOREIGN_MAX; i++) {
        struct sockaddr_nl from = {0};
        struct iovec iov = {.iov_base = buffer, .iov_len = size};
        struct msghdr header = {
            .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        if (from.nl_pid != 0 || n == 0)
            continue;
        if (header.msg_flags & MSG_TRUNC)
            return -EMSGSIZE;
        return (int)n;
    }
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int receive_until(const struct netlink_exchange *exchange, int64_t deadline)
{
    for (;;) {
        struct pollfd pollfd = {.fd = exchange->fd, .events = POLLIN};
        int n = netlink_receive(exchange->fd, exchange->buffer, exchange->buffer_size);
        int64_t left = deadline - now_ms();

        if (n != 0)
            return n;
        if (left <= 0)
            return -ETIMEDOUT;
        if (poll(&pollfd, 1, (int)left) < 0 && errno != EINTR)
            return -errno;
    }
}

/* 1: finished with *result; 0: more is to come; or -errno. */
static int digest(struct netlink_exchange *exchange, const struct netlink_message *message, int *result)
{
    int r;

    /* An answer to an earlier request that was given up. */
    if (message->sequence != exchange->sequence)
        return 0;
    if (message->type == NLMSG_ERROR || message->type == NLMSG_DONE) {
        r = netlink_message_verdict(message, result, exchange->text, sizeof exchange->text);
        return r < 0 ? r : 1;
    }
    if (message->type < NLMSG_MIN_TYPE || !exchange->take)
        return 0;
    r = exchange->take(message->whole.data, message->whole.size, exchange->arg);
    return r < 0 ? r : 0;
}

int netlink_exchange_run(struct netlink_exchange *exchange)
{
    int64_t deadline = now_ms() + (exchange->timeout_ms ? exchange->timeout_ms : ANSWER_MS);

    exchange->text[0] = '\0';
    for (;;) {
        struct netlink_view rest = {.data = exchange->buffer};
        struct netlink_message message;
        int r, result, n = receive_until(exchange, deadline);

        if (n < 0)
            return n;
        rest.size = (size_t)n;
        while ((r = netlink_message_next(&rest, &message)) > 0) {
            r = digest(exchange, &message, &result);
            if (r != 0)
                return r < 0 ? r : result;
        }
        if (r < 0)
            return r;
    }
}
