/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Receiving on a netlink socket, whichever library opened it: never without a bound, and from the kernel
 * only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * One datagram without blocking. Those that a process sent (nl_pid != 0) are passed over. Its size, 0 when
 * there is none, -ENOBUFS (some were lost), -EMSGSIZE (it did not fit and is lost), or another -errno.
 */
int netlink_receive(int fd, void *buffer, size_t size);

/*
 * The answers to a request that was sent with sequence and NLM_F_ACK or NLM_F_DUMP: take() is called with
 * each whole message (NULL: none is expected) and stops the exchange by returning < 0. Returns 0 when the
 * kernel agreed, its -errno when it did not, with its own words (text, "" for none), -ETIMEDOUT, -EBADMSG, or
 * what take() returned.
 */
struct netlink_exchange {
    int fd;
    int timeout_ms; /* 0: five seconds, as the kernel answers before send() returns */
    uint32_t sequence;
    void *buffer;
    size_t buffer_size;
    int (*take)(const void *message, size_t size, void *arg);
    void *arg;
    char text[128];
};

int netlink_exchange_run(struct netlink_exchange *exchange);
