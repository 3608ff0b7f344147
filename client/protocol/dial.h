/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * target -> fd -> export, as often as the kernel is to have connections: each negotiated in a thread of its
 * own, all checked to reach the same disk.
 */
#pragma once

#include <stddef.h>

#include "deadline.h"
#include "failure.h"
#include "protocol/export.h"
#include "protocol/secure.h"
#include "protocol/session.h"

#define DIAL_MAX_CONNECTIONS 16
#define DIAL_AUTO            0

/* How the bytes get from the kernel driver to the server. */
enum connection_path {
    CONNECTION_PLAIN, /* the kernel owns the socket, in the clear */
    CONNECTION_KTLS,  /* the kernel owns the socket and encrypts */
    CONNECTION_RELAY, /* a process of ours stands between: session is for it, and fd is the kernel's end of
                         it, once it runs */
};

enum ktls_mode {
    KTLS_AUTO,    /* the kernel where it can, else the relay */
    KTLS_REQUIRE, /* the kernel, or a failure that says why not */
    KTLS_NO,      /* the relay */
};

struct connection {
    int fd; /* owned; -1: none (yet) */
    enum connection_path path;
    struct session *session; /* owned; of a connection that a relay is to carry, else NULL */
    struct secure_info tls;  /* empty without TLS */
};

/* Ready for the kernel: negotiated, silent, simple replies. */
struct connections {
    struct connection list[DIAL_MAX_CONNECTIONS]; /* count of them */
    size_t count;
    struct export export;        /* what all of them reach */
    struct failure relay_reason; /* why a relay is needed; text empty when none is */
};

/* Says good-bye with NBD_CMD_DISC where a connection is still ours, closes and frees; safe on a zeroed
 * struct. */
void connections_close(struct connections *connections);

/* Closes our references only: the kernel holds its own, and the session goes on. */
void connections_release(struct connections *connections);

/*
 * wanted: 1..DIAL_MAX_CONNECTIONS, or DIAL_AUTO. More than one is refused (-EOPNOTSUPP) of a server that does
 * not say CAN_MULTI_CONN, since a flush on one connection would not cover writes on another. -ESTALE with the
 * exit status for a changed identity when two connections reach different disks.
 */
int dial(const struct endpoint *endpoint, size_t wanted, enum ktls_mode ktls, const struct deadline *deadline,
         struct connections *connections, struct failure *failure);

/* "none", "ktls" or "relay": as list and status say it (a relay of a plain vsock connection is a relay too).
 */
const char *connection_path_name(enum connection_path path);
