/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * TLS for NBD, client side, with GnuTLS: credentials and policy, a handshake that never blocks, records while
 * the NBD options are negotiated, and then the session's keys into the kernel
 * (Documentation/networking/tls.rst), which goes on with no process in the data path. Nothing here prints,
 * opens sockets, or knows of NBD.
 *
 * Secrets: the pre-shared key and the private key are read into memory of this library that is locked, left
 * out of core dumps where the system allows, and wiped on every path. What GnuTLS itself needs during a
 * session (traffic keys, its form of the private key, the pre-shared key during a handshake) is in its own
 * heap, which it wipes: a process that must not leave them in a core dump says so with
 * prctl(PR_SET_DUMPABLE).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Why, for a person: one line, escaped for a terminal, never a secret. Set whenever -errno is returned. */
struct tls_reason {
    char text[512];
    char hint[384]; /* what to try; may be empty */
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
    const char *psk_file; /* lines of user:hex (qemu, libnbd, psktool) */
    const char *user;     /* PSK identity; NULL: the login name, then the file's only user (or an error that
                             names them) */
    /*
     * Folder with ca-cert.pem, client-cert.pem and client-key.pem (both or neither), ca-crl.pem (optional).
     * One that is named must have a ca-cert.pem (unless no_verify). NULL: /etc/pki/nbdctl where that exists;
     * without a ca-cert.pem there, or without the folder, the authorities are the system's trust store.
     */
    const char *certificates;
    bool no_verify;       /* --tls-verify-peer=no: X.509 without any check of the server */
    const char *priority; /* GnuTLS priority string; NULL: ours. Below TLS 1.2, without peer authentication or
                             with PSK but no (EC)DHE it never goes; ECDHE-PSK and DHE-PSK are added for PSK */
    bool allow_tls12;     /* TLS 1.2 with AEAD ciphers as a fallback; goes with our priority string only */
};

/*
 * Loaded once, used by every handshake of a process without touching a file again (but by a system trust
 * store that is a PKCS#11 module, as on Fedora); may be shared by threads.
 */
struct tls_credentials;

/*
 * The credentials, owned by the caller, or -errno:
 *   -ENOENT       a file or folder is not there (named; also the system has no trust store)
 *   -EACCES       a secret that group or others can reach (the mode wanted, 0600, is named) or that is
 *                 another user's; or no permission to read
 *   -EINVAL       PEM or hex that does not parse (file, line), a file without a key, a certificate and a key
 *                 that are no pair, a wrong priority string, something that is no regular file, ANON
 *   -ENOKEY       there is no key for the user, or there are several and none was chosen
 *   -EKEYEXPIRED  our own certificate has expired or is not valid yet; the revocation list is out of date
 *                 (told here only: a process that stays goes on with the list it has loaded)
 *   -ELIBACC, -ELIBBAD  GnuTLS is not installed, or too old
 *   -EFBIG, -ENOMEM and the errors of open(2) and read(2)
 */
int tls_credentials_load(struct tls_credentials **ret, const struct tls_policy *policy,
                         struct tls_reason *reason);
void tls_credentials_free(struct tls_credentials *credentials); /* wipes; NULL is fine */

/*
 * The parser of PSK files alone, free of I/O (fuzzed): finds user (NULL: the only one). *key is raw bytes,
 * owned by the caller who wipes it; *found_user is the caller's too. -EINVAL, -ENOKEY, -EFBIG, -ENOMEM.
 */
int tls_psk_parse(const char *text, size_t size, const char *user, char **found_user, uint8_t **key,
                  size_t *key_size, struct tls_reason *reason);

/* One connection; for one thread at a time. The socket must be connected; it stays the caller's. */
struct tls_session;

/*
 * hostname: what the server's certificate must carry, a DNS name or an IP address (brackets and a zone are
 * dropped); NULL only with PSK or no_verify. A DNS name is also what the server is told (SNI). The
 * credentials must outlive the session.
 */
int tls_session_new(struct tls_session **ret, const struct tls_credentials *credentials, int fd,
                    const char *hostname, struct tls_reason *reason);
void tls_session_free(struct tls_session *session); /* wipes; no close_notify; NULL is fine */

/*
 * Goes on with the handshake without blocking: 0 when it is done and the peer is authenticated, or -errno:
 *   -EAGAIN        poll(2) for *events and call again; the deadline is the caller's
 *   -EKEYREJECTED  the PSK is wrong or unknown; the certificate is not trusted, revoked, for another name,
 *                  weak...; or the server refuses ours; each cause with its own message
 *   -EKEYEXPIRED   the server's certificate (or, it says, ours) has expired or is not valid yet, and nothing
 *                  else is wrong with it
 *   -ECONNRESET    closed midway; other errors of the socket as they are
 *   -EPROTO        an alert, garbage, no parameters in common
 * The session is over after all but -EAGAIN. In TLS 1.3 a server judges our certificate after this has
 * returned 0: its alert then comes from tls_read(), with the same errors.
 */
int tls_handshake(struct tls_session *session, short *events, struct tls_reason *reason);

/*
 * As recv(2) and send(2) that never block: a count, 0 (read: the peer ended with close_notify), -EAGAIN with
 * *events to poll(2) for, or -errno as above. An end without close_notify is -ECONNRESET. After -EAGAIN from
 * tls_write() the same bytes must be written again before any others (they may have moved, and more may
 * follow them).
 */
ssize_t tls_read(struct tls_session *session, uint8_t *into, size_t size, short *events,
                 struct tls_reason *reason);
ssize_t tls_write(struct tls_session *session, const uint8_t *from, size_t size, short *events,
                  struct tls_reason *reason);

/* Tells the peer that we end (close_notify), as far as the socket takes it without blocking. */
void tls_bye(struct tls_session *session);

/*
 * What was negotiated, also after tls_to_kernel(); NULL and "" before the handshake is done. Strings are
 * static or live as long as the session.
 */
struct tls_info {
    const char *version;      /* "TLS 1.3" */
    const char *cipher;       /* "CHACHA20-POLY1305", "AES-128-GCM" */
    const char *key_exchange; /* "ECDHE-PSK X25519", "ECDHE X25519 with RSA-PSS-RSAE-SHA256"... */
};
void tls_session_info(const struct tls_session *session, struct tls_info *info);

/*
 * Whether nothing of the peer's is left in this library and nothing more has come: only then may the kernel
 * take over. Takes in what carries no data (session tickets). -EPROTO: data that nobody asked for; -EAGAIN: a
 * record has arrived in part, wait for POLLIN and ask again, or give up; -EBUSY: bytes of ours have not been
 * sent; -ECONNRESET and the other errors of tls_read().
 */
int tls_check_silent(struct tls_session *session, struct tls_reason *reason);

/*
 * Moves the session into the kernel: TCP_ULP "tls", TLS_TX and TLS_RX, key material wiped. On success the fd
 * carries NBD bytes, which the kernel encrypts and decrypts; the session is spent: only tls_session_info()
 * and tls_session_free(), which sends nothing, are left. Else -errno:
 *   -ENOENT      a kernel module is not loaded: *missing names it (by an alias where it is a cipher). Load it
 *                and call again, also when loading failed: it may be another one that matters. Each is named
 *                once, then -EOPNOTSUPP follows
 *   -EOPNOTSUPP  unix socket, cipher, peer's record size limit, kernel; a change of keys under way
 *   others       of tls_check_silent()
 * As long as *touched is false the session is as it was and a relay can have it; when it is true, the
 * connection is lost.
 */
int tls_to_kernel(struct tls_session *session, const char **missing, bool *touched,
                  struct tls_reason *reason);

/*
 * Kernel modules that kTLS can need for any suite we offer, "tls" first, the ciphers' by the kernel's own
 * aliases; not every kernel has or needs each. Ended by NULL. For libkmod, and for initramfs images.
 */
extern const char *const tls_kernel_modules[];

/*
 * Data by the hundred records, for a process that only copies (a relay): sealed and opened in buffers of its
 * own, many records in one system call, without memory from anywhere once it is made. One thread may read
 * while another writes, and both block. The peer's KeyUpdate, tickets and alerts are taken care of.
 */
struct tls_bulk;

#define TLS_BULK_PARTS 8

/*
 * Of a session that is silent (tls_check_silent(), whose errors these are too); -EOPNOTSUPP: the cipher. The
 * session must outlive it, and has its transport back after tls_bulk_free(), but is of no use for data then
 * when some has passed. The socket must block from now on.
 */
int tls_bulk_new(struct tls_bulk **ret, struct tls_session *session, struct tls_reason *reason);
void tls_bulk_free(struct tls_bulk *bulk); /* wipes; sends nothing; NULL is fine */

/*
 * What the peer has sent: at least a byte, *data living until the next call; 0 when it ended with
 * close_notify; or -errno as tls_read(). Not a byte is given out that was not authentic.
 */
ssize_t tls_bulk_read(struct tls_bulk *bulk, const uint8_t **data, struct tls_reason *reason);

/*
 * To write: fill the parts from the first on, each to its end before the next (readv(2) does), and say how
 * much it was. Returns how many parts there are.
 */
size_t tls_bulk_room(struct tls_bulk *bulk, struct iovec parts[static TLS_BULK_PARTS]);
int tls_bulk_write(struct tls_bulk *bulk, size_t size, struct tls_reason *reason);

/* Of the writing thread: close_notify; nothing may be written afterwards. */
void tls_bulk_bye(struct tls_bulk *bulk);

/*
 * In a forked process that has to do with nothing but this session: wipes its copy of the keys that only a
 * handshake needs. No handshake can be done with the credentials afterwards.
 */
void tls_bulk_drop_secrets(struct tls_bulk *bulk);
