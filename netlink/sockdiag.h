/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's own view of a socket that its nbd driver holds (NETLINK_SOCK_DIAG over libmnl): tells whether the link lives and how it
 * fares, with no process in between. Found by socket cookie (SO_COOKIE), which is never reused while the machine runs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "reason.h"

/* What to remember of a socket before it is handed over. */
struct socket_identity {
    struct sockaddr_storage local, remote; /* family AF_INET, AF_INET6 or AF_UNIX */
    uint64_t cookie;
    uint64_t inode; /* of the socket file; what unix_diag looks up by */
};

struct socket_view {
    bool established;
    uint32_t rtt_us; /* TCP only, as are the following */
    uint64_t bytes_sent, bytes_received; /* bytes_sent: acknowledged by the peer */
    uint32_t retransmits;
    bool has_tls;          /* INET_ULP_INFO_TLS: the kernel holds a TLS session */
    uint16_t tls_version;  /* TLS_1_2_VERSION, TLS_1_3_VERSION of linux/tls.h */
    uint16_t tls_cipher;   /* TLS_CIPHER_* of linux/tls.h */
    uint16_t tls_tx, tls_rx; /* TLS_CONF_SW ... */
};

/* Fills an identity from a live socket. */
int socket_identify(int fd, struct socket_identity *identity, struct netlink_reason *reason);

/* -ENOENT: the socket is gone. */
int socket_view(const struct socket_identity *identity, struct socket_view *view, struct netlink_reason *reason);
