/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Alerts of the server (RFC 8446, section 6). In TLS 1.3 a server judges our certificate after the handshake
 * is done on our side, so that its alert answers our first bytes.
 */
#include <errno.h>
#include <string.h>

#include "tls_internal.h"

/* Without a name in GnuTLS 3.7. */
#define ALERT_BAD_CERTIFICATE_STATUS 113

static const char *alert_name(gnutls_alert_description_t alert)
{
    const char *name = gnutls.alert_get_name(alert);

    return name ? name : "unknown";
}

static int wrong_key(const struct tls_session *session, gnutls_alert_description_t alert,
                     struct tls_reason *reason)
{
    const char *user = session->credentials->user;

    if (alert == GNUTLS_A_UNKNOWN_PSK_IDENTITY)
        return tls_fail(reason, EKEYREJECTED, "the server does not know the user \"%s\"", tls_shown(user));
    return tls_hint(reason,
                    tls_fail(reason, EKEYREJECTED,
                             "the server refuses the pre-shared key of the user \"%s\" (alert: %s)",
                             tls_shown(user), alert_name(alert)),
                    "the key is another one there, or the user is unknown: servers do not tell which");
}

static int no_agreement(const struct tls_session *session, gnutls_alert_description_t alert,
                        struct tls_reason *reason)
{
    bool psk = session->credentials->type == TLS_TYPE_PSK;
    int r = tls_fail(reason, EPROTO, "the server and we have no TLS parameters in common (alert: %s)",
                     alert_name(alert));

    return tls_hint(
        reason, r, "%s",
        psk ? "perhaps the server wants X.509 certificates, knows no such user, or lacks TLS 1.3 with "
              "(EC)DHE-PSK"
            : "perhaps the server wants pre-shared keys, or lacks TLS 1.3");
}

static int our_certificate(const struct tls_session *session, gnutls_alert_description_t alert,
                           struct tls_reason *reason)
{
    int error = alert == GNUTLS_A_CERTIFICATE_EXPIRED ? EKEYEXPIRED : EKEYREJECTED;

    if (!session->credentials->has_certificate)
        return tls_hint(
            reason,
            tls_fail(reason, error, "the server demands a client certificate (alert: %s)", alert_name(alert)),
            "put client-cert.pem and client-key.pem into the folder of certificates");
    /* GnuTLS sends none where the server names the authorities it accepts, and ours is not among them. */
    if (alert == GNUTLS_A_CERTIFICATE_REQUIRED)
        return tls_fail(
            reason, error,
            "the server demands a client certificate of an authority that did not sign ours (alert: %s)",
            alert_name(alert));
    return tls_fail(reason, error, "the server refuses our client certificate (alert: %s)",
                    alert_name(alert));
}

static int told(gnutls_alert_description_t alert, int error, const char *text, struct tls_reason *reason)
{
    return tls_fail(reason, error, "%s (alert: %s)", text, alert_name(alert));
}

int tls_alert_error(const struct tls_session *session, struct tls_reason *reason)
{
    gnutls_alert_description_t alert = gnutls.alert_get(session->gnutls);
    bool psk = session->credentials->type == TLS_TYPE_PSK;

    switch ((unsigned)alert) {
    case GNUTLS_A_ILLEGAL_PARAMETER:
    case GNUTLS_A_DECRYPT_ERROR:
    case GNUTLS_A_DECRYPTION_FAILED:
    case GNUTLS_A_BAD_RECORD_MAC:
        return psk && !session->established
                   ? wrong_key(session, alert, reason)
                   : told(alert, EPROTO, "the server finds our TLS messages wrong", reason);
    case GNUTLS_A_UNKNOWN_PSK_IDENTITY:
        return psk ? wrong_key(session, alert, reason) : no_agreement(session, alert, reason);
    case GNUTLS_A_HANDSHAKE_FAILURE:
    case GNUTLS_A_INSUFFICIENT_SECURITY:
    case GNUTLS_A_MISSING_EXTENSION:
    case GNUTLS_A_PROTOCOL_VERSION:
        return no_agreement(session, alert, reason);
    case GNUTLS_A_CERTIFICATE_REQUIRED:
    case GNUTLS_A_BAD_CERTIFICATE:
    case GNUTLS_A_UNSUPPORTED_CERTIFICATE:
    case GNUTLS_A_CERTIFICATE_REVOKED:
    case GNUTLS_A_CERTIFICATE_EXPIRED:
    case GNUTLS_A_CERTIFICATE_UNKNOWN:
    case GNUTLS_A_UNKNOWN_CA:
    case ALERT_BAD_CERTIFICATE_STATUS:
        return our_certificate(session, alert, reason);
    case GNUTLS_A_ACCESS_DENIED:
        return told(alert, EKEYREJECTED, "the server denies us access", reason);
    case GNUTLS_A_UNRECOGNIZED_NAME:
        return told(alert, EKEYREJECTED, "the server does not know the host name we asked for", reason);
    case GNUTLS_A_INTERNAL_ERROR:
        return told(alert, EPROTO, "the server failed by itself", reason);
    default:
        return tls_fail(reason, EPROTO, "the server broke TLS off with alert %d (%s)", (int)alert,
                        alert_name(alert));
    }
}
