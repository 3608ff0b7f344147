/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Protection of one record of data: RFC 8446, 5.2 and 5.3; RFC 5288 and RFC 7905 for TLS 1.2. */
#include <errno.h>
#include <string.h>

#include "bulk.h"

#define EXPLICIT_NONCE 8
#define AAD_MAX        13

static void put_u64(uint8_t *into, uint64_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 8)
        into[i] = (uint8_t)value;
}

static uint64_t get_u64(const uint8_t *from)
{
    uint64_t value = 0;

    for (int i = 0; i < 8; i++)
        value = value << 8 | from[i];
    return value;
}

int bulk_format_fill(struct bulk_format *format, const struct tls_session *session, struct tls_reason *reason)
{
    gnutls_protocol_t version = gnutls.protocol_get_version(session->gnutls);

    *format = (struct bulk_format){
        .algorithm = gnutls.cipher_get(session->gnutls),
        .tls13 = version == GNUTLS_TLS1_3,
        .limit = BULK_RECORD_MAX,
    };
    if ((version != GNUTLS_TLS1_3 && version != GNUTLS_TLS1_2) ||
        gnutls.mac_get(session->gnutls) != GNUTLS_MAC_AEAD)
        return tls_fail(reason, EOPNOTSUPP, "%s with the cipher %s is not for bulk data", session->version,
                        session->cipher);
    if (session->record_limit > 0 && session->record_limit < format->limit)
        format->limit = session->record_limit;
    format->explicit_nonce = !format->tls13 && format->algorithm != GNUTLS_CIPHER_CHACHA20_POLY1305;
    format->prefix = BULK_HEADER + (format->explicit_nonce ? EXPLICIT_NONCE : 0);
    format->tag = gnutls.cipher_get_tag_size(format->algorithm);
    format->suffix = format->tag + (format->tls13 ? 1 : 0);
    return 0;
}

int bulk_keys_load(struct bulk_keys *keys, const struct bulk_format *format, gnutls_session_t handle,
                   unsigned read)
{
    size_t iv_size = format->explicit_nonce ? BULK_NONCE - EXPLICIT_NONCE : BULK_NONCE;
    gnutls_datum_t key, iv; /* GnuTLS's own memory */
    uint8_t sequence[8];
    int r = gnutls.record_get_state(handle, read, NULL, &iv, &key, sequence);

    bulk_keys_clear(keys);
    if (r < 0 || iv.size < iv_size)
        return -EOPNOTSUPP;
    memcpy(keys->iv, iv.data, iv_size);
    keys->sequence = get_u64(sequence);
    r = gnutls.aead_cipher_init(&keys->cipher, format->algorithm, &key);
    if (r < 0)
        keys->cipher = NULL;
    return r == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : r < 0 ? -EOPNOTSUPP : 0;
}

void bulk_keys_clear(struct bulk_keys *keys)
{
    if (keys->cipher)
        gnutls.aead_cipher_deinit(keys->cipher);
    explicit_bzero(keys, sizeof *keys);
}

/* carried: the explicit part, in the record. */
static void make_nonce(const struct bulk_keys *keys, const struct bulk_format *format, const uint8_t *carried,
                       uint8_t nonce[static BULK_NONCE])
{
    uint8_t sequence[8];

    memcpy(nonce, keys->iv, BULK_NONCE);
    if (format->explicit_nonce) {
        memcpy(nonce + BULK_NONCE - EXPLICIT_NONCE, carried, EXPLICIT_NONCE);
        return;
    }
    put_u64(sequence, keys->sequence);
    for (size_t i = 0; i < sizeof sequence; i++)
        nonce[BULK_NONCE - sizeof sequence + i] ^= sequence[i];
}

/* What is authenticated beside the data. plain: bytes of plaintext, which only TLS 1.2 counts. */
static size_t make_aad(const struct bulk_keys *keys, const struct bulk_format *format, const uint8_t *header,
                       size_t plain, uint8_t aad[static AAD_MAX])
{
    if (format->tls13) {
        memcpy(aad, header, BULK_HEADER);
        return BULK_HEADER;
    }
    put_u64(aad, keys->sequence);
    memcpy(aad + 8, header, 3);
    aad[11] = (uint8_t)(plain >> 8);
    aad[12] = (uint8_t)plain;
    return AAD_MAX;
}

static void put_header(const struct bulk_keys *keys, const struct bulk_format *format, uint8_t *record,
                       size_t body)
{
    size_t length = format->prefix - BULK_HEADER + body;

    record[0] = BULK_TYPE_APPLICATION;
    record[1] = 3;
    record[2] = 3;
    record[3] = (uint8_t)(length >> 8);
    record[4] = (uint8_t)length;
    /* Never twice the same under one key: the sequence number, as GnuTLS does. */
    if (format->explicit_nonce)
        put_u64(record + BULK_HEADER, keys->sequence);
}

ssize_t bulk_seal(struct bulk_keys *keys, const struct bulk_format *format, uint8_t *record, size_t size)
{
    uint8_t *body = record + format->prefix;
    size_t plain = size, sealed = size + format->suffix, aad_size;
    uint8_t nonce[BULK_NONCE], aad[AAD_MAX];

    if (!keys->cipher || keys->sequence == UINT64_MAX)
        return -EPROTO;
    if (format->tls13)
        body[plain++] = BULK_TYPE_APPLICATION;
    put_header(keys, format, record, sealed);
    make_nonce(keys, format, record + BULK_HEADER, nonce);
    aad_size = make_aad(keys, format, record, size, aad);
    if (gnutls.aead_cipher_encrypt(keys->cipher, nonce, sizeof nonce, aad, aad_size, format->tag, body, plain,
                                   body, &sealed) < 0)
        return -EPROTO;
    keys->sequence++;
    return (ssize_t)(format->prefix + sealed);
}

/* TLS 1.3: the content type is the last byte that is not 0. */
static ssize_t strip_padding(const uint8_t *plain, size_t size, uint8_t *type)
{
    while (size > 0 && plain[size - 1] == 0)
        size--;
    if (size == 0)
        return -EPROTO;
    *type = plain[size - 1];
    return (ssize_t)(size - 1);
}

static ssize_t decrypt(const struct bulk_keys *keys, const struct bulk_format *format, const uint8_t *record,
                       size_t size, uint8_t *into)
{
    size_t body = size - format->prefix, plain = body;
    uint8_t nonce[BULK_NONCE], aad[AAD_MAX];
    size_t aad_size = make_aad(keys, format, record, body - format->tag, aad);

    make_nonce(keys, format, record + BULK_HEADER, nonce);
    if (gnutls.aead_cipher_decrypt(keys->cipher, nonce, sizeof nonce, aad, aad_size, format->tag,
                                   record + format->prefix, body, into, &plain) < 0)
        return -EBADMSG;
    return (ssize_t)plain;
}

ssize_t bulk_open(struct bulk_keys *keys, const struct bulk_format *format, const uint8_t *record,
                  size_t size, uint8_t *into, uint8_t *type)
{
    ssize_t plain;

    *type = record[0];
    if (!keys->cipher || keys->sequence == UINT64_MAX || size < format->prefix + format->tag)
        return -EPROTO;
    if (*type != BULK_TYPE_APPLICATION)
        return format->tls13 || *type < BULK_TYPE_ALERT || *type > BULK_TYPE_HANDSHAKE ? -EPROTO : 0;
    plain = decrypt(keys, format, record, size, into);
    if (plain >= 0 && format->tls13)
        plain = strip_padding(into, (size_t)plain, type);
    if (plain > BULK_RECORD_MAX)
        return -EPROTO;
    if (plain >= 0 && *type == BULK_TYPE_APPLICATION)
        keys->sequence++;
    return plain;
}
