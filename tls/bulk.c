/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Records of data by the hundred, for a process that only copies. GnuTLS's own record layer allocates and
 * copies for each record and goes to the socket twice for it; so data is sealed and opened here, with
 * GnuTLS's ciphers and the session's keys, as the kernel would (gnutls_record_get_state()). All that is not
 * data stays GnuTLS's: a record that turns out to carry something else (KeyUpdate, a ticket, an alert) is
 * given to it, and our own KeyUpdate and close_notify come from it; afterwards the keys are taken anew.
 *
 * Two threads: each direction has its own keys and buffers, GnuTLS's session is behind a lock, and nobody
 * waits for the network while holding it.
 */
#include "bulk.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "tls_cleanup.h"

#define IN_SIZE    (TLS_BULK_PARTS * (BULK_RECORD_MAX + BULK_EXPANSION + BULK_HEADER))
#define PLAIN_SIZE (TLS_BULK_PARTS * (BULK_RECORD_MAX + BULK_EXPANSION))
#define OUT_SIZE   IN_SIZE

/* As GnuTLS: what a key of AES-GCM may do (RFC 8446, 5.5), a little before its end. */
#define REKEY_AFTER 0xfffffd

/* A ticket or KeyUpdate that has arrived in part. */
#define SETTLE_MS    1000
#define SETTLE_TRIES 16

static ssize_t pull(gnutls_transport_ptr_t transport, void *into, size_t size)
{
    struct tls_bulk *bulk = transport;
    size_t n = size < bulk->fed_size ? size : bulk->fed_size;

    /* Not gnutls_transport_set_errno(): the writer may be using it. */
    if (n == 0) {
        errno = EAGAIN;
        return -1;
    }
    memcpy(into, bulk->fed, n);
    bulk->fed += n;
    bulk->fed_size -= n;
    return (ssize_t)n;
}

static ssize_t push(gnutls_transport_ptr_t transport, const void *from, size_t size)
{
    struct tls_bulk *bulk = transport;

    if (size > sizeof bulk->control - bulk->control_size) {
        errno = EMSGSIZE;
        return -1;
    }
    memcpy(bulk->control + bulk->control_size, from, size);
    bulk->control_size += size;
    return (ssize_t)size;
}

static int pull_timeout(gnutls_transport_ptr_t transport, unsigned ms)
{
    const struct tls_bulk *bulk = transport;

    (void)ms;
    return bulk->fed_size > 0;
}

static void take_transport(struct tls_bulk *bulk)
{
    gnutls_session_t gnutls = bulk->session->gnutls;

    gnutls_transport_set_ptr(gnutls, bulk);
    gnutls_transport_set_pull_function(gnutls, pull);
    gnutls_transport_set_pull_timeout_function(gnutls, pull_timeout);
    gnutls_transport_set_push_function(gnutls, push);
}

/* GnuTLS must have nothing half done in either direction. */
static int settle(struct tls_session *session, struct tls_reason *reason)
{
    int r = tls_check_silent(session, reason);

    for (int i = 0; i < SETTLE_TRIES && r == -EAGAIN; i++) {
        struct pollfd waiting = {.fd = session->fd, .events = POLLIN};

        if (poll(&waiting, 1, SETTLE_MS) == 0)
            break;
        r = tls_check_silent(session, reason);
    }
    return r;
}

static int load_keys(struct tls_bulk *bulk, struct bulk_keys *keys, unsigned read, struct tls_reason *reason)
{
    int r = bulk_keys_load(keys, &bulk->format, bulk->session->gnutls, read);

    return r < 0 ? tls_fail(reason, -r, "cannot use the session's %s keys: %s", bulk->session->cipher,
                            strerror(-r))
                 : 0;
}

static int set_up(struct tls_bulk *bulk, struct tls_reason *reason)
{
    int r = settle(bulk->session, reason);

    if (r == 0)
        r = bulk_format_fill(&bulk->format, bulk->session, reason);
    if (r == 0)
        r = load_keys(bulk, &bulk->reading, 1, reason);
    if (r == 0)
        r = load_keys(bulk, &bulk->writing, 0, reason);
    if (r < 0)
        return r;
    bulk->in = malloc(IN_SIZE);
    bulk->plain = malloc(PLAIN_SIZE);
    bulk->out = malloc(OUT_SIZE);
    if (!bulk->in || !bulk->plain || !bulk->out)
        return tls_fail(reason, ENOMEM, "out of memory");
    atomic_init(&bulk->rekey_owed, bulk->session->rekey_owed);
    take_transport(bulk);
    return 0;
}

int tls_bulk_new(struct tls_bulk **ret, struct tls_session *session, struct tls_reason *reason)
{
    struct tls_bulk *bulk = calloc(1, sizeof *bulk);
    int r;

    if (!bulk)
        return tls_fail(reason, ENOMEM, "out of memory");
    bulk->session = session;
    pthread_mutex_init(&bulk->lock, NULL);
    r = set_up(bulk, reason);
    if (r < 0) {
        tls_bulk_free(bulk);
        return r;
    }
    *ret = bulk;
    return 0;
}

void tls_bulk_free(struct tls_bulk *bulk)
{
    if (!bulk)
        return;
    bulk_keys_clear(&bulk->reading);
    bulk_keys_clear(&bulk->writing);
    if (bulk->plain)
        explicit_bzero(bulk->plain, PLAIN_SIZE);
    if (bulk->session->gnutls)
        tls_transport_attach(bulk->session);
    pthread_mutex_destroy(&bulk->lock);
    free(bulk->in);
    free(bulk->plain);
    free(bulk->out);
    free(bulk);
}

static void tell_sequence(struct tls_bulk *bulk, const struct bulk_keys *keys, unsigned read)
{
    uint8_t sequence[8];

    for (unsigned i = 0; i < sizeof sequence; i++)
        sequence[i] = (uint8_t)(keys->sequence >> (56 - 8 * i));
    gnutls_record_set_state(bulk->session->gnutls, read, sequence);
}

static bool is_again(ssize_t r)
{
    return r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED;
}

/* Under the lock. */
static int feed_locked(struct tls_bulk *bulk, const uint8_t *record, size_t size, struct tls_reason *reason)
{
    struct tls_session *session = bulk->session;
    uint8_t byte;
    ssize_t r;

    bulk->fed = record;
    bulk->fed_size = size;
    tell_sequence(bulk, &bulk->reading, 1);
    r = gnutls_record_recv(session->gnutls, &byte, sizeof byte);
    bulk->ended = r == 0;
    if (r > 0 || (is_again(r) && bulk->fed_size > 0))
        return tls_fail(reason, EPROTO, "the server sends a broken TLS record");
    if (r != 0 && !is_again(r))
        return tls_session_error(session, (int)r, reason);
    if (session->rekey_owed)
        atomic_store(&bulk->rekey_owed, true);
    session->rekey_owed = false;
    return load_keys(bulk, &bulk->reading, 1, reason);
}

/* A record that is no data. */
static int feed(struct tls_bulk *bulk, const uint8_t *record, size_t size, struct tls_reason *reason)
{
    int r;

    pthread_mutex_lock(&bulk->lock);
    r = feed_locked(bulk, record, size, reason);
    pthread_mutex_unlock(&bulk->lock);
    return r;
}

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
        if (size <= 0 || have + (size_t)size > PLAIN_SIZE)
            break;
        n = bulk_open(&bulk->reading, &bulk->format, record, (size_t)size, bulk->plain + have, &type);
        if ((n < 0 || type != BULK_TYPE_APPLICATION) && have > 0)
            break;
        if (n >= 0 && type != BULK_TYPE_APPLICATION)
            n = feed(bulk, record, (size_t)size, reason);
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
        n = recv(session->fd, bulk->in + bulk->in_end, IN_SIZE - bulk->in_end, 0);
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

static int send_all(const struct tls_bulk *bulk, const uint8_t *from, size_t size, struct tls_reason *reason)
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

/* A word of GnuTLS's own to the peer; sent only when the lock is free again. */
static int say(struct tls_bulk *bulk, int (*word)(gnutls_session_t), struct tls_reason *reason)
{
    uint8_t control[BULK_CONTROL_SIZE];
    size_t size;
    int r;

    pthread_mutex_lock(&bulk->lock);
    tell_sequence(bulk, &bulk->writing, 0);
    bulk->control_size = 0;
    r = word(bulk->session->gnutls);
    size = bulk->control_size;
    memcpy(control, bulk->control, size);
    r = r < 0 ? tls_fail_gnutls(reason, EPROTO, r, "TLS fails") : load_keys(bulk, &bulk->writing, 0, reason);
    pthread_mutex_unlock(&bulk->lock);
    return r < 0 ? r : send_all(bulk, control, size, reason);
}

static int change_keys(gnutls_session_t gnutls)
{
    return gnutls_session_key_update(gnutls, 0);
}

static int close_notify(gnutls_session_t gnutls)
{
    return gnutls_bye(gnutls, GNUTLS_SHUT_WR);
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
    int r = must_rekey(bulk) ? say(bulk, change_keys, reason) : 0;

    for (size_t i = 0; size > 0 && r == 0; i++) {
        size_t part = size < bulk->format.limit ? size : bulk->format.limit;
        ssize_t n = bulk_seal(&bulk->writing, &bulk->format, bulk->out + i * stride(bulk), part);

        if (n < 0)
            return tls_fail(reason, EPROTO, "cannot encrypt for the server");
        sealed += (size_t)n;
        size -= part;
    }
    return r < 0 ? r : send_all(bulk, bulk->out, sealed, reason);
}

void tls_bulk_bye(struct tls_bulk *bulk)
{
    struct tls_reason ignored;

    say(bulk, close_notify, &ignored);
}
