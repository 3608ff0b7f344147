/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GnuTLS's errors: which of ours each is, and what a person is told. */
#include <errno.h>
#include <string.h>

#include "tls_internal.h"

static const char *moment(const struct tls_session *session)
{
    return session->established ? "without ending TLS" : "in the middle of the TLS handshake";
}

static int connection_lost(const struct tls_session *session, struct tls_reason *reason)
{
    if (session->io_error && session->io_error != ECONNRESET && session->io_error != EPIPE)
        return tls_fail(reason, session->io_error, "the connection to the server failed %s: %s",
                        session->established ? "under TLS" : moment(session), strerror(session->io_error));
    tls_fail(reason, ECONNRESET, "the server closed the connection %s", moment(session));
    if (session->established)
        return -ECONNRESET;
    return tls_hint(reason, -ECONNRESET,
                    "the server's log may say why it does not like our key or certificate");
}

/* Also how a server shows itself that answers our TLS 1.3 with an older version. */
static int wrong_version(const struct tls_session *session, struct tls_reason *reason)
{
    if (session->established)
        return tls_fail(reason, EPROTO, "the server sends a broken TLS record");
    return tls_hint(reason, tls_fail(reason, EPROTO, "the server does not speak TLS 1.3"),
                    "update the server, or allow TLS 1.2");
}

int tls_session_error(const struct tls_session *session, int gnutls_error, struct tls_reason *reason)
{
    if (session->framing.is_garbage && gnutls_error != GNUTLS_E_MEMORY_ERROR)
        return tls_fail(reason, EPROTO, "what the server sends is not TLS");
    switch (gnutls_error) {
    case GNUTLS_E_MEMORY_ERROR:
        return tls_fail(reason, ENOMEM, "out of memory");
    case GNUTLS_E_PULL_ERROR:
    case GNUTLS_E_PUSH_ERROR:
    case GNUTLS_E_PREMATURE_TERMINATION:
        return connection_lost(session, reason);
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
    case GNUTLS_E_WARNING_ALERT_RECEIVED:
        return tls_alert_error(session, reason);
    case GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR:
    case GNUTLS_E_CERTIFICATE_ERROR:
        return tls_verify_error(session, reason);
    case GNUTLS_E_NO_CERTIFICATE_FOUND:
        return tls_fail(reason, EKEYREJECTED, "the server has shown no certificate");
    case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
        return wrong_version(session, reason);
    case GNUTLS_E_UNEXPECTED_PACKET_LENGTH:
        return session->ended
                   ? connection_lost(session, reason)
                   : tls_fail(reason, EPROTO, "the server sends a TLS message of the wrong length");
    case GNUTLS_E_RECORD_OVERFLOW:
        return tls_fail(reason, EPROTO, "the server sends a TLS record that is too long");
    case GNUTLS_E_DECRYPTION_FAILED:
        return tls_fail(reason, EPROTO,
                        "a TLS record of the server's does not decrypt: it was changed on the way, "
                        "or the keys differ");
    case GNUTLS_E_GOT_APPLICATION_DATA:
        return tls_fail(reason, EPROTO, "the server sends data before the TLS handshake is finished");
    case GNUTLS_E_UNEXPECTED_PACKET:
    case GNUTLS_E_UNEXPECTED_HANDSHAKE_PACKET:
        return tls_fail(reason, EPROTO, "the server sends a TLS message out of order");
    case GNUTLS_E_REHANDSHAKE:
    case GNUTLS_E_REAUTH_REQUEST:
        return tls_fail(reason, EPROTO,
                        "the server wants to repeat the TLS handshake, which is not supported");
    case GNUTLS_E_DH_PRIME_UNACCEPTABLE:
    case GNUTLS_E_INSUFFICIENT_SECURITY:
        return tls_fail(reason, EKEYREJECTED, "the server offers too weak a key exchange: %s",
                        gnutls.strerror(gnutls_error));
    default:
        return session->established
                   ? tls_fail_gnutls(reason, EPROTO, gnutls_error, "TLS fails")
                   : tls_fail_gnutls(reason, EPROTO, gnutls_error, "the TLS handshake fails");
    }
}
