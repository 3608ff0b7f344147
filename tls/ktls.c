/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The session's keys into the kernel (Documentation/networking/tls.rst, include/uapi/linux/tls.h). */
#include <errno.h>
#include <gnutls/socket.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "tls_internal.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define RECORD_MAX 16384 /* plaintext bytes; what the kernel fills its records with */

/*
 * By the aliases under which the kernel itself asks for them: the files are named differently from version to
 * version, and an alias brings the processor's own implementation along.
 */
const char *const tls_kernel_modules[] = {
    "tls",        "crypto-gcm",     "crypto-ctr",      "crypto-ghash",
    "crypto-aes", "crypto-rfc7539", "crypto-chacha20", "crypto-poly1305",
    NULL};

static const char *const modules_gcm[] = {"crypto-gcm", "crypto-ctr", "crypto-ghash", "crypto-aes", NULL};
static const char *const modules_chacha[] = {"crypto-rfc7539", "crypto-chacha20", "crypto-poly1305", NULL};

/* What setsockopt(2) takes for one direction; wiped after use. */
union crypto_info {
    struct tls_crypto_info info;
    struct tls12_crypto_info_aes_gcm_128 aes_gcm_128;
    struct tls12_crypto_info_aes_gcm_256 aes_gcm_256;
    struct tls12_crypto_info_chacha20_poly1305 chacha20_poly1305;
};

struct record_state {
    gnutls_datum_t key, iv; /* GnuTLS's own memory */
    uint8_t sequence[8];
};

/* Where each cipher's parts are. */
struct cipher {
    gnutls_cipher_algorithm_t algorithm;
    uint16_t type;
    const char *const *modules;
    size_t size, iv, iv_size, key, key_size, salt, salt_size, sequence;
};

#define LAYOUT(member, prefix)                                                                               \
    .type = prefix, .size = sizeof(struct tls12_crypto_info_##member),                                       \
    .iv = offsetof(struct tls12_crypto_info_##member, iv), .iv_size = prefix##_IV_SIZE,                      \
    .key = offsetof(struct tls12_crypto_info_##member, key), .key_size = prefix##_KEY_SIZE,                  \
    .salt = offsetof(struct tls12_crypto_info_##member, salt), .salt_size = prefix##_SALT_SIZE,              \
    .sequence = offsetof(struct tls12_crypto_info_##member, rec_seq)

static const struct cipher ciphers[] = {
    {.algorithm = GNUTLS_CIPHER_AES_128_GCM,
     .modules = modules_gcm,
     LAYOUT(aes_gcm_128, TLS_CIPHER_AES_GCM_128)},
    {.algorithm = GNUTLS_CIPHER_AES_256_GCM,
     .modules = modules_gcm,
     LAYOUT(aes_gcm_256, TLS_CIPHER_AES_GCM_256)},
    {.algorithm = GNUTLS_CIPHER_CHACHA20_POLY1305,
     .modules = modules_chacha,
     LAYOUT(chacha20_poly1305, TLS_CIPHER_CHACHA20_POLY1305)},
};

static const struct cipher *find_cipher(gnutls_cipher_algorithm_t algorithm)
{
    for (size_t i = 0; i < sizeof ciphers / sizeof ciphers[0]; i++)
        if (ciphers[i].algorithm == algorithm)
            return &ciphers[i];
    return NULL;
}

static int check_socket(int fd, struct tls_reason *reason)
{
    int domain = 0, protocol = 0;
    socklen_t size = sizeof domain;

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0)
        return tls_fail(reason, errno, "cannot examine the socket: %s", strerror(errno));
    size = sizeof protocol;
    if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) < 0)
        return tls_fail(reason, errno, "cannot examine the socket: %s", strerror(errno));
    if ((domain == AF_INET || domain == AF_INET6) && protocol == IPPROTO_TCP)
        return 0;
    return tls_fail(reason, EOPNOTSUPP, "the kernel has TLS for TCP only, and this is %s",
                    domain == AF_UNIX ? "a unix socket" : "another kind of connection");
}

static int check_session(const struct tls_session *session, struct tls_reason *reason)
{
    gnutls_protocol_t version = gnutls.protocol_get_version(session->gnutls);

    if (version != GNUTLS_TLS1_2 && version != GNUTLS_TLS1_3)
        return tls_fail(reason, EOPNOTSUPP, "the kernel has no %s", session->version);
    if (session->record_limit && session->record_limit < RECORD_MAX)
        return tls_fail(reason, EOPNOTSUPP,
                        "the server takes records of at most %zu bytes, the kernel sends %d",
                        session->record_limit, RECORD_MAX);
    if (session->rekey_owed)
        return tls_fail(reason, EOPNOTSUPP, "the server has just changed its keys and may wait for ours");
    return 0;
}

/* Each module is named once, whether loading it helped or not: the kernel may have it built in, or need it
 * not. */
static int module_missing(struct tls_session *session, const char *const *modules, const char *what,
                          const char **missing, struct tls_reason *reason)
{
    *missing = modules[session->next_module];
    if (!*missing)
        return tls_fail(reason, EOPNOTSUPP, "the kernel has no %s", what);
    session->next_module++;
    return tls_fail(reason, ENOENT, "the kernel has no %s: its module %s is not loaded", what, *missing);
}

/* Without keys the socket goes on as before, so nothing is lost by this. */
static int set_ulp(struct tls_session *session, const char **missing, struct tls_reason *reason)
{
    static const char *const modules[] = {"tls", NULL};

    if (session->ulp_set)
        return 0;
    if (setsockopt(session->fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") == 0) {
        session->ulp_set = true;
        session->next_module = 0;
        return 0;
    }
    if (errno == ENOENT)
        return module_missing(session, modules, "TLS", missing, reason);
    if (errno == ENOTCONN)
        return tls_fail(reason, ECONNRESET, "the server closed the connection");
    return tls_fail(reason, EOPNOTSUPP, "the kernel refuses TLS on this socket: %s", strerror(errno));
}

static int fill(union crypto_info *crypto, const struct cipher *cipher, gnutls_protocol_t version,
                const struct record_state *state)
{
    uint8_t *bytes = (uint8_t *)crypto;
    bool explicit_nonce = version == GNUTLS_TLS1_2 && cipher->salt_size > 0;
    size_t iv_size = explicit_nonce ? cipher->salt_size : cipher->salt_size + cipher->iv_size;

    if (state->key.size != cipher->key_size || state->iv.size < iv_size)
        return -EOPNOTSUPP;
    crypto->info.version = version == GNUTLS_TLS1_3 ? TLS_1_3_VERSION : TLS_1_2_VERSION;
    crypto->info.cipher_type = cipher->type;
    memcpy(bytes + cipher->key, state->key.data, cipher->key_size);
    memcpy(bytes + cipher->salt, state->iv.data, cipher->salt_size);
    /* RFC 5288: the nonce goes with each record, and GnuTLS takes the sequence number for it. */
    memcpy(bytes + cipher->iv, explicit_nonce ? state->sequence : state->iv.data + cipher->salt_size,
           cipher->iv_size);
    memcpy(bytes + cipher->sequence, state->sequence, sizeof state->sequence);
    return 0;
}

/* 0 or -errno of setsockopt(2). */
static int install(const struct tls_session *session, const struct cipher *cipher, int direction)
{
    struct record_state state;
    union crypto_info crypto = {0};
    int r = gnutls.record_get_state(session->gnutls, direction == TLS_RX, NULL, &state.iv, &state.key,
                                    state.sequence);

    r = r < 0 ? -EOPNOTSUPP : fill(&crypto, cipher, gnutls.protocol_get_version(session->gnutls), &state);
    if (r == 0 && setsockopt(session->fd, SOL_TLS, direction, &crypto, (socklen_t)cipher->size) < 0)
        r = -errno;
    explicit_bzero(&crypto, sizeof crypto);
    return r;
}

static int install_both(struct tls_session *session, const struct cipher *cipher, const char **missing,
                        bool *touched, struct tls_reason *reason)
{
    int r = install(session, cipher, TLS_TX);

    if (r == -ENOENT)
        return module_missing(session, cipher->modules, session->cipher, missing, reason);
    if (r < 0)
        return tls_fail(reason, EOPNOTSUPP, "the kernel does not take the session's %s keys (%s): %s",
                        session->cipher, session->version, strerror(-r));
    *touched = true;
    r = install(session, cipher, TLS_RX);
    return r < 0 ? tls_fail(reason, EOPNOTSUPP, "the kernel took only half of the session's %s keys: %s",
                            session->cipher, strerror(-r))
                 : 0;
}

/*
 * A GnuTLS that was told to use kTLS by itself: 1 when the kernel has the keys already. It does not on a
 * transport of our own, but keys must never be installed twice.
 */
static int check_gnutls(const struct tls_session *session, bool *touched, struct tls_reason *reason)
{
#if GNUTLS_VERSION_NUMBER >= 0x030703
    gnutls_transport_ktls_enable_flags_t enabled = gnutls.transport_is_ktls_enabled(session->gnutls);

    *touched = enabled != 0;
    if (enabled != 0 && enabled != GNUTLS_KTLS_DUPLEX)
        return tls_fail(reason, EOPNOTSUPP, "GnuTLS gave the kernel only half of the session's keys");
    return enabled == GNUTLS_KTLS_DUPLEX;
#else
    (void)session, (void)touched, (void)reason;
    return 0;
#endif
}

static int hand_over(struct tls_session *session, const char **missing, bool *touched,
                     struct tls_reason *reason)
{
    const struct cipher *cipher = find_cipher(gnutls.cipher_get(session->gnutls));
    int r = check_gnutls(session, touched, reason);

    if (r != 0)
        return r < 0 ? r : 0;
    if (!cipher)
        return tls_fail(reason, EOPNOTSUPP, "the kernel does not take over the cipher %s", session->cipher);
    r = check_session(session, reason);
    if (r == 0)
        r = tls_check_silent(session, reason);
    if (r == 0)
        r = set_ulp(session, missing, reason);
    return r < 0 ? r : install_both(session, cipher, missing, touched, reason);
}

int tls_to_kernel(struct tls_session *session, const char **missing, bool *touched, struct tls_reason *reason)
{
    int r;

    *missing = NULL;
    *touched = false;
    if (!session->gnutls || !session->established)
        return tls_fail(reason, EINVAL, "there is no TLS session to hand over");
    r = check_socket(session->fd, reason);
    if (r == 0)
        r = hand_over(session, missing, touched, reason);
    if (r < 0)
        return r;
    /* Wipes the keys; sends nothing. */
    gnutls.deinit(session->gnutls);
    session->gnutls = NULL;
    return 0;
}
