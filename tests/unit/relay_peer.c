/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "relay_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/session.h"
#include "wire_builder.h"

#define USER        "alice"
#define KEY         "00112233445566778899aabbccddeeff"
#define PATIENCE_NS UINT64_C(20000000000)

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

#if HAVE_TLS

static int psk_of(gnutls_session_t session, const char *user, gnutls_datum_t *key)
{
    uint8_t *bytes = gnutls_malloc(16);

    (void)session;
    MUST(strcmp(user, USER) == 0 && bytes);
    for (unsigned i = 0; i < 16; i++)
        bytes[i] = (uint8_t)(i * 0x11);
    *key = (gnutls_datum_t){.data = bytes, .size = 16};
    return 0;
}

static void start_tls(struct relay_peer *peer)
{
    const char *priority = peer->priority ? peer->priority : "NORMAL:+ECDHE-PSK:+DHE-PSK";
    int r;

    MUST(gnutls_init(&peer->session, GNUTLS_SERVER) == 0);
    MUST(gnutls_priority_set_direct(peer->session, priority, NULL) == 0);
    MUST(gnutls_psk_allocate_server_credentials(&peer->credentials) == 0);
    gnutls_psk_set_server_credentials_function(peer->credentials, psk_of);
    MUST(gnutls_psk_set_server_known_dh_params(peer->credentials, GNUTLS_SEC_PARAM_MEDIUM) == 0);
    MUST(gnutls_credentials_set(peer->session, GNUTLS_CRD_PSK, peer->credentials) == 0);
    if (peer->record_limit)
        MUST(gnutls_record_set_max_recv_size(peer->session, peer->record_limit) == 0);
    gnutls_transport_set_int(peer->session, peer->fd);
    r = gnutls_handshake(peer->session);
    if (r < 0)
        fprintf(stderr, "%s: %s\n", priority, gnutls_strerror(r));
    MUST(r == 0);
}

static char *write_key_file(void)
{
    const char *folder = getenv("TMPDIR");
    char *path;
    int fd;

    MUST(asprintf(&path, "%s/nbdctl-relay-key-XXXXXX", folder ? folder : "/tmp") > 0);
    fd = mkostemp(path, O_CLOEXEC);
    MUST(fd >= 0 && dprintf(fd, "%s:%s\n", USER, KEY) > 0);
    close(fd);
    return path;
}

static void load_credentials(struct relay_peer *peer)
{
    struct target *target = &peer->endpoint.target;
    struct failure failure;

    target->tls = TARGET_TLS_REQUIRE;
    target->user = strdup(USER);
    target->tls_psk_file = write_key_file();
    target->tls_priority = peer->priority ? strdup(peer->priority) : NULL;
    MUST(endpoint_load(&peer->endpoint, &failure) == 0);
    unlink(target->tls_psk_file);
}

ssize_t relay_peer_read(struct relay_peer *peer, void *into, size_t size)
{
    ssize_t n;

    if (!peer->session)
        return recv(peer->fd, into, size, 0);
    do
        n = gnutls_record_recv(peer->session, into, size);
    while (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED);
    return n < 0 ? -1 : n;
}

ssize_t relay_peer_write(struct relay_peer *peer, const void *from, size_t size)
{
    ssize_t n = peer->session ? gnutls_record_send(peer->session, from, size)
                              : send(peer->fd, from, size, MSG_NOSIGNAL);

    return n < 0 ? -1 : n;
}

void relay_peer_shut(struct relay_peer *peer)
{
    if (peer->session)
        gnutls_bye(peer->session, GNUTLS_SHUT_WR);
    shutdown(peer->fd, SHUT_WR);
}

static void clear_tls(struct relay_peer *peer)
{
    if (!peer->session)
        return;
    gnutls_deinit(peer->session);
    gnutls_psk_free_server_credentials(peer->credentials);
}

#else

static void start_tls(struct relay_peer *peer)
{
    (void)peer;
    abort();
}

static void load_credentials(struct relay_peer *peer)
{
    (void)peer;
    abort();
}

ssize_t relay_peer_read(struct relay_peer *peer, void *into, size_t size)
{
    return recv(peer->fd, into, size, 0);
}

ssize_t relay_peer_write(struct relay_peer *peer, const void *from, size_t size)
{
    return send(peer->fd, from, size, MSG_NOSIGNAL);
}

void relay_peer_shut(struct relay_peer *peer)
{
    shutdown(peer->fd, SHUT_WR);
}

static void clear_tls(struct relay_peer *peer)
{
    (void)peer;
}

#endif

static void hear(struct relay_peer *peer, uint8_t *into, size_t size)
{
    while (size > 0) {
        ssize_t n = relay_peer_read(peer, into, size);

        MUST(n > 0);
        into += n;
        size -= (size_t)n;
    }
}

static void hear_option(struct relay_peer *peer, enum nbd_option option)
{
    uint8_t bytes[1024];
    uint32_t size;

    hear(peer, bytes, 16);
    size = be32_get(bytes + 12);
    MUST(be32_get(bytes + 8) == (uint32_t)option && size <= sizeof bytes);
    hear(peer, bytes, size);
}

static void say(struct relay_peer *peer, const struct wire *wire)
{
    MUST(relay_peer_write(peer, wire->data, wire->size) == (ssize_t)wire->size);
}

static void *negotiate(void *opaque)
{
    struct relay_peer *peer = opaque;
    struct wire greeting = {0}, ack = {0}, answer = {0};
    uint8_t flags[4];

    wire_greeting(&greeting, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    say(peer, &greeting);
    hear(peer, flags, sizeof flags);
    if (peer->tls) {
        hear_option(peer, NBD_OPT_STARTTLS);
        wire_ack(&ack, NBD_OPT_STARTTLS);
        say(peer, &ack);
        start_tls(peer);
    }
    hear_option(peer, NBD_OPT_GO);
    wire_info_export(&answer, NBD_OPT_GO, 1 << 20, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH);
    wire_ack(&answer, NBD_OPT_GO);
    say(peer, &answer);
    return NULL;
}

void relay_peer_open(struct relay_peer *peer)
{
    struct deadline deadline = deadline_after(PATIENCE_NS, -1);
    struct failure failure = {0};
    pthread_t thread;
    int pair[2];

    if (peer->tcp)
        connect_tcp(pair);
    else
        MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    MUST(fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0);
    peer->fd = pair[1];
    peer->endpoint.target.tls = TARGET_TLS_NEVER;
    if (peer->tls)
        load_credentials(peer);
    MUST(pthread_create(&thread, NULL, negotiate, peer) == 0);
    peer->connection = (struct connection){.fd = -1, .path = CONNECTION_RELAY};
    if (session_open_fd(&peer->connection.session, pair[0], &peer->endpoint, &deadline, &failure) < 0 ||
        session_go(peer->connection.session, "x", &failure) < 0) {
        fprintf(stderr, "%s\n", failure.text);
        abort();
    }
    pthread_join(thread, NULL);
}

void relay_peer_reset(struct relay_peer *peer)
{
    struct linger linger = {.l_onoff = 1};

    MUST(setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    close(peer->fd);
    peer->fd = -1;
}

void relay_peer_clear(struct relay_peer *peer)
{
    clear_tls(peer);
    if (peer->fd >= 0)
        close(peer->fd);
    if (peer->connection.fd >= 0)
        close(peer->connection.fd);
    session_close(peer->connection.session);
    endpoint_clear(&peer->endpoint);
}
