/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * TLS for NBD, client side, with GnuTLS: credentials and policy, a handshake that never blocks, records while the NBD options
 * are negotiated, and then the session's keys into the kernel (Documentation/networking/tls.rst), which goes on
 * with no process in the data path. Nothing here prints, opens sockets, or knows of NBD.
 *
 * Secrets (PSK, private keys, traffic keys) live in memory of this library only, locked and left out of core dumps where
 * the system allows, and are wiped on every path.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Why, for a person: one line, escaped for a terminal, never a secret. Set whenever -errno is returned. */
struct tls_reason {
    char text[512];
    char hint[384];
};

enum tls_type {
    TLS_TYPE_AUTO, /* PSK when a PSK file is given, else X.509 */
    TLS_TYPE_X509,
    TLS_TYPE_PSK,
    TLS_TYPE_ANON, /* refused: it authenticates nobody */
};

/* What the user asked for. Strings are the caller's and need live only for the call; NULL: not given. */
struct tls_policy {
    enum tls_type type;
    const char *psk_file;     /* lines of user:hex (qemu, libnbd, psktool) */
    const char *user;         /* PSK identity; NULL: the login name, then the file's only user (or an error that names them) */
    const char *certificates; /* folder with ca-cert.pem client-cert.pem client-key.pem ca-crl.pem; NULL: /etc/pki/nbdctl where it
                                 exists, then the system's trust store */
    bool no_verify;           /* --tls-verify-peer=no: X.509 without any check of the server */
    const char *priority;     /* GnuTLS priority string; NULL: ours */
    bool allow_tls12;         /* TLS 1.2 with GCM as a fallback */
};

/* Loaded once, used by every handshake of a process without touching a file again; may be shared by threads. */
struct tls_credentials;

/*
 * -ENOENT (names the file), -EACCES (a secret that group or others can read: names the mode wanted, 0600), -EINVAL (PEM or hex that
 * does not parse, with file and line), -ENOKEY (user not in the file), -EKEYEXPIRED...
 */
int tls_credentials_load(struct tls_credentials **ret, const struct tls_policy *policy, struct tls_reason *reason);
void tls_credentials_free(struct tls_credentials *credentials); /* wipes; NULL is fine */

/* The parser of PSK files alone, free of I/O (fuzzed): finds user (NULL: the only one). *key is raw bytes, owned by the caller who wipes it. */
int tls_psk_parse(const char *text, size_t size, const char *user, char **found_user, uint8_t **key, size_t *key_size,
                  struct tls_reason *reason);

/* One connection. The socket must be non-blocking; it stays the caller's. */
struct tls_session;

/* hostname: what the server's certificate must carry (a DNS name, or an IP address); NULL only with PSK or no_verify. */
int tls_session_new(struct tls_session **ret, const struct tls_credentials *credentials, int fd,
                    const char *hostname, struct tls_reason *reason);
void tls_session_free(struct tls_session *session); /* wipes; no close_notify; NULL is fine */

/*
 * Goes on with the handshake without blocking: 0 when it is done and the peer is verified; -EAGAIN and the poll(2) event to wait for; or
 * -errno, each cause with its own message: -EKEYREJECTED (PSK wrong or unknown, certificate not
 * trusted, revoked, wrong name, weak), -EKEYEXPIRED, -ECONNRESET (closed midway), -EPROTO (alert, garbage)...
 */
int tls_handshake(struct tls_session *session, short *events, struct tls_reason *reason);

/* As recv(2) and send(2) that never block: count, 0 (the peer ended with close_notify), -EAGAIN with *events, -errno. */
ssize_t tls_read(struct tls_session *session, uint8_t *into, size_t size, short *events, struct tls_reason *reason);
ssize_t tls_write(struct tls_session *session, const uint8_t *from, size_t size, short *events, struct tls_reason *reason);

/* Tells the peer that we end (close_notify), as far as the socket takes it without blocking. */
void tls_bye(struct tls_session *session);

/* What was negotiated; strings are static or live as long as the session. */
struct tls_info {
    const char *version;      /* "TLS 1.3" */
    const char *cipher;       /* "CHACHA20-POLY1305", "AES-128-GCM" */
    const char *key_exchange; /* "ECDHE-PSK X25519", "ECDHE X25519 with RSA-PSS"... */
};
void tls_session_info(const struct tls_session *session, struct tls_info *info);

/* Whether nothing of the peer's is left in this library (check_pending) and nothing more has come: only then may the kernel take over. */
int tls_check_silent(struct tls_session *session, struct tls_reason *reason);

/*
 * Moves the session into the kernel: TCP_ULP "tls", TLS_TX and TLS_RX, key material wiped. On success the fd carries NBD bytes, which the kernel
 * encrypts and decrypts; the session is spent (only tls_session_free is left, which sends nothing). -ENOENT (*missing names
 * the module to load: "tls", or the crypto algorithm, and the call may be repeated after loading it as long as *touched is false),
 * -EOPNOTSUPP (unix socket, cipher, peer's record size limit, kernel) with the reason: when *touched is false the session is as it was and
 * the relay can have it.
 */
int tls_to_kernel(struct tls_session *session, const char **missing, bool *touched, struct tls_reason *reason);

/* Kernel modules that kTLS needs for any suite we offer, "tls" first; ended by NULL. For libkmod, and for initramfs images. */
extern const char *const tls_kernel_modules[];
