/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Servers that break off, lie or stall, in the handshake and after it; and the way into the kernel when it is
 * barred. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tls.h"
#include "tls_peer.h"
#include "tls_pki.h"

#include "cmocka_all.h"

static unsigned char key_bytes[] = "0123456789abcdef0123456789abcde";
static char *folder, *psk_file;
static struct pki_identity authority, server;
static struct tls_credentials *psk, *psk12, *x509;

static int set_up(void **state)
{
    static const char line[] = "alice:3031323334353637383961626364656630313233343536373839616263646500\n";
    struct tls_reason reason;

    (void)state;
    folder = pki_folder_new();
    psk_file = pki_write(folder, "keys.psk", line, sizeof line - 1, 0600);
    pki_make(&authority, &(struct pki_spec){.name = "Test authority", .authority = true}, NULL);
    pki_make(&server, &(struct pki_spec){.name = "server", .dns = "localhost"}, &authority);
    pki_write_certificate(&authority, folder, "ca-cert.pem");
    assert_int_equal(tls_credentials_load(&psk, &(struct tls_policy){.psk_file = psk_file}, &reason), 0);
    assert_int_equal(tls_credentials_load(
                         &psk12, &(struct tls_policy){.psk_file = psk_file, .allow_tls12 = true}, &reason),
                     0);
    assert_int_equal(tls_credentials_load(&x509, &(struct tls_policy){.certificates = folder}, &reason), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tls_credentials_free(psk);
    tls_credentials_free(psk12);
    tls_credentials_free(x509);
    pki_clear(&authority);
    pki_clear(&server);
    pki_folder_remove(folder);
    free(psk_file);
    return 0;
}

/* One connection of a test. */
struct link {
    struct peer peer;
    struct tls_session *session;
    struct tls_reason reason;
};

static void open_link(struct link *link, enum peer_vice vice, bool tcp, bool with_x509)
{
    const struct tls_credentials *credentials = with_x509 ? x509 : link->peer.priority ? psk12 : psk;

    link->peer.vice = vice;
    link->peer.tcp = tcp;
    if (with_x509)
        link->peer.identity = &server;
    else
        link->peer.psk_user = "alice";
    link->peer.psk_key = (gnutls_datum_t){.data = key_bytes, .size = sizeof key_bytes};
    peer_start(&link->peer);
    assert_int_equal(
        tls_session_new(&link->session, credentials, link->peer.client_fd, "localhost", &link->reason), 0);
}

static void close_link(struct link *link)
{
    tls_session_free(link->session);
    peer_join(&link->peer);
}

static void check_reason(const struct link *link, int r, int error, const char *says)
{
    if (r != -error || strncmp(link->reason.text, says, strlen(says)) != 0)
        fail_msg("vice %d: %d (wanted %d), \"%s\"", (int)link->peer.vice, r, -error, link->reason.text);
}

static void check_handshake(enum peer_vice vice, bool tcp, bool with_x509, int error, const char *says)
{
    struct link link = {0};
    int r;

    open_link(&link, vice, tcp, with_x509);
    r = peer_complete(link.session, link.peer.client_fd, &link.reason);
    check_reason(&link, r, error, says);
    close_link(&link);
}

static const struct {
    enum peer_vice vice;
    bool tcp;
    int error;
    const char *says;
} in_handshake[] = {
    {PEER_CLOSES_AT_ONCE, false, ECONNRESET,
     "the server closed the connection in the middle of the TLS handshake"},
    {PEER_CLOSES_MIDWAY, false, ECONNRESET,
     "the server closed the connection in the middle of the TLS handshake"},
    {PEER_RESETS, true, ECONNRESET, "the server closed the connection in the middle of the TLS handshake"},
    {PEER_SENDS_GARBAGE, false, EPROTO, "what the server sends is not TLS"},
    {PEER_SENDS_NBD, false, EPROTO, "what the server sends is not TLS"},
    {PEER_EARLY_DATA, false, EPROTO, "the server sends a TLS message out of order"},
};

static void test_handshake(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof in_handshake / sizeof in_handshake[0]; i++)
        for (int with_x509 = 0; with_x509 < 2; with_x509++)
            check_handshake(in_handshake[i].vice, in_handshake[i].tcp, with_x509, in_handshake[i].error,
                            in_handshake[i].says);
}

/* The deadline is the caller's: we must come back to it. */
static void test_stalls(void **state)
{
    static const enum peer_vice vices[] = {PEER_STALLS, PEER_STALLS_MIDWAY};

    (void)state;
    peer_patience_ms = 300;
    for (size_t i = 0; i < sizeof vices / sizeof vices[0]; i++)
        check_handshake(vices[i], false, i % 2, ETIMEDOUT, "the TLS handshake with the server is not done");
    peer_patience_ms = 20000;
}

/* However much such a server sends, one call takes a bounded amount of it. */
static void test_warns_forever(void **state)
{
    struct link link = {0};
    short events = 0;
    int r = -EAGAIN;

    (void)state;
    open_link(&link, PEER_WARNS_FOREVER, false, false);
    for (int i = 0; i < 200 && r == -EAGAIN; i++)
        r = tls_handshake(link.session, &events, &link.reason);
    assert_true(r == -EAGAIN || r == -EPROTO);
    close_link(&link);
}

static const struct {
    gnutls_alert_description_t alert;
    int psk_error;
    const char *psk_says;
    int x509_error;
    const char *x509_says;
} alerts[] = {
    {GNUTLS_A_UNKNOWN_PSK_IDENTITY, EKEYREJECTED, "the server does not know the user \"alice\"", EPROTO,
     "the server and we have no TLS parameters"},
    {GNUTLS_A_DECRYPT_ERROR, EKEYREJECTED, "the server refuses the pre-shared key of the user \"alice\"",
     EPROTO, "the server finds our TLS messages wrong"},
    {GNUTLS_A_HANDSHAKE_FAILURE, EPROTO, "the server and we have no TLS parameters", EPROTO,
     "the server and we have no TLS parameters"},
    {GNUTLS_A_ACCESS_DENIED, EKEYREJECTED, "the server denies us access", EKEYREJECTED,
     "the server denies us access"},
    {GNUTLS_A_UNRECOGNIZED_NAME, EKEYREJECTED, "the server does not know the host name", EKEYREJECTED,
     "the server does not know the host name"},
    {GNUTLS_A_INTERNAL_ERROR, EPROTO, "the server failed by itself", EPROTO, "the server failed by itself"},
    {GNUTLS_A_CERTIFICATE_EXPIRED, EKEYEXPIRED, "the server demands a client certificate", EKEYEXPIRED,
     "the server demands a client certificate"},
    {(gnutls_alert_description_t)200, EPROTO, "the server broke TLS off with alert 200", EPROTO,
     "the server broke TLS off with alert 200"},
};

static void test_alerts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof alerts / sizeof alerts[0]; i++)
        for (int with_x509 = 0; with_x509 < 2; with_x509++) {
            struct link link = {.peer.alert = alerts[i].alert};
            int r;

            open_link(&link, PEER_SENDS_ALERT, false, with_x509);
            r = peer_complete(link.session, link.peer.client_fd, &link.reason);
            check_reason(&link, r, with_x509 ? alerts[i].x509_error : alerts[i].psk_error,
                         with_x509 ? alerts[i].x509_says : alerts[i].psk_says);
            close_link(&link);
        }
}

static void shake_hands(struct link *link, enum peer_vice vice, bool tcp)
{
    int r;

    open_link(link, vice, tcp, false);
    r = peer_complete(link->session, link->peer.client_fd, &link->reason);
    if (r < 0)
        fail_msg("vice %d: %d, %s", (int)vice, r, link->reason.text);
}

static void test_ends(void **state)
{
    struct link link = {0};
    char byte;

    (void)state;
    shake_hands(&link, PEER_CLOSES_SILENTLY, false);
    check_reason(&link, peer_read(link.session, link.peer.client_fd, &byte, 1, &link.reason), ECONNRESET,
                 "the server closed the connection without ending TLS");
    close_link(&link);
    link = (struct link){0};
    shake_hands(&link, PEER_SAYS_BYE, false);
    assert_int_equal(peer_read(link.session, link.peer.client_fd, &byte, 1, &link.reason), 0);
    assert_int_equal(tls_check_silent(link.session, &link.reason), -ECONNRESET);
    close_link(&link);
    link = (struct link){.peer.alert = GNUTLS_A_ACCESS_DENIED};
    shake_hands(&link, PEER_SENDS_ALERT_LATE, false);
    assert_int_equal(peer_echo(link.session, link.peer.client_fd, "x", 1, &link.reason), 0);
    check_reason(&link, peer_read(link.session, link.peer.client_fd, &byte, 1, &link.reason), EKEYREJECTED,
                 "the server denies us access");
    close_link(&link);
}

/* Waits until something has arrived, without taking it. */
static void await(const struct link *link)
{
    struct pollfd waiting = {.fd = link->peer.client_fd, .events = POLLIN};

    assert_int_equal(poll(&waiting, 1, peer_patience_ms), 1);
}

static void test_silence(void **state)
{
    struct link link = {0};

    (void)state;
    shake_hands(&link, PEER_HONEST, false);
    assert_int_equal(tls_check_silent(link.session, &link.reason), 0);
    assert_int_equal(peer_echo(link.session, link.peer.client_fd, "hello", 5, &link.reason), 0);
    assert_int_equal(tls_check_silent(link.session, &link.reason), 0);
    close_link(&link);
    link = (struct link){0};
    shake_hands(&link, PEER_TALKS, false);
    await(&link);
    check_reason(&link, tls_check_silent(link.session, &link.reason), EPROTO,
                 "the server sent bytes that nobody asked for");
    close_link(&link);
}

/* GnuTLS has swallowed the beginning of a record, and tells nobody. */
static void test_half_record(void **state)
{
    struct link link = {0};
    const char *missing;
    bool touched;

    (void)state;
    shake_hands(&link, PEER_HALF_RECORD, true);
    await(&link);
    check_reason(&link, tls_check_silent(link.session, &link.reason), EAGAIN,
                 "the server is sending a TLS record");
    check_reason(&link, tls_to_kernel(link.session, &missing, &touched, &link.reason), EAGAIN,
                 "the server is sending a TLS record");
    assert_false(touched);
    close_link(&link);
}

/* The part of one record that was read leaves the other part behind. */
static void test_pending(void **state)
{
    struct link link = {0};
    char byte;

    (void)state;
    shake_hands(&link, PEER_TALKS, false);
    assert_int_equal(peer_read(link.session, link.peer.client_fd, &byte, 1, &link.reason), 1);
    check_reason(&link, tls_check_silent(link.session, &link.reason), EPROTO,
                 "the server sent bytes that nobody asked for");
    close_link(&link);
}

static void test_ticket(void **state)
{
    struct link link = {0};

    (void)state;
    shake_hands(&link, PEER_SENDS_TICKET, false);
    assert_int_equal(peer_echo(link.session, link.peer.client_fd, "hello", 5, &link.reason), 0);
    await(&link);
    assert_int_equal(tls_check_silent(link.session, &link.reason), 0);
    assert_int_equal(peer_echo(link.session, link.peer.client_fd, "world", 5, &link.reason), 0);
    close_link(&link);
}

/* GnuTLS owes the server a KeyUpdate before it may send on: the kernel would not. */
static void test_key_update(void **state)
{
    struct link link = {0};
    const char *missing;
    bool touched;

    (void)state;
    shake_hands(&link, PEER_CHANGES_KEYS, true);
    assert_int_equal(peer_echo(link.session, link.peer.client_fd, "hello", 5, &link.reason), 0);
    await(&link);
    assert_int_equal(tls_check_silent(link.session, &link.reason), 0);
    check_reason(&link, tls_to_kernel(link.session, &missing, &touched, &link.reason), EOPNOTSUPP,
                 "the server has just changed its keys");
    assert_false(touched);
    assert_int_equal(peer_echo(link.session, link.peer.client_fd, "world", 5, &link.reason), 0);
    close_link(&link);
}

static void test_unix_socket(void **state)
{
    struct link link = {0};
    const char *missing = "";
    bool touched = true;

    (void)state;
    shake_hands(&link, PEER_HONEST, false);
    check_reason(&link, tls_to_kernel(link.session, &missing, &touched, &link.reason), EOPNOTSUPP,
                 "the kernel has TLS for TCP only, and this is a unix socket");
    assert_false(touched);
    assert_null(missing);
    assert_int_equal(peer_echo(link.session, link.peer.client_fd, "still alive", 11, &link.reason), 0);
    close_link(&link);
}

static void check_limit(const char *priority, size_t limit)
{
    struct link link = {.peer = {.record_limit = limit, .priority = priority}};
    char says[128], data[3000] = {1};
    const char *missing;
    bool touched;

    snprintf(says, sizeof says, "the server takes records of at most %zu bytes", limit);
    shake_hands(&link, PEER_HONEST, true);
    check_reason(&link, tls_to_kernel(link.session, &missing, &touched, &link.reason), EOPNOTSUPP, says);
    assert_false(touched);
    assert_int_equal(peer_echo(link.session, link.peer.client_fd, data, sizeof data, &link.reason), 0);
    close_link(&link);
}

static void test_record_limit(void **state)
{
    (void)state;
    check_limit(NULL, 1024);
    check_limit(NULL, 16383);
    check_limit("NORMAL:-VERS-TLS1.3:+ECDHE-PSK", 2048);
}

static void test_cipher(void **state)
{
    struct tls_policy policy = {.psk_file = psk_file, .priority = "NORMAL:-CIPHER-ALL:+AES-128-CCM"};
    struct link link = {
        .peer = {.psk_user = "alice", .tcp = true, .priority = "NORMAL:+AES-128-CCM:+ECDHE-PSK"}};
    struct tls_credentials *credentials;
    const char *missing;
    bool touched;

    (void)state;
    link.peer.psk_key = (gnutls_datum_t){.data = key_bytes, .size = sizeof key_bytes};
    assert_int_equal(tls_credentials_load(&credentials, &policy, &link.reason), 0);
    peer_start(&link.peer);
    assert_int_equal(tls_session_new(&link.session, credentials, link.peer.client_fd, NULL, &link.reason), 0);
    assert_int_equal(peer_complete(link.session, link.peer.client_fd, &link.reason), 0);
    check_reason(&link, tls_to_kernel(link.session, &missing, &touched, &link.reason), EOPNOTSUPP,
                 "the kernel does not take over the cipher AES-128-CCM");
    close_link(&link);
    tls_credentials_free(credentials);
}

/* What is called too early, or more often than needed. */
static void test_order(void **state)
{
    struct link link = {0};
    struct tls_info info;
    short events;
    const char *missing;
    bool touched;
    uint8_t byte;

    (void)state;
    open_link(&link, PEER_HONEST, true, true);
    assert_int_equal(tls_read(link.session, &byte, 1, &events, &link.reason), -EINVAL);
    assert_int_equal(tls_write(link.session, &byte, 1, &events, &link.reason), -EINVAL);
    assert_int_equal(tls_check_silent(link.session, &link.reason), -EINVAL);
    assert_int_equal(tls_to_kernel(link.session, &missing, &touched, &link.reason), -EINVAL);
    tls_bye(link.session);
    tls_session_info(link.session, &info);
    assert_null(info.version);
    assert_int_equal(peer_complete(link.session, link.peer.client_fd, &link.reason), 0);
    assert_int_equal(tls_handshake(link.session, &events, &link.reason), 0);
    assert_int_equal(tls_write(link.session, &byte, 0, &events, &link.reason), 0);
    close_link(&link);
    tls_session_free(NULL);
}

/* A server that does not read: nothing blocks, nothing is lost or sent twice. */
static void test_back_pressure(void **state)
{
    struct link link = {0};
    struct tls_reason reason;
    size_t size = (size_t)4 << 20;
    uint8_t *data = malloc(size);
    short events = 0;
    ssize_t n = 0;
    size_t sent = 0;

    (void)state;
    assert_non_null(data);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * 11 + i / 257);
    shake_hands(&link, PEER_HONEST, true);
    /* The echo fills both directions while we do not read. */
    while (sent < size) {
        n = tls_write(link.session, data + sent, size - sent, &events, &reason);
        if (n < 0)
            break;
        sent += (size_t)n;
    }
    if (n == -EAGAIN) {
        assert_int_equal(events, POLLOUT);
        assert_int_equal(tls_check_silent(link.session, &reason), -EBUSY);
    }
    close_link(&link);
    link = (struct link){0};
    shake_hands(&link, PEER_HONEST, true);
    assert_int_equal(peer_echo(link.session, link.peer.client_fd, data, size, &link.reason), 0);
    close_link(&link);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshake),     cmocka_unit_test(test_stalls),
        cmocka_unit_test(test_warns_forever), cmocka_unit_test(test_alerts),
        cmocka_unit_test(test_ends),          cmocka_unit_test(test_silence),
        cmocka_unit_test(test_half_record),   cmocka_unit_test(test_pending),
        cmocka_unit_test(test_ticket),        cmocka_unit_test(test_key_update),
        cmocka_unit_test(test_unix_socket),   cmocka_unit_test(test_record_limit),
        cmocka_unit_test(test_cipher),        cmocka_unit_test(test_order),
        cmocka_unit_test(test_back_pressure),
    };

    return cmocka_run_group_tests_name("tls_faults", tests, set_up, tear_down);
}
