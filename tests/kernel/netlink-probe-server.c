/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "netlink-probe-server.h"

#include <endian.h>
#include <fcntl.h>
#include <linux/nbd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REPLY_SIZE 16

uint8_t disk[DISK_SIZE];

static bool transfer(int fd, void *data, size_t size, bool out)
{
    uint8_t *at = data;

    while (size > 0) {
        ssize_t n = out ? send(fd, at, size, MSG_NOSIGNAL) : recv(fd, at, size, 0);

        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static bool serve_request(int fd)
{
    uint8_t reply[REPLY_SIZE] = {0x67, 0x44, 0x66, 0x98};
    struct nbd_request request;
    uint32_t type, length;
    uint64_t from;

    if (!transfer(fd, &request, sizeof request, false) || be32toh(request.magic) != NBD_REQUEST_MAGIC)
        return false;
    type = be32toh(request.type) & 0xffff;
    from = be64toh(request.from);
    length = be32toh(request.len);
    if (type == NBD_CMD_DISC || from + length > DISK_SIZE)
        return false;
    memcpy(reply + 8, request.handle, 8);
    if (type == NBD_CMD_WRITE && !transfer(fd, disk + from, length, false))
        return false;
    if (!transfer(fd, reply, sizeof reply, true))
        return false;
    return type != NBD_CMD_READ || transfer(fd, disk + from, length, true);
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;

    while (serve_request(fd))
        ;
    close(fd);
    return NULL;
}

void server_start(int fd)
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 64 * 1024);
    if (pthread_create(&thread, &attributes, serve, (void *)(intptr_t)fd) != 0)
        abort();
    pthread_attr_destroy(&attributes);
}

int server_connect_unix(int *server)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    if (server)
        *server = fcntl(pair[1], F_DUPFD_CLOEXEC, 0);
    server_start(pair[1]);
    return pair[0];
}

int server_connect_tcp(int *server)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0 ||
        connect(fd, (struct sockaddr *)&address, size) < 0)
        abort();
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    server_start(fcntl(*server, F_DUPFD_CLOEXEC, 0));
    return fd;
}
