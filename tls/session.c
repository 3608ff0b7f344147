/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tls_cleanup.h"
#include "tls_internal.h"

/* Records without data (tickets, empty ones) that are taken in one go. */
#define PATIENCE 64

/* "[fe80::1%eth0]" is fe80::1 in a certificate, and "host." is host. */
static int take_hostname(struct tls_session *session, const char *hostname)
{
    size_t length = strlen(hostname);
    char *zone;

    if (length > 1 && hostname[0] == '[' && hostname[length - 1] == ']')
        session->hostname = strndup(hostname + 1, length - 2);
    else
        session->hostname = strdup(hostname);
    if (!session->hostname)
        return -ENOMEM;
    zone = strchr(session->hostname, ':') ? strchr(session->hostname, '%') : NULL;
    if (zone)
        *zone = '\0';
    length = strlen(session->hostname);
    if (length > 1 && session->hostname[length - 1] == '.')
        session->hostname[length - 1] = '\0';
    return 0;
}

static void want_identity(struct tls_session *session)
{
    static char purpose[] = GNUTLS_KP_TLS_WWW_SERVER;
    unsigned size = 0;

    if (inet_pton(AF_INET, session->hostname, session->address) == 1)
        size = sizeof(struct in_addr);
    else if (inet_pton(AF_INET6, session->hostname, session->address) == 1)
        size = sizeof(struct in6_addr);
    session->is_address = size > 0;
    session->wanted[0] =
        (gnutls_typed_vdata_st){.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = (unsigned char *)purpose};
    session->wanted[1] = (gnutls_typed_vdata_st){
        .type = size ? GNUTLS_DT_IP_ADDRESS : GNUTLS_DT_DNS_HOSTNAME,
        .data = size ? session->address : (unsigned char *)session->hostname,
        .size = size,
    };
}

/* Whom we expect, and for a name the server's choice between several certificates. */
static int set_identity(struct tls_session *session, const char *hostname, struct tls_reason *reason)
{
    bool verify = session->credentials->type == TLS_TYPE_X509 && !session->credentials->no_verify;
    int r;

    if (!hostname || !*hostname) {
        if (verify)
            return tls_hint(
                reason,
                tls_fail(reason, EINVAL, "there is no name to check the server's certificate against"),
                "say which name it must carry (tls-hostname)");
        return 0;
    }
    if (take_hostname(session, hostname) < 0)
        return tls_fail(reason, ENOMEM, "out of memory");
    want_identity(session);
    if (verify)
        gnutls.session_set_verify_cert2(session->gnutls, session->wanted, 2, 0);
    if (session->is_address)
        return 0;
    r = gnutls.server_name_set(session->gnutls, GNUTLS_NAME_DNS, session->hostname,
                               strlen(session->hostname));
    return r < 0 ? tls_fail(reason, EINVAL, "\"%s\" is not a host name", tls_shown(session->hostname)) : 0;
}

static int set_up(struct tls_session *session, const char *hostname, struct tls_reason *reason)
{
    const struct tls_credentials *credentials = session->credentials;
    bool psk = credentials->type == TLS_TYPE_PSK;
    int r = gnutls.init(&session->gnutls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS);

    if (r == 0)
        r = gnutls.priority_set(session->gnutls, credentials->priority);
    if (r == 0)
        r = gnutls.credentials_set(session->gnutls, psk ? GNUTLS_CRD_PSK : GNUTLS_CRD_CERTIFICATE,
                                   psk ? (void *)credentials->psk : (void *)credentials->x509);
    if (r < 0)
        return tls_fail_gnutls(reason, EINVAL, r, "cannot begin a TLS session");
    gnutls.session_set_ptr(session->gnutls, session);
    tls_transport_attach(session);
    tls_watch_handshake(session);
    return set_identity(session, hostname, reason);
}

int tls_session_new(struct tls_session **ret, const struct tls_credentials *credentials, int fd,
                    const char *hostname, struct tls_reason *reason)
{
    struct tls_session *session = calloc(1, sizeof *session);
    int r;

    if (!session)
        return tls_fail(reason, ENOMEM, "out of memory");
    session->credentials = credentials;
    session->fd = fd;
    r = set_up(session, hostname, reason);
    if (r < 0) {
        tls_session_free(session);
        return r;
    }
    *ret = session;
    return 0;
}

void tls_session_free(struct tls_session *session)
{
    if (!session)
        return;
    if (session->gnutls)
        gnutls.deinit(session->gnutls);
    free(session->hostname);
    free(session);
}

static int check_usable(const struct tls_session *session, struct tls_reason *reason)
{
    if (!session->gnutls)
        return tls_fail(reason, EINVAL, "the TLS session is in the kernel's hands");
    if (!session->established)
        return tls_fail(reason, EINVAL, "the TLS handshake is not done");
    return 0;
}

static bool is_again(ssize_t r)
{
    return r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED;
}

/* GnuTLS also says "again" after each record that carries no data. */
static ssize_t receive(struct tls_session *session, uint8_t *into, size_t size)
{
    ssize_t r = GNUTLS_E_AGAIN;

    for (int i = 0; i < PATIENCE && is_again(r); i++) {
        session->starved = false;
        r = gnutls.record_recv(session->gnutls, into, size);
        if (is_again(r) && (session->starved || tls_wanted_events(session) == POLLOUT))
            break;
    }
    return r;
}

ssize_t tls_read(struct tls_session *session, uint8_t *into, size_t size, short *events,
                 struct tls_reason *reason)
{
    int usable = check_usable(session, reason);
    ssize_t r;

    if (usable < 0)
        return usable;
    r = receive(session, into, size);
    if (r >= 0)
        return r;
    if (!is_again(r))
        return tls_session_error(session, (int)r, reason);
    *events = tls_wanted_events(session);
    return tls_fail(reason, EAGAIN, "the server has sent nothing yet");
}

ssize_t tls_write(struct tls_session *session, const uint8_t *from, size_t size, short *events,
                  struct tls_reason *reason)
{
    int usable = check_usable(session, reason);
    ssize_t r;

    if (usable < 0 || size == 0)
        return usable;
    /* What GnuTLS has encrypted it sends before anything else: the caller's bytes may have moved, not
     * changed. */
    r = session->unsent ? gnutls.record_send(session->gnutls, NULL, 0)
                        : gnutls.record_send(session->gnutls, from, size);
    if (is_again(r)) {
        session->unsent = size;
        *events = POLLOUT;
        return tls_fail(reason, EAGAIN, "the server does not read");
    }
    session->unsent = 0;
    if (r < 0)
        return tls_session_error(session, (int)r, reason);
    session->rekey_owed = false;
    return r;
}

void tls_bye(struct tls_session *session)
{
    if (session->gnutls && session->established)
        gnutls.bye(session->gnutls, GNUTLS_SHUT_WR);
}

void tls_session_info(const struct tls_session *session, struct tls_info *info)
{
    *info = (struct tls_info){
        .version = session->version,
        .cipher = session->cipher,
        .key_exchange = session->key_exchange,
    };
}

int tls_check_silent(struct tls_session *session, struct tls_reason *reason)
{
    int r = check_usable(session, reason);
    uint8_t byte;
    ssize_t n;

    if (r < 0)
        return r;
    if (session->unsent)
        return tls_fail(reason, EBUSY, "the server has not taken all that was sent to it");
    n = receive(session, &byte, sizeof byte);
    if (n > 0 || gnutls.record_check_pending(session->gnutls) > 0)
        return tls_fail(reason, EPROTO, "the server sent bytes that nobody asked for");
    if (n == 0)
        return tls_fail(reason, ECONNRESET, "the server closed the connection");
    if (!is_again(n))
        return tls_session_error(session, (int)n, reason);
    if (!session->starved || !tls_transport_between_records(session))
        return tls_fail(reason, EAGAIN, "the server is sending a TLS record that nobody asked for");
    return 0;
}
