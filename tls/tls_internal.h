/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of this folder share. */
#pragma once

#include <netinet/in.h>

#include "gnutls_calls.h"
#include "secret.h"
#include "tls.h"
#include "tls_reason.h"

struct tls_credentials {
    enum tls_type type; /* X509 or PSK */
    bool no_verify;
    gnutls_priority_t priority;

    /* PSK; GnuTLS asks for the key at each handshake, so that there is one lasting copy and it is ours. */
    gnutls_psk_client_credentials_t psk;
    char *user;
    struct secret key;

    /* X.509 */
    gnutls_certificate_credentials_t x509;
    bool has_certificate; /* our own, for a server that asks who we are */
    char *trust;          /* where the authorities come from, escaped */
};

/* psk_credentials.c, x509.c: fill what they are named for. */
int tls_load_psk(struct tls_credentials *credentials, const struct tls_policy *policy,
                 struct tls_reason *reason);
int tls_load_x509(struct tls_credentials *credentials, const struct tls_policy *policy,
                  struct tls_reason *reason);

/* Where in the stream of records the socket stands, told from the bytes that passed. */
struct tls_framing {
    uint8_t header[5];
    size_t header_size; /* of the header that is arriving */
    size_t left;        /* of the record's body */
    bool is_garbage;    /* the last header did not look like one */
};

struct tls_session {
    gnutls_session_t gnutls; /* NULL: spent */
    const struct tls_credentials *credentials;
    int fd;

    char *hostname; /* a DNS name or an address, without the brackets and zone of a URI; NULL: none */
    bool is_address;
    uint8_t address[sizeof(struct in6_addr)];
    gnutls_typed_vdata_st wanted[2]; /* what the certificate must show; GnuTLS keeps the pointer */

    /* The transport (transport.c). */
    struct tls_framing framing;
    bool starved;  /* the last read found the socket empty */
    bool ended;    /* the peer closed its direction */
    int io_error;  /* errno of the last failed transfer */
    size_t unsent; /* bytes of the caller's in a record that the socket has not taken whole */

    bool established;
    bool rekey_owed;     /* the peer changed its keys, and GnuTLS may still have to answer */
    size_t record_limit; /* plaintext bytes the peer takes per record; 0: it set none */

    const char *version, *cipher;
    char key_exchange[96];

    bool ulp_set;       /* the socket has the kernel's "tls" layer, without keys */
    size_t next_module; /* of the cipher's list, the one to name next (ktls.c) */
};

/* transport.c */
void tls_transport_attach(struct tls_session *session);
bool tls_transport_between_records(const struct tls_session *session);

/* The poll(2) event that GnuTLS waits for. */
short tls_wanted_events(const struct tls_session *session);

/* error.c: what GnuTLS reported, as -errno and in words. */
int tls_session_error(const struct tls_session *session, int gnutls_error, struct tls_reason *reason);

/* alert.c: the alert that the peer sent last. */
int tls_alert_error(const struct tls_session *session, struct tls_reason *reason);

/* verify.c: the certificate that did not pass. */
int tls_verify_error(const struct tls_session *session, struct tls_reason *reason);

/* peer_limits.c: listens in on the handshake for what GnuTLS does not tell. */
void tls_watch_handshake(struct tls_session *session);
