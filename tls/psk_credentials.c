/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "psk.h"
#include "tls_cleanup.h"
#include "tls_internal.h"

static int copy_to_gnutls(gnutls_datum_t *datum, const void *from, size_t size)
{
    datum->data = (*gnutls.malloc)(size);
    if (!datum->data)
        return GNUTLS_E_MEMORY_ERROR;
    memcpy(datum->data, from, size);
    datum->size = (unsigned)size;
    return 0;
}

/* GnuTLS wipes what it got here at the end of the handshake. */
static int give_key(gnutls_session_t handle, gnutls_datum_t *user, gnutls_datum_t *key)
{
    const struct tls_session *session = gnutls.session_get_ptr(handle);
    const struct tls_credentials *credentials = session->credentials;

    if (copy_to_gnutls(user, credentials->user, strlen(credentials->user)) < 0)
        return GNUTLS_E_MEMORY_ERROR;
    if (copy_to_gnutls(key, credentials->key.data, credentials->key.size) < 0) {
        (*gnutls.free)(user->data);
        user->data = NULL;
        return GNUTLS_E_MEMORY_ERROR;
    }
    return 0;
}

/* Who runs us, as libnbd guesses it; false when the system does not know. */
static bool login_name(char *name, size_t size)
{
    char buffer[4096];
    struct passwd entry, *found = NULL;

    if (getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &found) != 0 || !found ||
        strlen(entry.pw_name) >= size)
        return false;
    strcpy(name, entry.pw_name);
    return true;
}

static int choose(const struct secret *file, const char *user, struct psk_entry *entry,
                  struct tls_reason *reason)
{
    const char *text = (const char *)file->data;
    char name[PSK_USER_MAX + 1];

    if (!user && login_name(name, sizeof name)) {
        int r = psk_find(text, file->size, name, entry, reason);

        if (r != -ENOKEY)
            return r;
    }
    return psk_find(text, file->size, user, entry, reason);
}

static int keep_key(struct tls_credentials *credentials, const struct psk_entry *entry,
                    struct tls_reason *reason)
{
    credentials->user = strdup(entry->user);
    if (!credentials->user || secret_new(&credentials->key, entry->hex_size / 2) < 0)
        return tls_fail(reason, ENOMEM, "out of memory");
    psk_decode(entry, credentials->key.data);
    return 0;
}

int tls_load_psk(struct tls_credentials *credentials, const struct tls_policy *policy,
                 struct tls_reason *reason)
{
    _cleanup_secret_ struct secret file = {0};
    struct psk_entry entry;
    int r;

    if (!policy->psk_file)
        return tls_fail(reason, EINVAL, "TLS with pre-shared keys needs a file of keys");
    r = secret_read_file(&file, policy->psk_file, PSK_FILE_MAX, true, reason);
    if (r < 0)
        return r;
    r = choose(&file, policy->user, &entry, reason);
    if (r < 0)
        return tls_within(reason, r, "%s", tls_shown(policy->psk_file));
    r = keep_key(credentials, &entry, reason);
    if (r < 0)
        return r;
    if (gnutls.psk_allocate_client_credentials(&credentials->psk) < 0)
        return tls_fail(reason, ENOMEM, "out of memory");
    gnutls.psk_set_client_credentials_function2(credentials->psk, give_key);
    return 0;
}
