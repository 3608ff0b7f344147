/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * TLS sessions moved into the kernel this runs on, for scripts/lab: a GnuTLS server in a thread, loopback
 * TCP; data in both directions compared byte by byte, for every suite that is offered. TAP on stdout. Begins
 * with the kernel modules not loaded, and loads them.
 */
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <linux/tls.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tls.h"
#include "tls_peer.h"
#include "tls_pki.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define HOST       "disk.example"
#define BYTES      (3u * 1024 * 1024 + 17)
#define TIMEOUT_MS 60000

static unsigned tests, failures;

static void result(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void result(bool ok, const char *format, ...)
{
    va_list args;

    printf("%sok %u - ", ok ? "" : "not ", ++tests);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
    failures += !ok;
}

static unsigned char key_bytes[32];
static char *folder, *psk_file;
static struct pki_identity authority, server;

static void make_credentials(void)
{
    char line[128];
    int n = snprintf(line, sizeof line, "alice:");

    gnutls_rnd(GNUTLS_RND_KEY, key_bytes, sizeof key_bytes);
    for (size_t i = 0; i < sizeof key_bytes; i++)
        n += snprintf(line + n, sizeof line - (size_t)n, "%02x", key_bytes[i]);
    folder = pki_folder_new();
    psk_file = pki_write(folder, "keys.psk", line, (size_t)n, 0600);
    pki_make(&authority, &(struct pki_spec){.name = "Authority", .authority = true}, NULL);
    pki_make(&server, &(struct pki_spec){.name = "server", .dns = HOST}, &authority);
    pki_write_certificate(&authority, folder, "ca-cert.pem");
}

static void forget_credentials(void)
{
    pki_clear(&authority);
    pki_clear(&server);
    pki_folder_remove(folder);
    free(psk_file);
}

/* What the server insists on; ours is the default wherever that offers it. */
struct suite {
    const char *name, *priority;
    const char *ours; /* NULL: the default */
    bool psk, tls12;
    int kernel_version, kernel_cipher;
};

#define SERVER_13 "NORMAL:-VERS-ALL:+VERS-TLS1.3:+ECDHE-PSK:+DHE-PSK:-CIPHER-ALL:+"
#define SERVER_12 "NORMAL:-VERS-ALL:+VERS-TLS1.2:+ECDHE-PSK:+DHE-PSK:-CIPHER-ALL:+"
#define ALL_12    "NORMAL:-VERS-ALL:+VERS-TLS1.2"

static const struct suite suites[] = {
    {"TLS 1.3 CHACHA20-POLY1305, PSK", SERVER_13 "CHACHA20-POLY1305", NULL, true, false, TLS_1_3_VERSION,
     TLS_CIPHER_CHACHA20_POLY1305},
    {"TLS 1.3 CHACHA20-POLY1305, X.509", SERVER_13 "CHACHA20-POLY1305", NULL, false, false, TLS_1_3_VERSION,
     TLS_CIPHER_CHACHA20_POLY1305},
    {"TLS 1.3 AES-128-GCM, PSK", SERVER_13 "AES-128-GCM", NULL, true, false, TLS_1_3_VERSION,
     TLS_CIPHER_AES_GCM_128},
    {"TLS 1.3 AES-128-GCM, X.509", SERVER_13 "AES-128-GCM", NULL, false, false, TLS_1_3_VERSION,
     TLS_CIPHER_AES_GCM_128},
    {"TLS 1.3 AES-256-GCM, X.509", SERVER_13 "AES-256-GCM", NULL, false, false, TLS_1_3_VERSION,
     TLS_CIPHER_AES_GCM_256},
    {"TLS 1.2 CHACHA20-POLY1305, PSK", SERVER_12 "CHACHA20-POLY1305", NULL, true, true, TLS_1_2_VERSION,
     TLS_CIPHER_CHACHA20_POLY1305},
    {"TLS 1.2 CHACHA20-POLY1305, X.509", SERVER_12 "CHACHA20-POLY1305", NULL, false, true, TLS_1_2_VERSION,
     TLS_CIPHER_CHACHA20_POLY1305},
    {"TLS 1.2 AES-128-GCM, PSK", SERVER_12 "AES-128-GCM", NULL, true, true, TLS_1_2_VERSION,
     TLS_CIPHER_AES_GCM_128},
    {"TLS 1.2 AES-128-GCM, X.509", SERVER_12 "AES-128-GCM", NULL, false, true, TLS_1_2_VERSION,
     TLS_CIPHER_AES_GCM_128},
    {"TLS 1.2 AES-256-GCM, PSK", SERVER_12 "AES-256-GCM", ALL_12, true, true, TLS_1_2_VERSION,
     TLS_CIPHER_AES_GCM_256},
    {"TLS 1.2 AES-256-GCM, X.509", SERVER_12 "AES-256-GCM", NULL, false, true, TLS_1_2_VERSION,
     TLS_CIPHER_AES_GCM_256},
};

struct link {
    struct peer peer;
    struct tls_credentials *credentials;
    struct tls_session *session;
    struct tls_reason reason;
};

/* Connected, and some records have gone both ways. */
static bool open_link(struct link *link, const struct suite *suite, enum peer_vice vice)
{
    struct tls_policy policy = {
        .psk_file = suite->psk ? psk_file : NULL,
        .certificates = suite->psk ? NULL : folder,
        .priority = suite->ours,
        .allow_tls12 = suite->tls12,
    };
    uint8_t data[50001] = {0};

    *link = (struct link){.peer = {.tcp = true, .priority = suite->priority, .vice = vice}};
    link->peer.psk_user = "alice";
    link->peer.psk_key = (gnutls_datum_t){.data = key_bytes, .size = sizeof key_bytes};
    link->peer.identity = suite->psk ? NULL : &server;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 3 + i / 255);
    peer_start(&link->peer);
    return tls_credentials_load(&link->credentials, &policy, &link->reason) == 0 &&
           tls_session_new(&link->session, link->credentials, link->peer.client_fd, HOST, &link->reason) ==
               0 &&
           peer_complete(link->session, link->peer.client_fd, &link->reason) == 0 &&
           (vice != PEER_HONEST ||
            peer_echo(link->session, link->peer.client_fd, data, sizeof data, &link->reason) == 0);
}

static void close_link(struct link *link)
{
    tls_session_free(link->session);
    tls_credentials_free(link->credentials);
    peer_join(&link->peer);
}

static void load_module(const char *name)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        execlp("modprobe", "modprobe", "-q", name, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    printf("# modprobe %s: %d\n", name, WEXITSTATUS(status));
}

/* As a caller does it; 0 or -errno. */
static int hand_over(struct link *link)
{
    const char *missing;
    bool touched;
    int r;

    while ((r = tls_to_kernel(link->session, &missing, &touched, &link->reason)) == -ENOENT && missing) {
        printf("# %s\n", link->reason.text);
        load_module(missing);
    }
    return r;
}

/* From /proc/net/tls_stat; -1: there is no such line. */
static long tls_stat(const char *name)
{
    FILE *file = fopen("/proc/net/tls_stat", "re");
    size_t length = strlen(name);
    char line[128];
    long found = -1;

    while (file && found < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, name, length) == 0 && strchr(" \t", line[length]))
            found = strtol(line + length, NULL, 10);
    if (file)
        fclose(file);
    return found;
}

/* In pieces of all kinds, with the echo read meanwhile. */
static bool pump(int fd, const uint8_t *data, size_t size)
{
    static const size_t pieces[] = {1, 28, 4096, 16384, 16385, 131072 + 28, 5, 1000003};
    static uint8_t back[65536];
    size_t sent = 0, received = 0, turn = 0;

    while (received < size) {
        struct pollfd wait = {.fd = fd, .events = (short)(POLLIN | (sent < size ? POLLOUT : 0))};
        ssize_t n;

        if (poll(&wait, 1, TIMEOUT_MS) <= 0)
            return false;
        if (sent < size && (wait.revents & POLLOUT)) {
            size_t piece = pieces[turn++ % (sizeof pieces / sizeof pieces[0])];

            n = send(fd, data + sent, piece < size - sent ? piece : size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN)
                return false;
            sent += n > 0 ? (size_t)n : 0;
        }
        n = recv(fd, back, sizeof back, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return false;
        if (n > 0 && (received + (size_t)n > size || memcmp(back, data + received, (size_t)n) != 0))
            return false;
        received += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static uint8_t *pattern(void)
{
    uint8_t *data = malloc(BYTES);

    gnutls_rnd(GNUTLS_RND_NONCE, data, BYTES);
    return data;
}

static bool kernel_agrees(int fd, const struct suite *suite, int direction)
{
    struct tls_crypto_info info = {0};
    union {
        struct tls_crypto_info info;
        uint8_t room[128];
    } answer = {0};
    socklen_t size = suite->kernel_cipher == TLS_CIPHER_AES_GCM_128
                         ? sizeof(struct tls12_crypto_info_aes_gcm_128)
                         : (suite->kernel_cipher == TLS_CIPHER_AES_GCM_256
                                ? sizeof(struct tls12_crypto_info_aes_gcm_256)
                                : sizeof(struct tls12_crypto_info_chacha20_poly1305));

    if (getsockopt(fd, SOL_TLS, direction, &answer, &size) < 0)
        return false;
    info = answer.info;
    explicit_bzero(&answer, sizeof answer);
    return info.version == suite->kernel_version && info.cipher_type == suite->kernel_cipher;
}

static void try_suite(const struct suite *suite, const uint8_t *data)
{
    long sessions = tls_stat("TlsCurrTxSw"), errors = tls_stat("TlsDecryptError");
    struct link link;
    struct tls_info info;
    int fd;

    if (!open_link(&link, suite, PEER_HONEST)) {
        result(false, "%s: %s", suite->name, link.reason.text);
        close_link(&link);
        return;
    }
    fd = link.peer.client_fd;
    tls_session_info(link.session, &info);
    if (hand_over(&link) < 0) {
        result(false, "%s: %s", suite->name, link.reason.text);
    } else {
        result(true, "%s: handed over (%s, %s, %s)", suite->name, info.version, info.cipher,
               info.key_exchange);
        result(kernel_agrees(fd, suite, TLS_TX) && kernel_agrees(fd, suite, TLS_RX),
               "%s: the kernel says so too", suite->name);
        result(pump(fd, data, BYTES), "%s: %u bytes each way", suite->name, BYTES);
        result(tls_stat("TlsCurrTxSw") == (sessions > 0 ? sessions : 0) + 1 &&
                   tls_stat("TlsCurrRxSw") == tls_stat("TlsCurrTxSw"),
               "%s: one session more in tls_stat", suite->name);
        result(tls_stat("TlsDecryptError") == (errors > 0 ? errors : 0), "%s: everything decrypted",
               suite->name);
    }
    close_link(&link);
}

/* What a server may send once the kernel has the session: the connection ends with an error, without a byte.
 */
static void try_vice(enum peer_vice vice, const char *name)
{
    struct link link;
    struct pollfd wait = {.events = POLLIN};
    uint8_t data[64];
    ssize_t n;
    int error;

    if (!open_link(&link, &suites[0], vice) || hand_over(&link) < 0) {
        result(false, "%s: %s", name, link.reason.text);
        close_link(&link);
        return;
    }
    wait.fd = link.peer.client_fd;
    n = send(wait.fd, "hello", 5, MSG_NOSIGNAL);
    for (size_t got = 0; n > 0 && got < 5; got += (size_t)n)
        n = poll(&wait, 1, TIMEOUT_MS) == 1 ? recv(wait.fd, data, 5 - got, MSG_DONTWAIT) : -1;
    if (n > 0)
        poll(&wait, 1, TIMEOUT_MS);
    n = n > 0 ? recv(wait.fd, data, sizeof data, MSG_DONTWAIT) : 0;
    error = errno;
    result(n < 0 && error == EIO, "%s after the handover: %s", name, n < 0 ? strerror(error) : "no error");
    close_link(&link);
}

static void set_helper(const char *path)
{
    int fd = open("/proc/sys/kernel/modprobe", O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, path, strlen(path)) < 0)
        perror("/proc/sys/kernel/modprobe");
    close(fd);
}

/* One call that must fail, and leave GnuTLS able to go on. */
static bool fails_softly(struct link *link, int error, const char *wanted)
{
    const char *missing = NULL;
    bool touched = true;
    int r = tls_to_kernel(link->session, &missing, &touched, &link->reason);

    printf("# %d, missing %s: %s\n", r, missing ? missing : "-", link->reason.text);
    return r == -error && !touched && (wanted ? missing && strcmp(missing, wanted) == 0 : !missing) &&
           peer_echo(link->session, link->peer.client_fd, "go on", 5, &link->reason) == 0;
}

/* Where the kernel cannot fetch its modules by itself, as in a small initramfs. */
static void try_without_modules(const struct suite *suite, const char *first)
{
    struct link link;

    if (!open_link(&link, suite, PEER_HONEST)) {
        result(false, "%s: %s", suite->name, link.reason.text);
    } else {
        if (tls_stat("TlsCurrTxSw") < 0) {
            result(fails_softly(&link, ENOENT, "tls"), "%s without the module tls", suite->name);
            result(fails_softly(&link, EOPNOTSUPP, NULL), "%s: named once", suite->name);
            close_link(&link);
            open_link(&link, suite, PEER_HONEST);
            result(fails_softly(&link, ENOENT, "tls"), "%s: named once by each session", suite->name);
            load_module("tls");
        }
        result(fails_softly(&link, ENOENT, first), "%s without its cipher", suite->name);
        load_module(first);
        result(hand_over(&link) == 0 && pump(link.peer.client_fd, key_bytes, sizeof key_bytes),
               "%s: the same session, with the modules", suite->name);
    }
    close_link(&link);
}

int main(void)
{
    uint8_t *data = pattern();

    alarm(240);
    make_credentials();
    set_helper("/bin/false");
    try_without_modules(&suites[0], "crypto-rfc7539");
    try_without_modules(&suites[3], "crypto-gcm");
    set_helper("/sbin/modprobe");
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++)
        try_suite(&suites[i], data);
    try_vice(PEER_SENDS_TICKET, "a session ticket");
    try_vice(PEER_CHANGES_KEYS, "a change of keys");
    try_vice(PEER_SENDS_ALERT_LATE, "an alert");
    result(tls_stat("TlsCurrTxSw") == 0 && tls_stat("TlsCurrRxSw") == 0, "no session is left");
    printf("1..%u\n", tests);
    forget_credentials();
    free(data);
    return failures ? 1 : 0;
}
