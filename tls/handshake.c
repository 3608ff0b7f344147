/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "tls_internal.h"

/* Warnings that are taken in one go: a server must not keep us here. */
#define PATIENCE 16

static const char *version_name(gnutls_protocol_t version)
{
    if (version == GNUTLS_TLS1_3)
        return "TLS 1.3";
    if (version == GNUTLS_TLS1_2)
        return "TLS 1.2";
    return gnutls.protocol_get_name(version);
}

/* "ECDHE-PSK X25519", "ECDHE X25519 with RSA-PSS-RSAE-SHA256" */
static void describe_key_exchange(struct tls_session *session)
{
    gnutls_kx_algorithm_t kx = gnutls.kx_get(session->gnutls);
    const char *group = gnutls.group_get_name(gnutls.group_get(session->gnutls));
    const char *signature =
        gnutls.sign_get_name((gnutls_sign_algorithm_t)gnutls.sign_algorithm_get(session->gnutls));
    bool psk = session->credentials->type == TLS_TYPE_PSK;
    bool dhe = kx == GNUTLS_KX_DHE_RSA || kx == GNUTLS_KX_DHE_DSS || kx == GNUTLS_KX_DHE_PSK;

    snprintf(session->key_exchange, sizeof session->key_exchange, "%s%s%s%s%s%s", dhe ? "DHE" : "ECDHE",
             psk ? "-PSK" : "", group ? " " : "", group ? group : "", !psk && signature ? " with " : "",
             !psk && signature ? signature : "");
}

/*
 * GnuTLS does not insist on the kind of credentials we have: a server that answers a pre-shared key with some
 * certificate, which nobody would check, has not shown that it knows the key.
 */
static bool is_authenticated(const struct tls_session *session)
{
    gnutls_kx_algorithm_t kx = gnutls.kx_get(session->gnutls);
    gnutls_credentials_type_t server = gnutls.auth_server_get_type(session->gnutls);

    if (session->credentials->type == TLS_TYPE_PSK)
        return server == GNUTLS_CRD_PSK && (kx == GNUTLS_KX_ECDHE_PSK || kx == GNUTLS_KX_DHE_PSK);
    return server == GNUTLS_CRD_CERTIFICATE &&
           gnutls.certificate_type_get(session->gnutls) == GNUTLS_CRT_X509;
}

static int finish(struct tls_session *session, struct tls_reason *reason)
{
    if (!is_authenticated(session)) {
        gnutls.alert_send(session->gnutls, GNUTLS_AL_FATAL, GNUTLS_A_ACCESS_DENIED);
        return tls_fail(reason, EKEYREJECTED, "the server did not prove its identity with %s",
                        session->credentials->type == TLS_TYPE_PSK ? "the pre-shared key" : "a certificate");
    }
    session->version = version_name(gnutls.protocol_get_version(session->gnutls));
    session->cipher = gnutls.cipher_get_name(gnutls.cipher_get(session->gnutls));
    describe_key_exchange(session);
    session->established = true;
    return 0;
}

/* The reason first: sending the alert forgets what the server's was. */
static int break_off(struct tls_session *session, int gnutls_error, struct tls_reason *reason)
{
    int r = tls_session_error(session, gnutls_error, reason);

    gnutls.alert_send_appropriate(session->gnutls, gnutls_error);
    return r;
}

int tls_handshake(struct tls_session *session, short *events, struct tls_reason *reason)
{
    int r = GNUTLS_E_AGAIN;

    if (!session->gnutls)
        return tls_fail(reason, EINVAL, "the TLS session is in the kernel's hands");
    if (session->established)
        return 0;
    for (int i = 0; i < PATIENCE; i++) {
        session->starved = false;
        r = gnutls.handshake(session->gnutls);
        if (r == 0)
            return finish(session, reason);
        if (gnutls.error_is_fatal(r))
            return break_off(session, r, reason);
        if (session->starved || tls_wanted_events(session) == POLLOUT)
            break;
    }
    *events = tls_wanted_events(session);
    return tls_fail(reason, EAGAIN, "the TLS handshake with the server is not done");
}
