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

#define PATIENCE_MS 2000

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
        return -1;
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
        gnutls_session_set_verify_cert(session, NULL, 0);
    }
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, keys->x509);
}

static gnutls_session_t open_session(struct peer *peer, struct keys *keys)
{
    const char *priority = peer->psk_user ? "NORMAL:+ECDHE-PSK:+DHE-PSK:+PSK" : "NORMAL";
    gnutls_session_t session;

    MUST(gnutls_init(&session, GNUTLS_SERVER) == 0);
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
    gnutls_handshake_set_timeout(session, PATIENCE_MS);
    gnutls_record_set_timeout(session, PATIENCE_MS);
    gnutls_transport_set_int(session, peer->fd);
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

/* Vices that need no TLS of their own. */
static bool misbehave_raw(struct peer *peer)
{
    static const char garbage[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    static const char greeting[] = "NBDMAGICIHAVEOPT\0\3";
    static const unsigned char warning[] = {21, 3, 3, 0, 2, 1, 90};
    uint8_t hello[4096];
    ssize_t n;

    if (peer->vice == PEER_HONEST || peer->vice >= PEER_EARLY_DATA + (peer->vice == PEER_WARNS_FOREVER ? 99 : 0) ||
        peer->vice == PEER_CLOSES_MIDWAY || peer->vice == PEER_RESETS || peer->vice == PEER_SENDS_ALERT)
        if (peer->vice != PEER_WARNS_FOREVER && peer->vice != PEER_SENDS_ALERT)
            return false;
    n = recv(peer->fd, hello, sizeof hello, 0);
    if (peer->vice == PEER_STALLS)
        n = recv(peer->fd, hello, sizeof hello, 0); /* until the client gives up */
    else if (peer->vice == PEER_SENDS_GARBAGE)
        n = send(peer->fd, garbage, sizeof garbage - 1, MSG_NOSIGNAL);
    else if (peer->vice == PEER_SENDS_NBD)
        n = send(peer->fd, greeting, sizeof greeting - 1, MSG_NOSIGNAL);
    else if (peer->vice == PEER_SENDS_ALERT)
        n = send(peer->fd, (unsigned char[]){21, 3, 3, 0, 2, 2, (unsigned char)peer->alert}, 7, MSG_NOSIGNAL);
    while (peer->vice == PEER_WARNS_FOREVER && n > 0)
        n = send(peer->fd, warning, sizeof warning, MSG_NOSIGNAL);
    return true;
}
