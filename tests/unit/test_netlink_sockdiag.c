/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Decoders on made-up answers; everything else against this machine's own kernel, over loopback. */
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <linux/tls.h>
#include <linux/unix_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cmocka_all.h"
#include "netlink_build.h"
#include "netlink_skip.h"
#include "sockdiag.h"

static struct netlink_reason reason;

/* ---- decoders ---- */

static size_t begin_inet(struct build *build, uint8_t tcp_state)
{
    const struct inet_diag_msg header = {.idiag_family = AF_INET, .idiag_state = tcp_state};
    size_t at = build_message(build, SOCK_DIAG_BY_FAMILY, 0, 1);

    build_put(build, &header, sizeof header);
    return at;
}

static void put_tls(struct build *build)
{
    size_t ulp = build_nest(build, INET_DIAG_ULP_INFO | NLA_F_NESTED), tls;

    build_attribute(build, INET_ULP_INFO_NAME, "tls", 4);
    tls = build_nest(build, INET_ULP_INFO_TLS | NLA_F_NESTED);
    build_u16(build, TLS_INFO_VERSION, TLS_1_3_VERSION);
    build_u16(build, TLS_INFO_CIPHER, TLS_CIPHER_CHACHA20_POLY1305);
    build_u16(build, TLS_INFO_TXCONF, TLS_CONF_SW);
    build_u16(build, TLS_INFO_RXCONF, TLS_CONF_BASE);
    build_attribute(build, 99, "", 0);
    build_nest_end(build, tls);
    build_nest_end(build, ulp);
}

static void tcp_answers_are_decoded(void **state)
{
    const struct tcp_info info = {.tcpi_rtt = 1234,
                                  .tcpi_bytes_acked = 1,
                                  .tcpi_bytes_received = UINT64_C(1) << 40,
                                  .tcpi_total_retrans = 3};
    struct build build = {0};
    struct socket_view view;
    size_t at = begin_inet(&build, 1);

    (void)state;
    build_attribute(&build, INET_DIAG_INFO, &info, sizeof info);
    put_tls(&build);
    build_message_end(&build, at);
    assert_int_equal(sockdiag_decode_inet(build.data, build.size, &view), 0);
    assert_true(view.established && view.has_tls);
    assert_int_equal(view.rtt_us, 1234);
    assert_int_equal(view.bytes_sent, 1);
    assert_true(view.bytes_received == UINT64_C(1) << 40);
    assert_int_equal(view.retransmits, 3);
    assert_int_equal(view.tls_version, TLS_1_3_VERSION);
    assert_int_equal(view.tls_cipher, TLS_CIPHER_CHACHA20_POLY1305);
    assert_int_equal(view.tls_tx, TLS_CONF_SW);
    assert_int_equal(view.tls_rx, TLS_CONF_BASE);
}

static void tcp_info_may_have_any_length(void **state)
{
    uint8_t info[sizeof(struct tcp_info) + 64];

    (void)state;
    memset(info, 1, sizeof info);
    for (size_t size = 0; size <= sizeof info; size += 4) {
        struct build build = {0};
        struct socket_view view;
        size_t at = begin_inet(&build, 1);

        build_attribute(&build, INET_DIAG_INFO, info, size);
        build_message_end(&build, at);
        assert_int_equal(sockdiag_decode_inet(build.data, build.size, &view), 0);
        assert_int_equal(view.rtt_us != 0, size >= offsetof(struct tcp_info, tcpi_rtt) + 4);
    }
}

static void other_states_are_not_established(void **state)
{
    (void)state;
    for (uint8_t tcp_state = 0; tcp_state < 13; tcp_state++) {
        struct build build = {0};
        struct socket_view view;

        build_message_end(&build, begin_inet(&build, tcp_state));
        assert_int_equal(sockdiag_decode_inet(build.data, build.size, &view), 0);
        assert_int_equal(view.established, tcp_state == 1);
    }
}

static void make_unix(struct build *build, uint8_t unix_state, int shut)
{
    const struct unix_diag_msg header = {.udiag_family = AF_UNIX, .udiag_state = unix_state};
    size_t at = build_message(build, SOCK_DIAG_BY_FAMILY, 0, 1);

    build_put(build, &header, sizeof header);
    build_attribute(build, UNIX_DIAG_NAME, "x", 1);
    if (shut >= 0)
        build_u8(build, UNIX_DIAG_SHUTDOWN, (uint8_t)shut);
    build_message_end(build, at);
}

static void unix_answers_are_decoded(void **state)
{
    static const struct {
        uint8_t state;
        int shut;
        bool established;
    } rows[] = {{1, 0, true}, {1, -1, true}, {1, 1, false}, {1, 2, false}, {1, 3, false}, {7, 0, false}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct build build = {0};
        struct socket_view view;

        make_unix(&build, rows[i].state, rows[i].shut);
        assert_int_equal(sockdiag_decode_unix(build.data, build.size, &view), 0);
        assert_int_equal(view.established, rows[i].established);
    }
}

/* Every length and every byte: refused or taken, but read only within its bounds. */
static void garbage_does_no_harm(void **state)
{
    struct build builds[2] = {0};
    struct socket_view view;
    size_t at = begin_inet(&builds[0], 1);

    (void)state;
    put_tls(&builds[0]);
    build_message_end(&builds[0], at);
    make_unix(&builds[1], 1, 0);
    for (size_t i = 0; i < 2; i++)
        for (size_t size = 0; size < builds[i].size; size++) {
            uint8_t *copy = malloc(size + 1);

            assert_non_null(copy);
            memcpy(copy + 1, builds[i].data, size);
            assert_int_equal(sockdiag_decode_inet(copy + 1, size, &view), -EBADMSG);
            assert_int_equal(sockdiag_decode_unix(copy + 1, size, &view), -EBADMSG);
            free(copy);
        }
    for (size_t size = 0; size < builds[0].size; size++) {
        uint8_t before = builds[0].data[size];

        for (unsigned value = 0; value < 256; value++) {
            builds[0].data[size] = (uint8_t)value;
            assert_true(sockdiag_decode_inet(builds[0].data, builds[0].size, &view) >= -EBADMSG);
        }
        builds[0].data[size] = before;
    }
}

static void wrong_types_are_refused(void **state)
{
    struct build build = {0};
    struct socket_view view;

    (void)state;
    build_message_end(&build, build_genl(&build, 1));
    assert_int_equal(sockdiag_decode_inet(build.data, build.size, &view), -EBADMSG);
    assert_int_equal(sockdiag_decode_unix(build.data, build.size, &view), -EBADMSG);
}

/* ---- sockets ---- */

struct link {
    int client, server;
    struct socket_identity identity;
};

/* Addresses are the caller's; the listener takes the port. */
static bool link_tcp(struct link *link, struct sockaddr_storage *address, socklen_t size, int client_family)
{
    int listener = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 mapped = {.sin6_family = AF_INET6,
                                  .sin6_addr = {.s6_addr = {[10] = 0xff, 0xff, 127, 0, 0, 1}}};
    const struct sockaddr *to = (const struct sockaddr *)address;
    bool good = listener >= 0 && bind(listener, (struct sockaddr *)address, size) == 0 &&
                listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)address, &size) == 0;

    if (good && client_family != address->ss_family) {
        mapped.sin6_port = ((const struct sockaddr_in *)address)->sin_port;
        to = (const struct sockaddr *)&mapped;
        size = sizeof mapped;
    }
    link->client = socket(client_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    link->server = -1;
    if (good && link->client >= 0 && connect(link->client, to, size) == 0)
        link->server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    if (link->server < 0)
        close(link->client);
    return link->server >= 0;
}

static bool link_v4(struct link *link, int client_family)
{
    const struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_storage address = {0};

    memcpy(&address, &loopback, sizeof loopback);
    return link_tcp(link, &address, sizeof loopback, client_family);
}

static bool link_v6(struct link *link, const struct sockaddr_in6 *to)
{
    struct sockaddr_storage address = {0};

    memcpy(&address, to, sizeof *to);
    return link_tcp(link, &address, sizeof *to, AF_INET6);
}

static void look(struct link *link, struct socket_view *view)
{
    assert_int_equal(socket_identify(link->client, &link->identity, &reason), 0);
    assert_true(link->identity.cookie != 0 && link->identity.inode != 0);
    if (socket_view(&link->identity, view, &reason) < 0)
        fail_msg("%s", reason.text);
}

static void nap(void)
{
    const struct timespec time = {.tv_nsec = 20000000};

    nanosleep(&time, NULL);
}

static void exchange_bytes(struct link *link)
{
    char buffer[1000] = {0};

    assert_int_equal(send(link->client, buffer, sizeof buffer, 0), sizeof buffer);
    assert_int_equal(recv(link->server, buffer, sizeof buffer, MSG_WAITALL), sizeof buffer);
    assert_int_equal(send(link->server, buffer, 500, 0), 500);
    assert_int_equal(recv(link->client, buffer, 500, MSG_WAITALL), 500);
    nap();
}

static void check_live(struct link *link)
{
    struct socket_view view;

    exchange_bytes(link);
    look(link, &view);
    assert_true(view.established);
    assert_true(view.rtt_us > 0);
    assert_in_range(view.bytes_sent, 1000, 1001);
    assert_int_equal(view.bytes_received, 500);
    assert_false(view.has_tls);
    close(link->client);
    close(link->server);
}

/* Where the kernel cannot tell, nothing of this can be tested. */
static bool can_tell(void)
{
    struct link link;
    struct socket_view view;
    int r;

    if (!link_v4(&link, AF_INET))
        return false;
    socket_identify(link.client, &link.identity, &reason);
    r = socket_view(&link.identity, &view, &reason);
    close(link.client);
    close(link.server);
    return r != -EOPNOTSUPP;
}

static void tcp_v4_is_seen(void **state)
{
    struct link link;

    (void)state;
    if (!can_tell())
        SKIP("the kernel cannot tell about sockets of this kind");
    assert_true(link_v4(&link, AF_INET));
    check_live(&link);
}

static void tcp_v6_is_seen(void **state)
{
    const struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct link link;

    (void)state;
    if (!can_tell() || !link_v6(&link, &loopback))
        SKIP("the kernel cannot tell about sockets of this kind");
    check_live(&link);
}

/* An IPv6 socket that talks IPv4: ::ffff:127.0.0.1. */
static void mapped_addresses_are_seen(void **state)
{
    struct link link;

    (void)state;
    if (!can_tell() || !link_v4(&link, AF_INET6))
        SKIP("the kernel cannot tell about sockets of this kind");
    check_live(&link);
}

static void interfaces_are_part_of_the_identity(void **state)
{
    struct socket_view view;
    struct link link;
    int loopback = (int)if_nametoindex("lo");

    (void)state;
    if (!can_tell() || !link_v4(&link, AF_INET))
        SKIP("the kernel cannot tell about sockets of this kind");
    if (setsockopt(link.client, SOL_SOCKET, SO_BINDTOIFINDEX, &loopback, sizeof loopback) < 0) {
        close(link.client);
        close(link.server);
        SKIP("the kernel cannot tell about sockets of this kind");
    }
    look(&link, &view);
    assert_int_equal(link.identity.interface, loopback);
    assert_true(view.established);
    close(link.client);
    close(link.server);
}

/* A link-local address of this machine, if it has one: fe80::…%eth0. */
static bool find_link_local(struct sockaddr_in6 *address)
{
    struct ifaddrs *all = NULL;
    bool found = false;

    if (getifaddrs(&all) < 0)
        return false;
    for (const struct ifaddrs *one = all; one && !found; one = one->ifa_next) {
        if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET6)
            continue;
        memcpy(address, one->ifa_addr, sizeof *address);
        found = IN6_IS_ADDR_LINKLOCAL(&address->sin6_addr);
    }
    freeifaddrs(all);
    return found;
}

static void scope_ids_are_part_of_the_identity(void **state)
{
    struct sockaddr_in6 address;
    struct link link;

    (void)state;
    if (!can_tell() || !find_link_local(&address) || !link_v6(&link, &address))
        SKIP("no link-local address, or the kernel cannot tell");
    assert_int_equal(socket_identify(link.client, &link.identity, &reason), 0);
    assert_int_equal(link.identity.interface, address.sin6_scope_id);
    check_live(&link);
}

static void a_closed_peer_is_no_established_link(void **state)
{
    struct socket_view view;
    struct link link;

    (void)state;
    if (!can_tell())
        SKIP("the kernel cannot tell about sockets of this kind");
    assert_true(link_v4(&link, AF_INET));
    look(&link, &view);
    shutdown(link.server, SHUT_WR);
    nap();
    /* CLOSE_WAIT */
    assert_int_equal(socket_view(&link.identity, &view, &reason), 0);
    assert_false(view.established);
    close(link.server);
    shutdown(link.client, SHUT_RDWR);
    nap();
    assert_int_equal(socket_view(&link.identity, &view, &reason), -ENOENT);
    assert_string_equal(reason.text, "the connection is gone");
    close(link.client);
}

/* The same addresses and ports, but another socket: it is not mistaken for the first. */
static void a_successor_is_not_mistaken(void **state)
{
    struct socket_view view;
    struct link link;

    (void)state;
    if (!can_tell())
        SKIP("the kernel cannot tell about sockets of this kind");
    assert_true(link_v4(&link, AF_INET));
    look(&link, &view);
    link.identity.cookie++;
    assert_int_equal(socket_view(&link.identity, &view, &reason), -ENOENT);
    close(link.client);
    close(link.server);
}

static void unix_sockets_are_seen(void **state)
{
    struct socket_view view;
    struct link link;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    link = (struct link){.client = pair[0], .server = pair[1]};
    assert_int_equal(socket_identify(link.client, &link.identity, &reason), 0);
    if (socket_view(&link.identity, &view, &reason) == -EOPNOTSUPP)
        SKIP("the kernel cannot tell about sockets of this kind");
    look(&link, &view);
    assert_true(view.established);
    assert_int_equal(view.rtt_us, 0);
    close(link.server);
    assert_int_equal(socket_view(&link.identity, &view, &reason), 0);
    assert_false(view.established);
    link.identity.cookie++;
    assert_int_equal(socket_view(&link.identity, &view, &reason), -ENOENT);
    link.identity.cookie--;
    close(link.client);
    assert_int_equal(socket_view(&link.identity, &view, &reason), -ENOENT);
}

static int identify(int fd)
{
    struct socket_identity identity;
    int r = socket_identify(fd, &identity, &reason);

    if (fd >= 0)
        close(fd);
    return r;
}

static void other_descriptors_are_refused(void **state)
{
    int pair[2];

    (void)state;
    assert_int_equal(identify(-1), -EBADF);
    assert_int_equal(identify(open("/dev/null", O_RDONLY | O_CLOEXEC)), -ENOTSOCK);
    assert_int_equal(identify(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), -ENOTCONN);
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(identify(pair[0]), -EAFNOSUPPORT);
    close(pair[1]);
}

/* ---- destruction ---- */

static void close_link(struct link *link)
{
    close(link->client);
    close(link->server);
}

/* False only where the kernel has no such thing, or does not do it for us. */
static bool is_destroyed(int r)
{
    if (r == -EOPNOTSUPP || (r == -EPERM && geteuid() != 0))
        return false;
    if (r < 0)
        fail_msg("%s", reason.text);
    return true;
}

static void check_destruction(struct link *link)
{
    char byte = 0;

    assert_int_equal(socket_identify(link->client, &link->identity, &reason), 0);
    if (!is_destroyed(socket_destroy(&link->identity, &reason))) {
        close_link(link);
        SKIP(reason.text);
    }
    assert_int_equal(send(link->client, &byte, 1, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, ECONNABORTED);
    assert_int_equal(recv(link->server, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_int_equal(socket_destroy(&link->identity, &reason), -ENOENT);
    assert_string_equal(reason.text, "the connection is gone");
    close_link(link);
}

static void tcp_connections_are_broken(void **state)
{
    const struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct link link;

    (void)state;
    assert_true(link_v4(&link, AF_INET));
    check_destruction(&link);
    if (link_v4(&link, AF_INET6))
        check_destruction(&link);
    if (link_v6(&link, &loopback))
        check_destruction(&link);
}

static void a_bound_connection_is_broken(void **state)
{
    int loopback = (int)if_nametoindex("lo");
    struct link link;

    (void)state;
    assert_true(link_v4(&link, AF_INET));
    if (setsockopt(link.client, SOL_SOCKET, SO_BINDTOIFINDEX, &loopback, sizeof loopback) < 0) {
        close_link(&link);
        SKIP("sockets cannot be bound to an interface");
    }
    check_destruction(&link);
}

/* Returns when it is refused, with what errno. */
static void *send_for_ever(void *argument)
{
    static const char block[65536];
    const int *fd = argument;

    while (send(*fd, block, sizeof block, MSG_NOSIGNAL) > 0)
        ;
    return (void *)(intptr_t)errno;
}

/* What it is for: the server no longer reads, and somebody waits to send. */
static void a_waiting_sender_is_woken(void **state)
{
    pthread_t thread;
    struct link link;
    void *error;
    int r;

    (void)state;
    assert_true(link_v4(&link, AF_INET));
    assert_int_equal(pthread_create(&thread, NULL, send_for_ever, &link.client), 0);
    for (int i = 0; i < 10; i++)
        nap();
    assert_int_equal(pthread_tryjoin_np(thread, &error), EBUSY);
    assert_int_equal(socket_identify(link.client, &link.identity, &reason), 0);
    r = socket_destroy(&link.identity, &reason);
    if (r < 0)
        shutdown(link.client, SHUT_RDWR);
    assert_int_equal(pthread_join(thread, &error), 0);
    close_link(&link);
    if (!is_destroyed(r))
        SKIP(reason.text);
    assert_int_equal((intptr_t)error, ECONNABORTED);
}

/* The nbd driver's sockets with kernel TLS have another set of operations. */
static void a_connection_with_tls_is_broken(void **state)
{
    struct tls12_crypto_info_aes_gcm_128 keys = {
        .info = {.version = TLS_1_3_VERSION, .cipher_type = TLS_CIPHER_AES_GCM_128}};
    struct link link;

    (void)state;
    assert_true(link_v4(&link, AF_INET));
    if (setsockopt(link.client, IPPROTO_TCP, TCP_ULP, "tls", 4) < 0 ||
        setsockopt(link.client, SOL_TLS, TLS_TX, &keys, sizeof keys) < 0) {
        close_link(&link);
        SKIP("no TLS in this kernel");
    }
    check_destruction(&link);
}

static void only_that_very_socket_is_broken(void **state)
{
    struct socket_identity other;
    struct link link;
    int r;

    (void)state;
    assert_true(link_v4(&link, AF_INET));
    assert_int_equal(socket_identify(link.client, &link.identity, &reason), 0);
    other = link.identity;
    other.cookie++;
    r = socket_destroy(&other, &reason);
    assert_true(r == -ENOENT || r == -EOPNOTSUPP);
    other.cookie = UINT64_MAX;
    assert_int_equal(socket_destroy(&other, &reason), -EINVAL);
    exchange_bytes(&link);
    close_link(&link);
}

static void unix_sockets_cannot_be_broken(void **state)
{
    struct link link;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    link = (struct link){.client = pair[0], .server = pair[1]};
    assert_int_equal(socket_identify(link.client, &link.identity, &reason), 0);
    assert_int_equal(socket_destroy(&link.identity, &reason), -EOPNOTSUPP);
    exchange_bytes(&link);
    close_link(&link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_answers_are_decoded),
        cmocka_unit_test(tcp_info_may_have_any_length),
        cmocka_unit_test(other_states_are_not_established),
        cmocka_unit_test(unix_answers_are_decoded),
        cmocka_unit_test(garbage_does_no_harm),
        cmocka_unit_test(wrong_types_are_refused),
        cmocka_unit_test(tcp_v4_is_seen),
        cmocka_unit_test(tcp_v6_is_seen),
        cmocka_unit_test(mapped_addresses_are_seen),
        cmocka_unit_test(interfaces_are_part_of_the_identity),
        cmocka_unit_test(scope_ids_are_part_of_the_identity),
        cmocka_unit_test(a_closed_peer_is_no_established_link),
        cmocka_unit_test(a_successor_is_not_mistaken),
        cmocka_unit_test(unix_sockets_are_seen),
        cmocka_unit_test(other_descriptors_are_refused),
        cmocka_unit_test(tcp_connections_are_broken),
        cmocka_unit_test(a_bound_connection_is_broken),
        cmocka_unit_test(a_waiting_sender_is_woken),
        cmocka_unit_test(a_connection_with_tls_is_broken),
        cmocka_unit_test(only_that_very_socket_is_broken),
        cmocka_unit_test(unix_sockets_cannot_be_broken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
