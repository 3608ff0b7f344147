/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The server behind a relay: it negotiates like an NBD server, with TLS or without, and then does as the test
 * says. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "config.h"
#include "protocol/dial.h"

#if HAVE_TLS
#include <gnutls/gnutls.h>
#endif

struct relay_peer {
    /* Set before relay_peer_open(). */
    bool tls, tcp;
    const char *priority; /* of both; NULL: what they have */
    size_t record_limit;  /* of the server; 0: none */

    int fd; /* the server's end */
    struct endpoint endpoint;
    struct connection connection; /* ready for relay_start() */
#if HAVE_TLS
    gnutls_session_t session;
    gnutls_psk_server_credentials_t credentials;
#endif
};

/* Both ends, negotiated; no thread of it is left. */
void relay_peer_open(struct relay_peer *peer);
void relay_peer_clear(struct relay_peer *peer);

/* As recv(2) and send(2), blocking; -1 when TLS fails. */
ssize_t relay_peer_read(struct relay_peer *peer, void *into, size_t size);
ssize_t relay_peer_write(struct relay_peer *peer, const void *from, size_t size);

/* Ends the server's direction, with close_notify; or all of it, with a TCP reset. */
void relay_peer_shut(struct relay_peer *peer);
void relay_peer_reset(struct relay_peer *peer);
