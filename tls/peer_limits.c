/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the server says in the handshake and after it that matters to the kernel and that GnuTLS keeps to
 * itself: the largest record it takes (RFC 8449), and that it changes its keys.
 */
#include "tls_internal.h"

#define EXTENSION_RECORD_SIZE_LIMIT 28
/* A ServerHello before its extensions: version and random; session id; cipher suite and compression. */
#define HELLO_FIXED                 34
#define HELLO_CHOICE                3

static int take_extension(void *opaque, unsigned id, const unsigned char *data, unsigned size)
{
    struct tls_session *session = opaque;

    if (id == EXTENSION_RECORD_SIZE_LIMIT && size == 2)
        session->record_limit = (size_t)data[0] << 8 | data[1];
    return 0;
}

/* Where TLS 1.2 has them. */
static gnutls_datum_t hello_extensions(const gnutls_datum_t *hello)
{
    size_t skipped = HELLO_FIXED;

    if (hello->size <= skipped)
        return (gnutls_datum_t){0};
    skipped += 1U + hello->data[HELLO_FIXED] + HELLO_CHOICE;
    if (hello->size <= skipped)
        return (gnutls_datum_t){0};
    return (gnutls_datum_t){.data = hello->data + skipped, .size = (unsigned)(hello->size - skipped)};
}

/* In TLS 1.3 the limit counts the byte of the content type. */
static void take_extensions(struct tls_session *session, gnutls_datum_t extensions, size_t overhead)
{
    size_t before = session->record_limit;

    if (extensions.size == 0)
        return;
    gnutls.ext_raw_parse(session, take_extension, &extensions, 0);
    if (session->record_limit > before)
        session->record_limit -= overhead;
}

static int hear(gnutls_session_t handle, unsigned type, unsigned when, unsigned incoming,
                const gnutls_datum_t *message)
{
    struct tls_session *session = gnutls.session_get_ptr(handle);

    (void)when;
    if (!incoming || !message)
        return 0;
    if (type == GNUTLS_HANDSHAKE_SERVER_HELLO)
        take_extensions(session, hello_extensions(message), 0);
    else if (type == GNUTLS_HANDSHAKE_ENCRYPTED_EXTENSIONS)
        take_extensions(session, *message, 1);
    else if (type == GNUTLS_HANDSHAKE_KEY_UPDATE)
        session->rekey_owed = true;
    return 0;
}

void tls_watch_handshake(struct tls_session *session)
{
    gnutls.handshake_set_hook_function(session->gnutls, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_PRE, hear);
}
