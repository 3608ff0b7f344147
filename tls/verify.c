/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Why the server's certificate did not pass, each cause in its own words. */
#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tls_internal.h"

#define NAMED 4 /* names of the certificate in a message */

/* Text that grows in a fixed buffer; what does not fit is cut. */
struct text {
    char data[448];
    size_t size;
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *text, const char *format, ...)
{
    size_t room = sizeof text->data - text->size;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text->data + text->size, room, format, args);
    va_end(args);
    if (n > 0)
        text->size += (size_t)n < room ? (size_t)n : room - 1;
}

static void add_date(struct text *text, time_t when)
{
    struct tm tm;
    char date[32];

    if (when != (time_t)-1 && gmtime_r(&when, &tm) && strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &tm))
        add(text, " (%s)", date);
}

/* NULL: there is none, or it does not parse. */
static gnutls_x509_crt_t peer_certificate(const struct tls_session *session)
{
    unsigned count = 0;
    const gnutls_datum_t *der = gnutls.certificate_get_peers(session->gnutls, &count);
    gnutls_x509_crt_t certificate;

    if (!der || count == 0 || gnutls.x509_crt_init(&certificate) < 0)
        return NULL;
    if (gnutls.x509_crt_import(certificate, der, GNUTLS_X509_FMT_DER) < 0) {
        gnutls.x509_crt_deinit(certificate);
        return NULL;
    }
    return certificate;
}

static void add_name(struct text *text, int type, const void *name, size_t size, bool first)
{
    char address[INET6_ADDRSTRLEN] = "", shown[80];

    if (type == GNUTLS_SAN_IPADDRESS && (size == 4 || size == 16))
        inet_ntop(size == 4 ? AF_INET : AF_INET6, name, address, sizeof address);
    add(text, "%s%s", first ? " " : ", ", *address ? address : tls_escape(name, size, shown, sizeof shown));
}

static void add_names(struct text *text, gnutls_x509_crt_t certificate)
{
    unsigned named = 0;
    char name[256];
    size_t size;

    add(text, ", but for");
    for (unsigned i = 0; named < NAMED; i++) {
        int type;

        size = sizeof name;
        type = gnutls.x509_crt_get_subject_alt_name(certificate, i, name, &size, NULL);
        if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        if (type == GNUTLS_SAN_DNSNAME || type == GNUTLS_SAN_IPADDRESS)
            add_name(text, type, name, size, named++ == 0);
        else if (type < 0 && type != GNUTLS_E_SHORT_MEMORY_BUFFER)
            break;
    }
    size = sizeof name;
    if (named == 0 &&
        gnutls.x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &size) == 0)
        add_name(text, GNUTLS_SAN_DN, name, size, named++ == 0);
    if (named == 0)
        add(text, " nobody");
}

static void say_owner(const struct tls_session *session, gnutls_x509_crt_t certificate, struct text *text)
{
    add(text, "is not for \"%s\"", session->hostname ? tls_shown(session->hostname) : "");
    if (certificate)
        add_names(text, certificate);
}

/* The one in the middle may be an authority's. */
static void say_expired(const struct tls_session *session, gnutls_x509_crt_t certificate, struct text *text)
{
    time_t until = certificate ? gnutls.x509_crt_get_expiration_time(certificate) : (time_t)-1;

    (void)session;
    if (until != (time_t)-1 && until >= time(NULL)) {
        add(text, "is signed by an authority whose own certificate has expired");
        return;
    }
    add(text, "has expired");
    add_date(text, until);
}

static void say_not_yet(const struct tls_session *session, gnutls_x509_crt_t certificate, struct text *text)
{
    (void)session;
    add(text, "is not valid yet");
    add_date(text, certificate ? gnutls.x509_crt_get_activation_time(certificate) : (time_t)-1);
    add(text, " (is this machine's clock right?)");
}

static void say_untrusted(const struct tls_session *session, gnutls_x509_crt_t certificate, struct text *text)
{
    char issuer[128], shown[160];
    size_t size = sizeof issuer;

    add(text, "is not signed by an authority of %s", session->credentials->trust);
    if (certificate && gnutls.x509_crt_get_issuer_dn(certificate, issuer, &size) == 0)
        add(text, " (its issuer: %s)", tls_escape(issuer, size, shown, sizeof shown));
}

/* In the order in which they are told. */
static const struct {
    unsigned status;
    const char *text; /* NULL: say() has more to tell */
    void (*say)(const struct tls_session *session, gnutls_x509_crt_t certificate, struct text *text);
} causes[] = {
    {GNUTLS_CERT_REVOKED, "has been revoked", NULL},
    {GNUTLS_CERT_SIGNER_NOT_FOUND, NULL, say_untrusted},
    {GNUTLS_CERT_SIGNER_NOT_CA, "is signed by a certificate that is not an authority's", NULL},
    {GNUTLS_CERT_SIGNATURE_FAILURE, "has a signature that is wrong", NULL},
    {GNUTLS_CERT_INSECURE_ALGORITHM, "has a signature or a key that is too weak", NULL},
    {GNUTLS_CERT_EXPIRED, NULL, say_expired},
    {GNUTLS_CERT_NOT_ACTIVATED, NULL, say_not_yet},
    {GNUTLS_CERT_UNEXPECTED_OWNER, NULL, say_owner},
    {GNUTLS_CERT_PURPOSE_MISMATCH, "is not meant for a server", NULL},
    {GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED,
     "comes with a proof (OCSP) that it is not revoked, which is too old", NULL},
    {GNUTLS_CERT_REVOCATION_DATA_ISSUED_IN_FUTURE,
     "comes with a proof (OCSP) that it is not revoked, which is from the future", NULL},
    {GNUTLS_CERT_SIGNER_CONSTRAINTS_FAILURE, "goes beyond what its authority may sign", NULL},
    {GNUTLS_CERT_MISSING_OCSP_STATUS, "must come with a proof (OCSP) that it is not revoked, and does not",
     NULL},
    {GNUTLS_CERT_INVALID_OCSP_STATUS, "comes with a wrong proof (OCSP) that it is not revoked", NULL},
    {GNUTLS_CERT_UNKNOWN_CRIT_EXTENSIONS, "has critical extensions that nobody here understands", NULL},
};

/* How many causes there were. */
static unsigned add_causes(const struct tls_session *session, unsigned status, gnutls_x509_crt_t certificate,
                           struct text *text)
{
    unsigned count = 0;

    for (size_t i = 0; i < sizeof causes / sizeof causes[0]; i++) {
        if (!(status & causes[i].status))
            continue;
        if (count++ > 0)
            add(text, "; it ");
        if (causes[i].say)
            causes[i].say(session, certificate, text);
        else
            add(text, "%s", causes[i].text);
    }
    return count;
}

static const char *advice(unsigned status)
{
    if (status & GNUTLS_CERT_SIGNER_NOT_FOUND)
        return "give a folder with the certificate of the server's authority (ca-cert.pem)";
    if (status & GNUTLS_CERT_UNEXPECTED_OWNER)
        return "say which name the certificate carries (tls-hostname), if you trust that server";
    return "";
}

int tls_verify_error(const struct tls_session *session, struct tls_reason *reason)
{
    const unsigned of_time = GNUTLS_CERT_INVALID | GNUTLS_CERT_EXPIRED | GNUTLS_CERT_NOT_ACTIVATED;
    unsigned status = gnutls.session_get_verify_cert_status(session->gnutls);
    gnutls_x509_crt_t certificate = peer_certificate(session);
    struct text text = {0};
    int r;

    if (add_causes(session, status, certificate, &text) == 0)
        add(&text, "does not verify");
    if (certificate)
        gnutls.x509_crt_deinit(certificate);
    r = tls_fail(reason, status && (status & ~of_time) == 0 ? EKEYEXPIRED : EKEYREJECTED,
                 "the server's certificate %s", text.data);
    return tls_hint(reason, r, "%s", advice(status));
}
