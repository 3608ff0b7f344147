/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tls_cleanup.h"
#include "tls_internal.h"

/*
 * CHACHA20-POLY1305 comes first although AES instructions can be faster: a GnuTLS server changes its keys by
 * itself after 2^24 records of AES-GCM, never with CHACHA20-POLY1305, and a change of keys ends a connection
 * that the kernel drives. RSA keys below 2048 bits and their like are too weak (%PROFILE_MEDIUM).
 */
#define COMMON   "NORMAL:%PROFILE_MEDIUM:%SAFE_RENEGOTIATION:-CIPHER-ALL:+CHACHA20-POLY1305:+AES-128-GCM"
/* AES-256-GCM only here: with a pre-shared key it fails on GnuTLS before 3.8 (it binds the key with SHA-256).
 */
#define X509     ":+AES-256-GCM:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:+DHE-RSA"
/* Forward secrecy always; plain PSK, where whoever learns the key later reads everything, never. */
#define PSK      ":-KX-ALL:+ECDHE-PSK:+DHE-PSK"
#define ONLY_13  ":-VERS-ALL:+VERS-TLS1.3"
#define ALLOW_12 ONLY_13 ":+VERS-TLS1.2"

/* What no string of the user's brings back. */
#define NEVER     ":-VERS-SSL3.0:-VERS-TLS1.0:-VERS-TLS1.1:-ANON-DH:-ANON-ECDH"
#define NEVER_PSK ":-PSK:-RSA-PSK:+ECDHE-PSK:+DHE-PSK"

static const char *default_priority(enum tls_type type, bool allow_tls12)
{
    if (type == TLS_TYPE_PSK)
        return allow_tls12 ? COMMON PSK ALLOW_12 : COMMON PSK ONLY_13;
    return allow_tls12 ? COMMON X509 ALLOW_12 : COMMON X509 ONLY_13;
}

static int load_priority(struct tls_credentials *credentials, const struct tls_policy *policy,
                         struct tls_reason *reason)
{
    const char *ours = default_priority(credentials->type, policy->allow_tls12);
    const char *end = "";
    _cleanup_free_ char *text = NULL;
    int r;

    if (asprintf(&text, "%s%s%s", policy->priority ? policy->priority : ours, policy->priority ? NEVER : "",
                 policy->priority && credentials->type == TLS_TYPE_PSK ? NEVER_PSK : "") < 0) {
        text = NULL;
        return tls_fail(reason, ENOMEM, "out of memory");
    }
    r = gnutls.priority_init(&credentials->priority, text, &end);
    if (r == GNUTLS_E_INVALID_REQUEST && policy->priority)
        return tls_fail(reason, EINVAL, "the TLS priority string \"%s\" is wrong at \"%s\"",
                        tls_shown(policy->priority), tls_shown(end));
    return r < 0 ? tls_fail_gnutls(reason, EINVAL, r, "cannot use the TLS priority string") : 0;
}

static int choose_type(struct tls_credentials *credentials, const struct tls_policy *policy,
                       struct tls_reason *reason)
{
    switch (policy->type) {
    case TLS_TYPE_AUTO:
        credentials->type = policy->psk_file ? TLS_TYPE_PSK : TLS_TYPE_X509;
        return 0;
    case TLS_TYPE_X509:
    case TLS_TYPE_PSK:
        credentials->type = policy->type;
        return 0;
    case TLS_TYPE_ANON:
        break;
    }
    return tls_hint(reason,
                    tls_fail(reason, EINVAL, "anonymous TLS authenticates nobody: anyone can be the server"),
                    "use pre-shared keys or X.509 certificates");
}

static int load(struct tls_credentials *credentials, const struct tls_policy *policy,
                struct tls_reason *reason)
{
    int r = choose_type(credentials, policy, reason);

    credentials->no_verify = policy->no_verify;
    if (r == 0)
        r = load_priority(credentials, policy, reason);
    if (r < 0)
        return r;
    return credentials->type == TLS_TYPE_PSK ? tls_load_psk(credentials, policy, reason)
                                             : tls_load_x509(credentials, policy, reason);
}

int tls_credentials_load(struct tls_credentials **ret, const struct tls_policy *policy,
                         struct tls_reason *reason)
{
    struct tls_credentials *credentials;
    int r = gnutls_calls_load(reason);

    if (r < 0)
        return r;
    credentials = calloc(1, sizeof *credentials);
    if (!credentials)
        return tls_fail(reason, ENOMEM, "out of memory");
    r = load(credentials, policy, reason);
    if (r < 0) {
        tls_credentials_free(credentials);
        return r;
    }
    *ret = credentials;
    return 0;
}

void tls_credentials_free(struct tls_credentials *credentials)
{
    if (!credentials)
        return;
    if (credentials->psk)
        gnutls.psk_free_client_credentials(credentials->psk);
    if (credentials->x509)
        gnutls.certificate_free_credentials(credentials->x509);
    if (credentials->priority)
        gnutls.priority_deinit(credentials->priority);
    secret_free(&credentials->key);
    free(credentials->user);
    free(credentials->trust);
    free(credentials);
}
