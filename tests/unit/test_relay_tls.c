/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What TLS asks of the relay: ciphers, records of all kinds, new keys, and records that nobody must believe.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/relay.h"
#include "relayed.h"
#include "tls/tls_internal.h"

#include "cmocka_all.h"

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void test_ciphers(void **state)
{
    static const char *const priorities[] = {
        "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:+ECDHE-PSK",
        "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305:+ECDHE-PSK",
        "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-CCM:+ECDHE-PSK",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-GCM:-KX-ALL:+DHE-PSK",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-256-GCM:-KX-ALL:+DHE-PSK",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+CHACHA20-POLY1305:-KX-ALL:+ECDHE-PSK",
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-256-CCM:-KX-ALL:+DHE-PSK",
    };

    (void)state;
    for (size_t i = 0; i < sizeof priorities / sizeof priorities[0]; i++) {
        struct relayed r = {.peer = {.tls = true, .priority = priorities[i]}};

        relayed_start(&r);
        relayed_exchange(&r, 1 << 20);
        shutdown(r.peer.connection.fd, SHUT_WR);
        relayed_expect_eof(&r, true);
        relayed_pass(&r, false, "still here");
        relay_peer_shut(&r.peer);
        relayed_expect_eof(&r, false);
        relayed_expect_end(&r);
        relay_peer_clear(&r.peer);
    }
}

static void test_a_cipher_that_is_not_for_bulk_data(void **state)
{
    struct relay_peer peer = {
        .tls = true,
        .priority =
            "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC:-KX-ALL:+ECDHE-PSK:+SHA256:+SHA1"};
    struct failure weakness = {0}, failure = {0};
    pid_t pid;

    (void)state;
    relay_peer_open(&peer);
    assert_int_equal(relay_start(&peer.connection, &pid, &weakness, &failure), -EOPNOTSUPP);
    assert_non_null(strstr(failure.text, "AES-128-CBC"));
    relay_peer_clear(&peer);
}

static void test_a_server_of_small_records(void **state)
{
    struct relayed r = {.peer = {.tls = true, .record_limit = 1000}};

    (void)state;
    relayed_start(&r);
    relayed_exchange(&r, 1 << 20);
    relayed_end(&r);
}

static void test_changes_of_keys(void **state)
{
    struct relayed r = {.peer = {.tls = true}};

    (void)state;
    relayed_start(&r);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(gnutls_session_key_update(r.peer.session, i % 2 ? 0 : GNUTLS_KU_PEER), 0);
        relayed_pass(&r, false, "under the server's new keys");
        relayed_pass(&r, true, "under ours");
    }
    /* Not during it: GnuTLS's own server cannot take new keys in one thread while another writes. */
    relayed_exchange(&r, 1 << 20);
    relayed_end(&r);
}

static int count_key_updates(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming,
                             const gnutls_datum_t *message)
{
    unsigned *count = gnutls_session_get_ptr(session);

    (void)when, (void)message;
    *count += incoming && type == GNUTLS_HANDSHAKE_KEY_UPDATE;
    return 0;
}

/* A key of AES-GCM is good for 2^24.5 records (RFC 8446, 5.5): this session has written nearly so many. */
static void test_our_key_wears_out(void **state)
{
    static const uint8_t sequence[8] = {0, 0, 0, 0, 0, 0xff, 0xff, 0xd0};
    struct relay_peer peer = {
        .tls = true, .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:+ECDHE-PSK"};
    struct relayed r = {0};
    struct failure weakness = {0}, failure = {0};
    const struct tls_session *ours;
    unsigned count = 0;

    (void)state;
    relay_peer_open(&peer);
    ours = session_channel(peer.connection.session)->state;
    assert_int_equal(gnutls_record_set_state(ours->gnutls, 0, sequence), 0);
    assert_int_equal(gnutls_record_set_state(peer.session, 1, sequence), 0);
    gnutls_session_set_ptr(peer.session, &count);
    gnutls_handshake_set_hook_function(peer.session, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_PRE,
                                       count_key_updates);
    r.peer = peer;
    assert_int_equal(relay_start(&r.peer.connection, &r.pid, &weakness, &failure), 0);
    for (int i = 0; i < 100; i++)
        relayed_pass(&r, true, "one more");
    assert_int_equal(count, 1);
    relayed_end(&r);
}

/* Just before the relay begins: it is the relay's to answer. */
static void test_a_change_of_keys_under_way(void **state)
{
    struct relay_peer peer = {.tls = true};
    struct relayed r = {0};
    struct failure weakness = {0}, failure = {0};

    (void)state;
    relay_peer_open(&peer);
    assert_int_equal(gnutls_session_key_update(peer.session, GNUTLS_KU_PEER), 0);
    r.peer = peer;
    assert_int_equal(relay_start(&r.peer.connection, &r.pid, &weakness, &failure), 0);
    relayed_pass(&r, true, "under our new keys");
    relayed_pass(&r, false, "under the server's");
    relayed_end(&r);
}

/* What is authentic arrives, what is not does not, and the link is dead. */
static void broken_record(void (*spoil)(struct relayed *r))
{
    struct relayed r = {.peer = {.tls = true}};
    char text[64];

    relayed_start(&r);
    assert_int_equal(relayed_write(&r, true, "authentic", 9), 9);
    spoil(&r);
    assert_int_equal(recv(r.peer.connection.fd, text, sizeof text, MSG_WAITALL), 9);
    assert_memory_equal(text, "authentic", 9);
    relayed_expect_end(&r);
    relay_peer_clear(&r.peer);
}

static void forge(struct relayed *r)
{
    static const uint8_t record[5 + 64] = {23, 3, 3, 0, 64};

    must(send(r->peer.fd, record, sizeof record, MSG_NOSIGNAL) == sizeof record);
}

static void send_plaintext(struct relayed *r)
{
    must(send(r->peer.fd, "NBDMAGIC, and no TLS", 20, MSG_NOSIGNAL) == 20);
}

static void send_endless_record(struct relayed *r)
{
    must(send(r->peer.fd, "\x17\x03\x03\xff\xff", 5, MSG_NOSIGNAL) == 5);
}

static void send_alert(struct relayed *r)
{
    must(gnutls_alert_send(r->peer.session, GNUTLS_AL_FATAL, GNUTLS_A_INTERNAL_ERROR) == 0);
}

static void close_silently(struct relayed *r)
{
    shutdown(r->peer.fd, SHUT_WR);
}

static void send_half_a_record(struct relayed *r)
{
    must(send(r->peer.fd, "\x17\x03\x03\x01", 4, MSG_NOSIGNAL) == 4);
    shutdown(r->peer.fd, SHUT_WR);
}

/* The first bytes of this write reach the relay's socket changed. */
static ssize_t flip(gnutls_transport_ptr_t transport, const void *from, size_t size)
{
    const struct relayed *r = transport;
    uint8_t copy[4096];

    must(size > 20 && size <= sizeof copy);
    memcpy(copy, from, size);
    copy[size - 20] ^= 1;
    return send(r->peer.fd, copy, size, MSG_NOSIGNAL);
}

static void change_a_bit(struct relayed *r)
{
    gnutls_transport_set_ptr(r->peer.session, r);
    gnutls_transport_set_push_function(r->peer.session, flip);
    must(relayed_write(r, true, "changed on the way", 18) == 18);
}

static void test_broken_records(void **state)
{
    static void (*const ways[])(struct relayed *) = {forge,       send_plaintext, send_endless_record,
                                                     send_alert,  close_silently, send_half_a_record,
                                                     change_a_bit};

    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        broken_record(ways[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ciphers),
        cmocka_unit_test(test_a_cipher_that_is_not_for_bulk_data),
        cmocka_unit_test(test_a_server_of_small_records),
        cmocka_unit_test(test_changes_of_keys),
        cmocka_unit_test(test_our_key_wears_out),
        cmocka_unit_test(test_a_change_of_keys_under_way),
        cmocka_unit_test(test_broken_records),
    };

    relayed_prepare();
    return cmocka_run_group_tests_name("relay_tls", tests, NULL, NULL);
}
