/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The relay process between a server (plain, or TLS by GnuTLS) and what the kernel driver would be. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/relay.h"
#include "relay_peer.h"
#if HAVE_TLS
#include "tls/tls_internal.h"
#endif

#include "cmocka_all.h"

#define NS_PER_S  UINT64_C(1000000000)
/* A relay ends within a second; a busy machine, or valgrind, takes longer to run it. */
#define END_NS    (5 * NS_PER_S)
#define PIECE_MAX 100000

struct relayed {
    struct relay_peer peer;
    pid_t pid;
};

/* Never seen by cmocka's checks in another thread: those longjmp. */
static void must(bool ok)
{
    if (!ok)
        abort();
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void start(struct relayed *r)
{
    struct failure weakness = {0}, failure = {0};

    relay_peer_open(&r->peer);
    if (relay_start(&r->peer.connection, &r->pid, &weakness, &failure) < 0)
        fail_msg("%s", failure.text);
    assert_null(r->peer.connection.session);
    assert_true(r->peer.connection.fd >= 0);
}

/* We are its subreaper, so that it comes to us when it has ended. */
static void expect_end(struct relayed *r)
{
    uint64_t until = monotonic_ns() + END_NS;
    int status;
    pid_t pid;

    while ((pid = waitpid(r->pid, &status, WNOHANG)) == 0 && monotonic_ns() < until)
        usleep(5000);
    assert_int_equal(pid, r->pid);
    assert_true(WIFEXITED(status)); /* with 0; but valgrind has its own opinion of a forked child's heap */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void let_go(struct relayed *r)
{
    close(r->peer.connection.fd);
    r->peer.connection.fd = -1;
}

static void end(struct relayed *r)
{
    let_go(r);
    shutdown(r->peer.fd, SHUT_RDWR);
    expect_end(r);
    relay_peer_clear(&r->peer);
}

static ssize_t side_read(struct relayed *r, bool server, void *into, size_t size)
{
    return server ? relay_peer_read(&r->peer, into, size) : recv(r->peer.connection.fd, into, size, 0);
}

static ssize_t side_write(struct relayed *r, bool server, const void *from, size_t size)
{
    return server ? relay_peer_write(&r->peer, from, size)
                  : send(r->peer.connection.fd, from, size, MSG_NOSIGNAL);
}

/* A stream of pseudo-random bytes, in pieces of pseudo-random sizes. */
struct stream {
    struct relayed *r;
    bool server; /* whose end we are at */
    uint32_t seed;
    size_t size;
};

static void *write_stream(void *opaque)
{
    struct stream *s = opaque;
    uint32_t bytes = s->seed, sizes = ~s->seed;
    uint8_t piece[PIECE_MAX];

    for (size_t left = s->size; left > 0;) {
        size_t size = 1 + next_random(&sizes) % (next_random(&sizes) % 4 ? PIECE_MAX : 64), done = 0;

        size = size < left ? size : left;
        for (size_t i = 0; i < size; i++)
            piece[i] = (uint8_t)next_random(&bytes);
        while (done < size) {
            ssize_t n = side_write(s->r, s->server, piece + done, size - done);

            must(n > 0);
            done += (size_t)n;
        }
        left -= size;
    }
    return NULL;
}

static void *read_stream(void *opaque)
{
    struct stream *s = opaque;
    uint32_t bytes = s->seed, sizes = s->seed * 3 + 1;
    uint8_t piece[PIECE_MAX];

    for (size_t left = s->size; left > 0;) {
        size_t size = 1 + next_random(&sizes) % PIECE_MAX;
        ssize_t n = side_read(s->r, s->server, piece, size < left ? size : left);

        must(n > 0);
        for (ssize_t i = 0; i < n; i++)
            must(piece[i] == (uint8_t)next_random(&bytes));
        left -= (size_t)n;
    }
    return NULL;
}

/* Both ways at once. */
static void exchange(struct relayed *r, size_t size)
{
    struct stream streams[] = {{r, false, 0x1234567, size},
                               {r, true, 0x1234567, size},
                               {r, true, 0x7654321, size},
                               {r, false, 0x7654321, size}};
    pthread_t threads[4];

    for (size_t i = 0; i < 4; i++)
        must(pthread_create(&threads[i], NULL, i % 2 ? read_stream : write_stream, &streams[i]) == 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

static void pass(struct relayed *r, bool to_server, const char *text)
{
    char back[64] = "";
    size_t have = 0;

    assert_int_equal(side_write(r, !to_server, text, strlen(text)), strlen(text));
    while (have < strlen(text)) {
        ssize_t n = side_read(r, to_server, back + have, strlen(text) - have);

        assert_true(n > 0);
        have += (size_t)n;
    }
    assert_string_equal(back, text);
}

static void expect_eof(struct relayed *r, bool server)
{
    char byte;

    assert_int_equal(side_read(r, server, &byte, 1), 0);
}

/* ---- each with and without TLS ---- */

static void both_ways(bool tls)
{
    struct relayed r = {.peer = {.tls = tls, .tcp = true}};

    start(&r);
    exchange(&r, 8 << 20);
    end(&r);
}

static size_t resident_kb(pid_t pid)
{
    char path[64], line[128];
    size_t kb = 0;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kb = strtoul(line + 6, NULL, 10);
    fclose(file);
    return kb;
}

/* Writes until nothing more is taken for a while; how much that was. */
static size_t fill(struct relayed *r)
{
    static uint8_t zeroes[65536];
    size_t filled = 0;

    for (;;) {
        struct pollfd writable = {.fd = r->peer.connection.fd, .events = POLLOUT};
        ssize_t n = send(r->peer.connection.fd, zeroes, sizeof zeroes, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && poll(&writable, 1, 300) == 0)
            return filled;
        filled += n > 0 ? (size_t)n : 0;
    }
}

static void who_is_slow_stops_the_other(bool tls)
{
    struct relayed r = {.peer = {.tls = tls}};
    static uint8_t data[65536];
    size_t filled, before;

    start(&r);
    pass(&r, true, "ready");
    before = resident_kb(r.pid);
    filled = fill(&r);
    assert_true(filled > 65536 && filled < (16 << 20));
    assert_true(resident_kb(r.pid) <= before + 512);
    while (filled > 0) {
        ssize_t n = side_read(&r, true, data, filled < sizeof data ? filled : sizeof data);

        assert_true(n > 0);
        filled -= (size_t)n;
    }
    exchange(&r, 1 << 20);
    end(&r);
}

static void the_kernel_ends_its_direction(bool tls)
{
    struct relayed r = {.peer = {.tls = tls}};

    start(&r);
    assert_int_equal(side_write(&r, false, "last words", 10), 10);
    shutdown(r.peer.connection.fd, SHUT_WR);
    for (size_t left = 10; left > 0;) {
        char text[10];
        ssize_t n = side_read(&r, true, text, left);

        assert_true(n > 0);
        left -= (size_t)n;
    }
    expect_eof(&r, true);
    pass(&r, false, "still here");
    relay_peer_shut(&r.peer);
    expect_eof(&r, false);
    expect_end(&r);
    relay_peer_clear(&r.peer);
}

static void the_server_ends(bool tls)
{
    struct relayed r = {.peer = {.tls = tls}};
    char text[16];

    start(&r);
    pass(&r, true, "request");
    assert_int_equal(side_write(&r, true, "answer", 6), 6);
    relay_peer_shut(&r.peer);
    assert_int_equal(recv(r.peer.connection.fd, text, 6, MSG_WAITALL), 6);
    assert_memory_equal(text, "answer", 6);
    expect_eof(&r, false);
    expect_end(&r);
    relay_peer_clear(&r.peer);
}

static void the_server_resets(bool tls)
{
    struct relayed r = {.peer = {.tls = tls, .tcp = true}};
    char byte;

    start(&r);
    pass(&r, true, "request");
    relay_peer_reset(&r.peer);
    assert_int_equal(recv(r.peer.connection.fd, &byte, 1, 0), 0);
    expect_end(&r);
    relay_peer_clear(&r.peer);
}

static void the_kernel_lets_go(bool tls)
{
    struct relayed r = {.peer = {.tls = tls}};

    start(&r);
    pass(&r, true, "request");
    assert_int_equal(side_write(&r, false, "last words", 10), 10);
    let_go(&r);
    for (size_t left = 10; left > 0;) {
        char text[10];
        ssize_t n = side_read(&r, true, text, left);

        assert_true(n > 0);
        left -= (size_t)n;
    }
    expect_eof(&r, true);
    expect_end(&r);
    relay_peer_clear(&r.peer);
}

/* With a server that neither reads nor answers. */
static void the_kernel_lets_go_of_a_stuck_server(bool tls)
{
    struct relayed r = {.peer = {.tls = tls}};

    start(&r);
    fill(&r);
    let_go(&r);
    expect_end(&r);
    relay_peer_clear(&r.peer);
}

#define BOTH(name)                                                                                           \
    static void test_##name(void **state)                                                                    \
    {                                                                                                        \
        (void)state;                                                                                         \
        name(false);                                                                                         \
    }                                                                                                        \
    static void test_##name##_tls(void **state)                                                              \
    {                                                                                                        \
        (void)state;                                                                                         \
        if (!HAVE_TLS)                                                                                       \
            skip();                                                                                          \
        name(true);                                                                                          \
    }

BOTH(both_ways)
BOTH(who_is_slow_stops_the_other)
BOTH(the_kernel_ends_its_direction)
BOTH(the_server_ends)
BOTH(the_server_resets)
BOTH(the_kernel_lets_go)
BOTH(the_kernel_lets_go_of_a_stuck_server)

/* ---- the process ---- */

static void read_proc(pid_t pid, const char *name, char *into, size_t size)
{
    char path[64];
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    file = fopen(path, "re");
    assert_non_null(file);
    into[fread(into, 1, size - 1, file)] = '\0';
    fclose(file);
}

static void test_the_process(void **state)
{
    struct relayed r = {.peer = {.tls = HAVE_TLS}};
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE};
    char text[4096];

    (void)state;
    start(&r);
    read_proc(r.pid, "comm", text, sizeof text);
    assert_string_equal(text, RELAY_NAME "\n");
    assert_int_not_equal(getpgid(r.pid), getpgid(0));
    assert_int_not_equal(getsid(r.pid), getsid(0));
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        assert_int_equal(kill(r.pid, signals[i]), 0);
    pass(&r, true, "alive");
    pass(&r, false, "and well");
    read_proc(r.pid, "limits", text, sizeof text);
    assert_non_null(strstr(text, "Max core file size        0 "));
    end(&r);
}

static void test_two_relays_do_not_hold_each_other(void **state)
{
    struct relayed a = {0}, b = {0};

    (void)state;
    start(&a);
    start(&b);
    pass(&b, true, "b");
    let_go(&a);
    /* b was started while a's kernel end was open here. */
    assert_int_equal(relay_peer_read(&a.peer, (char[1]){0}, 1), 0);
    for (int i = 0; i < 500 && waitpid(a.pid, NULL, WNOHANG) == 0; i++)
        usleep(10000);
    assert_int_equal(kill(a.pid, 0), -1);
    pass(&b, false, "b is still there");
    relay_peer_clear(&a.peer);
    end(&b);
}

static void test_a_server_that_has_spoken_already(void **state)
{
    struct relay_peer peer = {.tls = HAVE_TLS};
    struct failure weakness = {0}, failure = {0};
    pid_t pid = 0;

    (void)state;
    relay_peer_open(&peer);
    assert_int_equal(relay_peer_write(&peer, "unasked", 7), 7);
    assert_int_equal(relay_start(&peer.connection, &pid, &weakness, &failure), -EPROTO);
    assert_non_null(strstr(failure.text, "nobody asked for"));
    assert_int_equal(pid, 0);
    relay_peer_clear(&peer);
}

/* ---- TLS alone ---- */

#if HAVE_TLS

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

        start(&r);
        exchange(&r, 1 << 20);
        shutdown(r.peer.connection.fd, SHUT_WR);
        expect_eof(&r, true);
        pass(&r, false, "still here");
        relay_peer_shut(&r.peer);
        expect_eof(&r, false);
        expect_end(&r);
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
    start(&r);
    exchange(&r, 1 << 20);
    end(&r);
}

static void test_changes_of_keys(void **state)
{
    struct relayed r = {.peer = {.tls = true}};

    (void)state;
    start(&r);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(gnutls_session_key_update(r.peer.session, i % 2 ? 0 : GNUTLS_KU_PEER), 0);
        pass(&r, false, "under the server's new keys");
        pass(&r, true, "under ours");
    }
    /* Not during it: GnuTLS's own server cannot take new keys in one thread while another writes. */
    exchange(&r, 1 << 20);
    end(&r);
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
        pass(&r, true, "one more");
    assert_int_equal(count, 1);
    end(&r);
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
    pass(&r, true, "under our new keys");
    pass(&r, false, "under the server's");
    end(&r);
}

/* What is authentic arrives, what is not does not, and the link is dead. */
static void broken_record(void (*spoil)(struct relayed *r))
{
    struct relayed r = {.peer = {.tls = true}};
    char text[64];

    start(&r);
    assert_int_equal(side_write(&r, true, "authentic", 9), 9);
    spoil(&r);
    assert_int_equal(recv(r.peer.connection.fd, text, sizeof text, MSG_WAITALL), 9);
    assert_memory_equal(text, "authentic", 9);
    expect_end(&r);
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
    must(side_write(r, true, "changed on the way", 18) == 18);
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

#define TLS_TESTS                                                                                            \
    cmocka_unit_test(test_ciphers), cmocka_unit_test(test_a_cipher_that_is_not_for_bulk_data),               \
        cmocka_unit_test(test_a_server_of_small_records), cmocka_unit_test(test_changes_of_keys),            \
        cmocka_unit_test(test_our_key_wears_out), cmocka_unit_test(test_a_change_of_keys_under_way),         \
        cmocka_unit_test(test_broken_records),

#else
#define TLS_TESTS
#endif

#define BOTH_TESTS(name) cmocka_unit_test(test_##name), cmocka_unit_test(test_##name##_tls)

int main(void)
{
    const struct CMUnitTest tests[] = {BOTH_TESTS(both_ways),
                                       BOTH_TESTS(who_is_slow_stops_the_other),
                                       BOTH_TESTS(the_kernel_ends_its_direction),
                                       BOTH_TESTS(the_server_ends),
                                       BOTH_TESTS(the_server_resets),
                                       BOTH_TESTS(the_kernel_lets_go),
                                       BOTH_TESTS(the_kernel_lets_go_of_a_stuck_server),
                                       cmocka_unit_test(test_the_process),
                                       cmocka_unit_test(test_two_relays_do_not_hold_each_other),
                                       cmocka_unit_test(test_a_server_that_has_spoken_already),
                                       TLS_TESTS};

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
