/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ktls_records.h"

#include <errno.h>
#include <linux/tls.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

/* The keys come with it: they do not stay. */
union crypto {
    struct tls_crypto_info info;
    struct tls12_crypto_info_aes_gcm_128 aes_128;
    struct tls12_crypto_info_aes_gcm_256 aes_256;
};

static int sequence_of(const union crypto *crypto, const unsigned char **sequence)
{
    switch (crypto->info.cipher_type) {
    case TLS_CIPHER_AES_GCM_128:
        *sequence = crypto->aes_128.rec_seq;
        return 0;
    case TLS_CIPHER_AES_GCM_256:
        *sequence = crypto->aes_256.rec_seq;
        return 0;
    default:
        return -EOPNOTSUPP;
    }
}

/* The kernel wants to be asked for just the size that the cipher has. */
static int ask(int fd, int direction, union crypto *crypto)
{
    const size_t sizes[] = {sizeof crypto->aes_128, sizeof crypto->aes_256};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        socklen_t size = (socklen_t)sizes[i];

        if (getsockopt(fd, SOL_TLS, direction, crypto, &size) == 0)
            return 0;
    }
    return -EOPNOTSUPP;
}

static int count(int fd, int direction, uint64_t *records)
{
    const unsigned char *sequence = NULL;
    union crypto crypto = {0};
    int r = ask(fd, direction, &crypto);

    if (r == 0)
        r = sequence_of(&crypto, &sequence);
    *records = 0;
    for (size_t i = 0; r == 0 && i < TLS_CIPHER_AES_GCM_128_REC_SEQ_SIZE; i++)
        *records = *records << 8 | sequence[i];
    explicit_bzero(&crypto, sizeof crypto);
    return r;
}

int ktls_records(int fd, uint64_t *records)
{
    uint64_t sent;
    int r = count(fd, TLS_RX, records);

    if (r == 0)
        r = count(fd, TLS_TX, &sent);
    if (r == 0 && sent > *records)
        *records = sent;
    return r;
}
