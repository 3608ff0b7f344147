/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Servers on the loopback addresses that listen, refuse or stay silent. After the headers of the project. */
#pragma once

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmocka_all.h"

#define MS       UINT64_C(1000000)
#define PATIENCE (10000 * MS) /* for what succeeds at once */

/* A TCP socket on host with a free port, listening unless backlog is negative; -1 without the family. */
static inline int bind_tcp(const char *host, int backlog, char *port, size_t port_size)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *address;
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    int fd;

    assert_int_equal(getaddrinfo(host, "0", &hints, &address), 0);
    fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, address->ai_addr, address->ai_addrlen) < 0) {
        freeaddrinfo(address);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    freeaddrinfo(address);
    if (backlog >= 0)
        assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&bound, &size), 0);
    assert_int_equal(
        getnameinfo((struct sockaddr *)&bound, size, NULL, 0, port, (socklen_t)port_size, NI_NUMERICSERV), 0);
    return fd;
}

/* Fills the accept queue of a listener with backlog 0: the kernel then drops what else comes. */
static inline int fill_backlog(int listener)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, size), 0);
    return fd;
}

static inline void check_flags(int fd)
{
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

/* A thread that makes room in the backlog of the listener it is given. */
static inline void *accept_later(void *argument)
{
    usleep(150000);
    close(accept(*(int *)argument, NULL, NULL));
    return NULL;
}
