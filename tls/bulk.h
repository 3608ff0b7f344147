/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What bulk.c, bulk_data.c and bulk_record.c share. */
#pragma once

#include <gnutls/crypto.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tls_internal.h"

#define BULK_RECORD_MAX   16384 /* plaintext bytes (RFC 8446, 5.1) */
#define BULK_EXPANSION    2048  /* the most that protection may add (RFC 5246, 6.2.3; TLS 1.3: 256) */
#define BULK_HEADER       5
#define BULK_NONCE        12
#define BULK_CONTROL_SIZE 512 /* far above a KeyUpdate or an alert */

#define BULK_IN_SIZE    ((size_t)TLS_BULK_PARTS * (BULK_RECORD_MAX + BULK_EXPANSION + BULK_HEADER))
#define BULK_PLAIN_SIZE ((size_t)TLS_BULK_PARTS * (BULK_RECORD_MAX + BULK_EXPANSION))
#define BULK_OUT_SIZE   BULK_IN_SIZE

#define BULK_TYPE_ALERT       21
#define BULK_TYPE_HANDSHAKE   22
#define BULK_TYPE_APPLICATION 23

/* One direction; of the thread that uses it. */
struct bulk_keys {
    gnutls_aead_cipher_hd_t cipher; /* owned */
    uint8_t iv[BULK_NONCE];         /* salt, where each record carries the rest of its nonce */
    uint64_t sequence;
};

/* How the negotiated version and cipher put a record together. */
struct bulk_format {
    gnutls_cipher_algorithm_t algorithm;
    bool tls13;
    bool explicit_nonce; /* eight bytes in front of the body (RFC 5288) */
    size_t prefix;       /* bytes before what is encrypted: header and explicit nonce */
    size_t suffix;       /* bytes after the data: TLS 1.3's content type, and the tag */
    size_t tag;
    size_t limit; /* plaintext bytes of a record */
};

struct tls_bulk {
    struct tls_session *session; /* not owned */
    struct bulk_format format;
    struct bulk_keys reading, writing;

    /* GnuTLS's session, once both threads run: for what is not data. */
    pthread_mutex_t lock;
    const uint8_t *fed; /* a record of the peer's, for GnuTLS to read */
    size_t fed_size;
    uint8_t control[BULK_CONTROL_SIZE]; /* records of GnuTLS's, for the peer */
    size_t control_size;
    atomic_bool rekey_owed; /* the peer changed its keys, and we may have to answer */

    bool ended; /* the peer has said close_notify */
    uint8_t *in, *plain, *out;
    size_t in_start, in_end; /* what has come and was not opened yet */
};

/* bulk.c */

/* Gives GnuTLS a record that is no data. Of the reading thread. */
int bulk_feed(struct tls_bulk *bulk, const uint8_t *record, size_t size, struct tls_reason *reason);

/* KeyUpdate: tells the peer, and writes under new keys from now on. Of the writing thread. */
int bulk_change_keys(struct tls_bulk *bulk, struct tls_reason *reason);

/* bulk_data.c */

/* All of it, blocking. */
int bulk_send(const struct tls_bulk *bulk, const uint8_t *from, size_t size, struct tls_reason *reason);

/* bulk_record.c */

/* -EOPNOTSUPP with the reason. */
int bulk_format_fill(struct bulk_format *format, const struct tls_session *session,
                     struct tls_reason *reason);

/* (Again) from GnuTLS; -errno. */
int bulk_keys_load(struct bulk_keys *keys, const struct bulk_format *format, gnutls_session_t handle,
                   unsigned read);
void bulk_keys_clear(struct bulk_keys *keys);

/* Seals size bytes that lie at record + prefix, in place. Bytes of the record, or -errno. */
ssize_t bulk_seal(struct bulk_keys *keys, const struct bulk_format *format, uint8_t *record, size_t size);

/*
 * Opens a whole record into into, which has room for all of it. Bytes of plaintext or -errno: -EBADMSG: it
 * does not decrypt; -EPROTO: it breaks the protocol. *type: what it carries; other than data it was not
 * counted, and in TLS 1.2 not even opened: it is GnuTLS's to read.
 */
ssize_t bulk_open(struct bulk_keys *keys, const struct bulk_format *format, const uint8_t *record,
                  size_t size, uint8_t *into, uint8_t *type);
