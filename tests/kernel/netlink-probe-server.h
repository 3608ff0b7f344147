/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The least NBD server: a thread for each connection, simple replies, one disk in memory, no negotiation. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define DISK_SIZE ((size_t)16 << 20)

extern uint8_t disk[DISK_SIZE];

/* Serves requests on fd, which it closes, until the client leaves or the connection is shut down. */
void server_start(int fd);

/*
 * Our end of a connection to a new server. *server (may be NULL) is a descriptor of the other end, to shut it
 * down with. Both are the caller's.
 */
int server_connect_unix(int *server);
int server_connect_tcp(int *server);
