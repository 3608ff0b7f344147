/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's own view of a socket that its nbd driver holds (NETLINK_SOCK_DIAG over libmnl): tells whether
 * the link lives and how it fares, with no process in between. Found by socket cookie (SO_COOKIE), which is
 * never reused while the machine runs. All must be called in the socket's network namespace.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "reason.h"

/* What to remember of a socket before it is handed over. */
struct socket_identity {
    struct sockaddr_storage local, remote; /* family AF_INET, AF_INET6 or AF_UNIX */
    uint32_t interface; /* index of the interface it is bound to (also by a scope id); 0: none */
    uint64_t cookie;
    uint64_t inode; /* of the socket file; what unix_diag looks up by */
};

struct socket_view {
    bool established; /* both directions open, as far as the kernel knows */
    uint32_t rtt_us;  /* TCP only, as are the following */
    uint64_t bytes_sent,
        bytes_received; /* bytes_sent: acknowledged by the peer (the kernel counts its SYN as one) */
    uint32_t retransmits;
    bool has_tls;            /* INET_ULP_INFO_TLS: the kernel holds a TLS session */
    uint16_t tls_version;    /* TLS_1_2_VERSION, TLS_1_3_VERSION of linux/tls.h */
    uint16_t tls_cipher;     /* TLS_CIPHER_* of linux/tls.h */
    uint16_t tls_tx, tls_rx; /* TLS_CONF_SW ... */
};

/*
 * Fills an identity from a live TCP or unix stream socket. -ENOTCONN, -EBADF, -ENOTSOCK; -EAFNOSUPPORT: a
 * socket of another kind (MPTCP, vsock), which the nbd driver does not take either.
 */
int socket_identify(int fd, struct socket_identity *identity, struct netlink_reason *reason);

/* -ENOENT: the socket is gone. -EOPNOTSUPP: this kernel cannot say (no tcp_diag, no unix_diag). */
int socket_view(const struct socket_identity *identity, struct socket_view *view,
                struct netlink_reason *reason);

/*
 * Breaks a TCP connection as if its peer had reset it (SOCK_DESTROY), whoever holds the socket: the holder's
 * sends and receives fail with ECONNABORTED, also those that wait already. nbd's DISCONNECT waits, beyond any
 * signal, for a send to a server that stopped reading; this ends the send. 0; -ENOENT: the socket is gone;
 * -EOPNOTSUPP: a unix socket, or a kernel without CONFIG_INET_DIAG_DESTROY (an older one also says so of a
 * connection in TIME_WAIT); -EPERM: CAP_NET_ADMIN is missing.
 */
int socket_destroy(const struct socket_identity *identity, struct netlink_reason *reason);

/* Decoders, free of I/O (fuzzed): data is one whole answer, header included. 0 or -EBADMSG. */
int sockdiag_decode_inet(const void *data, size_t size, struct socket_view *view);
int sockdiag_decode_unix(const void *data, size_t size, struct socket_view *view);
