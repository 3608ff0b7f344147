/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tls_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tls_trick.h"

#define SERVER_PATIENCE_MS 60000

int peer_patience_ms = 20000;

static void must(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    abort();
}

#define MUST(condition) must((condition), #condition)

static void connect_tcp(int pair[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);

    MUST(listener >= 0 && bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0);
    MUST(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    MUST(pair[0] >= 0 && connect(pair[0], (struct sockaddr *)&address, size) == 0);
    pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    MUST(pair[1] >= 0);
    close(listener);
}

static int psk_of(gnutls_session_t session, const char *user, gnutls_datum_t *key)
{
    const struct peer *peer = gnutls_session_get_ptr(session);

    if (strcmp(user, peer->psk_user) != 0)
        return 1; /* unknown: GnuTLS goes on with a random key */
    key->data = gnutls_malloc(peer->psk_key.size);
    memcpy(key->data, peer->psk_key.data, peer->psk_key.size);
    key->size = peer->psk_key.size;
    return 0;
}

/* Credentials of one server. */
struct keys {
    gnutls_psk_server_credentials_t psk;
    gnutls_certificate_credentials_t x509;
    gnutls_datum_t ticket;
};

static void set_x509(const struct peer *peer, gnutls_session_t session, struct keys *keys)
{
    gnutls_x509_crt_t chain[2] = {peer->identity->certificate,
                                  peer->issuer ? peer->issuer->certificate : NULL};
    gnutls_x509_crt_t ca;

    gnutls_certificate_allocate_credentials(&keys->x509);
    MUST(gnutls_certificate_set_x509_key(keys->x509, chain, peer->issuer ? 2 : 1, peer->identity->key) >= 0);
    if (peer->client_ca) {
        ca = peer->client_ca->certificate;
        MUST(gnutls_certificate_set_x509_trust(keys->x509, &ca, 1) == 1);
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
        gnutls_certificate_send_x509_rdn_sequence(session, peer->hides_ca);
        gnutls_session_set_verify_cert(session, NULL, 0);
    }
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, keys->x509);
}

static gnutls_session_t open_session(struct peer *peer, struct keys *keys)
{
    const char *priority = peer->psk_user ? "NORMAL:+ECDHE-PSK:+DHE-PSK:+PSK" : "NORMAL";
    gnutls_session_t session;

    MUST(gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NO_AUTO_SEND_TICKET) == 0);
    gnutls_session_set_ptr(session, peer);
    MUST(gnutls_priority_set_direct(session, peer->priority ? peer->priority : priority, NULL) == 0);
    if (peer->psk_user) {
        gnutls_psk_allocate_server_credentials(&keys->psk);
        gnutls_psk_set_server_credentials_function(keys->psk, psk_of);
        gnutls_credentials_set(session, GNUTLS_CRD_PSK, keys->psk);
    }
    if (peer->identity)
        set_x509(peer, session, keys);
    if (peer->vice == PEER_SENDS_TICKET) {
        gnutls_session_ticket_key_generate(&keys->ticket);
        gnutls_session_ticket_enable_server(session, &keys->ticket);
    }
    if (peer->record_limit)
        MUST(gnutls_record_set_max_recv_size(session, peer->record_limit) == 0);
    gnutls_handshake_set_timeout(session, SERVER_PATIENCE_MS);
    gnutls_record_set_timeout(session, SERVER_PATIENCE_MS);
    return session;
}

static void close_session(gnutls_session_t session, struct keys *keys)
{
    gnutls_deinit(session);
    if (keys->psk)
        gnutls_psk_free_server_credentials(keys->psk);
    if (keys->x509)
        gnutls_certificate_free_credentials(keys->x509);
    gnutls_free(keys->ticket.data);
}

static void say(struct peer *peer, const void *data, size_t size)
{
    send(peer->fd, data, size, MSG_NOSIGNAL);
}

/* Reads until the client gives up. */
static void listen_in_silence(struct peer *peer)
{
    uint8_t data[4096];

    while (recv(peer->fd, data, sizeof data, 0) > 0)
        continue;
}

static void warn_forever(struct peer *peer)
{
    static const uint8_t warning[] = {21, 3, 3, 0, 2, 1, 90};

    while (send(peer->fd, warning, sizeof warning, MSG_NOSIGNAL) > 0)
        continue;
}

/* Vices that need no TLS of their own; false: it is not one of them. */
static bool misbehave(struct peer *peer)
{
    const uint8_t alert[] = {21, 3, 3, 0, 2, 2, (uint8_t)peer->alert};
    uint8_t hello[8192];

    if (peer->vice < PEER_STALLS || peer->vice > PEER_WARNS_FOREVER)
        return false;
    if (recv(peer->fd, hello, sizeof hello, 0) <= 0)
        return true;
    if (peer->vice == PEER_STALLS)
        listen_in_silence(peer);
    else if (peer->vice == PEER_WARNS_FOREVER)
        warn_forever(peer);
    else if (peer->vice == PEER_SENDS_GARBAGE)
        say(peer, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    else if (peer->vice == PEER_SENDS_NBD)
        say(peer, "NBDMAGICIHAVEOPT\0\3", 18);
    else if (peer->vice == PEER_SENDS_ALERT)
        say(peer, alert, sizeof alert);
    return true;
}

static void reset(struct peer *peer)
{
    struct linger linger = {.l_onoff = 1};

    setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

/* What comes with the handshake; the budget is about half of the first flight. */
static void prepare(struct peer *peer, struct tls_trick *trick, gnutls_session_t session)
{
    if (peer->vice == PEER_EARLY_DATA)
        tls_trick_early_data(session);
    if (peer->vice == PEER_CLOSES_MIDWAY || peer->vice == PEER_RESETS || peer->vice == PEER_STALLS_MIDWAY)
        trick->budget = 200;
    trick->then_fail = peer->vice != PEER_STALLS_MIDWAY;
}

/* What comes after the handshake; false: the connection is over. */
static bool after_handshake(struct peer *peer, struct tls_trick *trick, gnutls_session_t session)
{
    if (peer->vice == PEER_SAYS_BYE)
        gnutls_bye(session, GNUTLS_SHUT_WR);
    if (peer->vice == PEER_CLOSES_SILENTLY || peer->vice == PEER_SAYS_BYE)
        return false;
    if (peer->vice == PEER_HALF_RECORD)
        *trick = (struct tls_trick){.fd = peer->fd, .budget = 9};
    if (peer->vice == PEER_TALKS || peer->vice == PEER_HALF_RECORD)
        gnutls_record_send(session, "unasked", 7);
    return true;
}

static void after_echo(struct peer *peer, gnutls_session_t session)
{
    if (peer->vice == PEER_SENDS_TICKET)
        gnutls_session_ticket_send(session, 1, 0);
    if (peer->vice == PEER_CHANGES_KEYS)
        gnutls_session_key_update(session, GNUTLS_KU_PEER);
    if (peer->vice == PEER_SENDS_ALERT_LATE)
        gnutls_alert_send(session, GNUTLS_AL_FATAL, peer->alert);
    if (peer->vice == PEER_SENDS_TICKET || peer->vice == PEER_CHANGES_KEYS)
        peer->vice = PEER_HONEST;
}

static bool send_all(gnutls_session_t session, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = gnutls_record_send(session, data, size);

        if (n <= 0)
            return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

static void echo(struct peer *peer, gnutls_session_t session)
{
    uint8_t data[16384];
    ssize_t n;

    /* "Again" is what GnuTLS says after a KeyUpdate. */
    while ((n = gnutls_record_recv(session, data, sizeof data)) > 0 || n == GNUTLS_E_AGAIN) {
        if (n > 0 && !send_all(session, data, (size_t)n))
            return;
        if (n > 0)
            after_echo(peer, session);
    }
}

static void converse(struct peer *peer)
{
    struct keys keys = {0};
    struct tls_trick trick;
    gnutls_session_t session = open_session(peer, &keys);
    size_t size = sizeof peer->server_name - 1;
    unsigned type;

    tls_trick_attach(&trick, session, peer->fd);
    prepare(peer, &trick, session);
    if (peer->vice == PEER_RESETS)
        reset(peer);
    peer->handshake_error = gnutls_handshake(session);
    if (peer->handshake_error < 0)
        gnutls_alert_send_appropriate(session, peer->handshake_error);
    else
        gnutls_server_name_get(session, peer->server_name, &size, &type, 0);
    if (peer->handshake_error == 0 && after_handshake(peer, &trick, session))
        echo(peer, session);
    close_session(session, &keys);
}

static void *serve(void *opaque)
{
    struct peer *peer = opaque;

    if (!misbehave(peer))
        converse(peer);
    if (peer->vice != PEER_RESETS) {
        shutdown(peer->fd, SHUT_WR);
        listen_in_silence(peer);
    }
    close(peer->fd);
    return NULL;
}

void peer_start(struct peer *peer)
{
    int pair[2];

    if (peer->tcp)
        connect_tcp(pair);
    else
        MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    MUST(fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0);
    peer->client_fd = pair[0];
    peer->fd = pair[1];
    MUST(pthread_create(&peer->thread, NULL, serve, peer) == 0);
}

void peer_join(struct peer *peer)
{
    close(peer->client_fd);
    pthread_join(peer->thread, NULL);
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* 0 or -ETIMEDOUT; counted over all waiting, so that no trickle of the peer's prolongs it. */
static int wait_for(int fd, short events, int64_t until)
{
    struct pollfd waiting = {.fd = fd, .events = events};
    int64_t left = until - now_ms();

    return left > 0 && poll(&waiting, 1, (int)left) > 0 ? 0 : -ETIMEDOUT;
}

int peer_complete(struct tls_session *session, int fd, struct tls_reason *reason)
{
    int64_t until = now_ms() + peer_patience_ms;
    short events = 0;
    int r;

    while ((r = tls_handshake(session, &events, reason)) == -EAGAIN)
        if (wait_for(fd, events, until) < 0)
            return -ETIMEDOUT;
    return r;
}

int peer_read(struct tls_session *session, int fd, void *data, size_t size, struct tls_reason *reason)
{
    int64_t until = now_ms() + peer_patience_ms;
    short events = 0;
    ssize_t n;

    while ((n = tls_read(session, data, size, &events, reason)) == -EAGAIN)
        if (wait_for(fd, events, until) < 0)
            return -ETIMEDOUT;
    return (int)n;
}

int peer_echo(struct tls_session *session, int fd, const void *data, size_t size, struct tls_reason *reason)
{
    int64_t until = now_ms() + peer_patience_ms;
    size_t sent = 0, received = 0;
    uint8_t back[5000];

    while (received < size) {
        short reading = POLLIN, writing = 0;
        ssize_t n = tls_read(session, back, sizeof back, &reading, reason);

        if (n > 0 &&
            (received + (size_t)n > size || memcmp((const uint8_t *)data + received, back, (size_t)n) != 0))
            return -EBADMSG;
        if (n == 0 || (n < 0 && n != -EAGAIN))
            return n ? (int)n : -ECONNRESET;
        received += n > 0 ? (size_t)n : 0;
        if (sent < size) {
            ssize_t w = tls_write(session, (const uint8_t *)data + sent, size - sent, &writing, reason);

            if (w < 0 && w != -EAGAIN)
                return (int)w;
            sent += w > 0 ? (size_t)w : 0;
            writing = sent < size ? POLLOUT : 0;
        }
        if (n == -EAGAIN && received < size && wait_for(fd, (short)(reading | writing), until) < 0)
            return -ETIMEDOUT;
    }
    return 0;
}
