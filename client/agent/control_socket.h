/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The files of an agent's socket: the socket itself, and who may connect to it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#include "failure.h"

struct control_socket {
    int fd;      /* listening; -1: none */
    int lock_fd; /* held as long as the socket is ours */
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    char lock_path[sizeof((struct sockaddr_un *)0)->sun_path];
    dev_t device; /* of the socket's file: whether it is still ours */
    ino_t inode;
};

/* -EADDRINUSE: a live process has it. */
int control_socket_open(struct control_socket *socket, const char *folder, uint32_t index,
                        struct failure *failure);
void control_socket_close(struct control_socket *socket);

/* The address of a device's socket; -ENAMETOOLONG. */
int control_address(const char *folder, uint32_t index, struct sockaddr_un *address);

/* Whether the other side of a connection is root, or the user we are. */
bool control_peer_allowed(int fd);
