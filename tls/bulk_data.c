/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The data of a bulk session: many records between one system call and the next. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "bulk.h"

/* As GnuTLS: what a key of AES-GCM may do (RFC 8446, 5.5), a little before its end. */
#define REKEY_AFTER 0xfffffd

/* Bytes of the record at the front of what has come, 0 when it is not there whole, or -errno. */
static ssize_t next_record(const struct tls_bulk *bulk, struct tls_reason *reason)
{
    const uint8_t *header = bulk->in + bulk->in_start;
    size_t have = bulk->in_end - bulk->in_start, length;

    if (have < BULK_HEADER)
        return 0;
    length = (size_t)header[3] << 8 | header[4];
    if (length > BULK_RECORD_MAX + (bulk->format.tls13 ? 256 : BULK_EXPANSION))
        return tls_fail(reason, EPROTO, "the server sends a TLS record that is too long");
    return have < BULK_HEADER + length ? 0 : (ssize_t)(BULK_HEADER + length);
}

static int broken(int error, struct tls_reason *reason)
{
    if (error == -EBADMSG)
        return tls_fail(reason, EPROTO,
                        "a TLS record of the server's does not decrypt: it was changed on the way");
    return tls_fail(reason, EPROTO, "the server sends a broken TLS record");
}

/*
 * All whole records of data that are there, one behind the other: bytes, or -errno, also when what is not
 * data comes first and ends the session. What was authentic before a broken record is still good: it goes
 * out first.
 */
static ssize_t open_records(struct tls_bulk *bulk, struct tls_reason *reason)
{
    size_t have = 0;

    while (!bulk->ended) {
        const uint8_t *record = bulk->in + bulk->in_start;
        ssize_t size = next_record(bulk, reason), n;
        uint8_t type;

        if (size <= 0 && have == 0)
            return size;
        if (size <= 0 || have + (size_t)size > BULK_PLAIN_SIZE)
            break;
        n = bulk_open(&bulk->reading, &bulk->format, record, (size_t)size, bulk->plain + have, &type);
        if ((n < 0 || type != BULK_TYPE_APPLICATION) && have > 0)
            break;
        if (n >= 0 && type != BULK_TYPE_APPLICATION)
            n = bulk_feed(bulk, record, (size_t)size, reason);
        else if (n < 0)
            n = broken((int)n, reason);
        if (n < 0)
            return n;
        bulk->in_start += (size_t)size;
        have += (size_t)n;
    }
    return (ssize_t)have;
}

/* More of what the peer sends, behind what is left. */
static int receive(struct tls_bulk *bulk, struct tls_reason *reason)
{
    struct tls_session *session = bulk->session;
    ssize_t n;

    memmove(bulk->in, bulk->in + bulk->in_start, bulk->in_end - bulk->in_start);
    bulk->in_end -= bulk->in_start;
    bulk->in_start = 0;
    do
        n = recv(session->fd, bulk->in + bulk->in_end, BULK_IN_SIZE - bulk->in_end, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        bulk->in_end += (size_t)n;
        return 0;
    }
    session->io_error = n < 0 ? errno : 0;
    session->ended = n == 0;
    return tls_session_error(session, GNUTLS_E_PREMATURE_TERMINATION, reason);
}

ssize_t tls_bulk_read(struct tls_bulk *bulk, const uint8_t **data, struct tls_reason *reason)
{
    ssize_t n;

    *data = bulk->plain;
    for (;;) {
        int r;

        n = open_records(bulk, reason);
        if (n != 0 || bulk->ended)
            return n;
        r = receive(bulk, reason);
        if (r < 0)
            return r;
    }
}

static size_t stride(const struct tls_bulk *bulk)
{
    return bulk->format.prefix + bulk->format.limit + bulk->format.suffix;
}

size_t tls_bulk_room(struct tls_bulk *bulk, struct iovec parts[static TLS_BULK_PARTS])
{
    for (size_t i = 0; i < TLS_BULK_PARTS; i++)
        parts[i] = (struct iovec){
            .iov_base = bulk->out + i * stride(bulk) + bulk->format.prefix,
            .iov_len = bulk->format.limit,
        };
    return TLS_BULK_PARTS;
}

int bulk_send(const struct tls_bulk *bulk, const uint8_t *from, size_t size, struct tls_reason *reason)
{
    while (size > 0) {
        ssize_t n = send(bulk->session->fd, from, size, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR)
            return tls_fail(reason, errno, "cannot send to the server: %s", strerror(errno));
        if (n > 0) {
            from += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

static bool must_rekey(struct tls_bulk *bulk)
{
    bool owed = atomic_exchange(&bulk->rekey_owed, false);

    if (!bulk->format.tls13)
        return false;
    return owed || (bulk->format.algorithm != GNUTLS_CIPHER_CHACHA20_POLY1305 &&
                    bulk->writing.sequence + TLS_BULK_PARTS > REKEY_AFTER);
}

int tls_bulk_write(struct tls_bulk *bulk, size_t size, struct tls_reason *reason)
{
    size_t sealed = 0;
    int r = must_rekey(bulk) ? bulk_change_keys(bulk, reason) : 0;

    for (size_t i = 0; size > 0 && r == 0; i++) {
        size_t part = size < bulk->format.limit ? size : bulk->format.limit;
        ssize_t n = bulk_seal(&bulk->writing, &bulk->format, bulk->out + i * stride(bulk), part);

        if (n < 0)
            return tls_fail(reason, EPROTO, "cannot encrypt for the server");
        sealed += (size_t)n;
        size -= part;
    }
    return r < 0 ? r : bulk_send(bulk, bulk->out, sealed, reason);
}
