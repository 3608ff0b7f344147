/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Records of data by the hundred, for a process that only copies. GnuTLS's own record layer allocates and
 * copies for each record and goes to the socket twice for it; so data is sealed and opened by us
 * (bulk_data.c, bulk_record.c), with GnuTLS's ciphers and the session's keys, as the kernel would
 * (gnutls.record_get_state()). All that is not data stays GnuTLS's: a record that turns out to carry
 * something else (KeyUpdate, a ticket, an alert) is given to it, and our own KeyUpdate and close_notify come
 * from it; afterwards the keys are taken anew.
 *
 * Two threads: each direction has its own keys and buffers, GnuTLS's session is behind a lock, and nobody
 * waits for the network while holding it.
 */
#include "bulk.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* A ticket or KeyUpdate that has arrived in part. */
#define SETTLE_MS    1000
#define SETTLE_TRIES 16

static ssize_t pull(gnutls_transport_ptr_t transport, void *into, size_t size)
{
    struct tls_bulk *bulk = transport;
    size_t n = size < bulk->fed_size ? size : bulk->fed_size;

    /* Not gnutls.transport_set_errno(): the writer may be using it. */
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
    gnutls_session_t handle = bulk->session->gnutls;

    gnutls.transport_set_ptr(handle, bulk);
    gnutls.transport_set_pull_function(handle, pull);
    gnutls.transport_set_pull_timeout_function(handle, pull_timeout);
    gnutls.transport_set_push_function(handle, push);
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
    bulk->in = malloc(BULK_IN_SIZE);
    bulk->plain = malloc(BULK_PLAIN_SIZE);
    bulk->out = malloc(BULK_OUT_SIZE);
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
        explicit_bzero(bulk->plain, BULK_PLAIN_SIZE);
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
    gnutls.record_set_state(bulk->session->gnutls, read, sequence);
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
    r = gnutls.record_recv(session->gnutls, &byte, sizeof byte);
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

int bulk_feed(struct tls_bulk *bulk, const uint8_t *record, size_t size, struct tls_reason *reason)
{
    int r;

    pthread_mutex_lock(&bulk->lock);
    r = feed_locked(bulk, record, size, reason);
    pthread_mutex_unlock(&bulk->lock);
    return r;
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
    return r < 0 ? r : bulk_send(bulk, control, size, reason);
}

static int change_keys(gnutls_session_t handle)
{
    return gnutls.session_key_update(handle, 0);
}

int bulk_change_keys(struct tls_bulk *bulk, struct tls_reason *reason)
{
    return say(bulk, change_keys, reason);
}

static int close_notify(gnutls_session_t handle)
{
    return gnutls.bye(handle, GNUTLS_SHUT_WR);
}

void tls_bulk_drop_secrets(struct tls_bulk *bulk)
{
    /* What error messages need stays; the key's place in the credentials leads nowhere from now on. */
    const struct tls_credentials *credentials = bulk->session->credentials;
    struct secret key = credentials->key;

    secret_free(&key);
    if (credentials->x509)
        gnutls.certificate_free_keys(credentials->x509);
}

void tls_bulk_bye(struct tls_bulk *bulk)
{
    struct tls_reason ignored;

    say(bulk, close_notify, &ignored);
}
