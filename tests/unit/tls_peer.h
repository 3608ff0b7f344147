/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A GnuTLS server in a thread, on one end of a socket pair or of a TCP connection over loopback; honest or
 * not. It echoes what it receives. And what drives our side of the connection.
 */
#pragma once

#include <gnutls/gnutls.h>
#include <pthread.h>

#include "tls.h"
#include "tls_pki.h"

enum peer_vice {
    PEER_HONEST,
    /* Instead of a handshake, after the ClientHello. */
    PEER_STALLS,
    PEER_CLOSES_AT_ONCE,
    PEER_SENDS_GARBAGE,
    PEER_SENDS_NBD,     /* the bytes of a server that does not know of TLS */
    PEER_SENDS_ALERT,   /* .alert, in the clear */
    PEER_WARNS_FOREVER, /* warning alerts without end, in the clear */
    /* In the handshake. */
    PEER_STALLS_MIDWAY, /* after half of its first flight, as the two after it */
    PEER_CLOSES_MIDWAY,
    PEER_RESETS,     /* a TCP reset */
    PEER_EARLY_DATA, /* application data before its Finished */
    /* After the handshake. */
    PEER_CLOSES_SILENTLY, /* without close_notify */
    PEER_SAYS_BYE,
    PEER_TALKS,       /* one record of data that nobody asked for */
    PEER_HALF_RECORD, /* the same, and only its beginning arrives */
    /* After the first echo. */
    PEER_SENDS_TICKET,
    PEER_CHANGES_KEYS, /* KeyUpdate, and wants ours */
    PEER_SENDS_ALERT_LATE,
};

struct peer {
    /* Set before peer_start(). */
    bool tcp;
    const char *priority; /* NULL: NORMAL with PSK added for a psk_user */
    const char *psk_user;
    gnutls_datum_t psk_key;
    const struct pki_identity *identity;  /* X.509 */
    const struct pki_identity *issuer;    /* sent with it, if not NULL */
    const struct pki_identity *client_ca; /* demands a certificate of a client */
    bool hides_ca;                        /* does not tell whose */
    enum peer_vice vice;
    gnutls_alert_description_t alert;
    size_t record_limit;

    /* The thread's, and what came of it. */
    pthread_t thread;
    int fd, client_fd;
    int handshake_error;
    char server_name[64];
};

void peer_start(struct peer *peer);
void peer_join(struct peer *peer); /* closes client_fd as well */

/* How long the three below wait: 20 seconds unless a test sets it. */
extern int peer_patience_ms;

/* The handshake: what tls_handshake() returned, or -ETIMEDOUT. */
int peer_complete(struct tls_session *session, int fd, struct tls_reason *reason);

/* Once: as tls_read(), or -ETIMEDOUT. */
int peer_read(struct tls_session *session, int fd, void *data, size_t size, struct tls_reason *reason);

/* Writes and reads back, all of it; 0 or -errno. */
int peer_echo(struct tls_session *session, int fd, const void *data, size_t size, struct tls_reason *reason);
