/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "protocol/connect.h" /* first: cmocka makes fail() a macro */

#include "loopback.h"

#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44
#endif

static struct connect_policy policy;

static int connect_within(const char *uri, uint64_t timeout_ns, int cancel_fd, struct failure *failure)
{
    struct deadline deadline = deadline_after(timeout_ns, cancel_fd);
    struct target target;
    int fd;

    *failure = (struct failure){0};
    assert_int_equal(target_parse(&target, uri, strlen(uri), failure), 0);
    fd = target_connect(&target, &policy, &deadline, failure);
    target_clear(&target);
    return fd;
}

static int connect_tcp_uri(const char *host, const char *port, uint64_t timeout_ns, struct failure *failure)
{
    char uri[256];

    snprintf(uri, sizeof uri, "nbd://%s:%s/", host, port);
    return connect_within(uri, timeout_ns, -1, failure);
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;

    return getsockopt(fd, level, name, &value, &size) < 0 ? -1 : value;
}

static void test_tcp(void **state)
{
    struct failure failure;
    char port[8];
    int listener = bind_tcp("127.0.0.1", 8, port, sizeof port);
    int fd = connect_tcp_uri("127.0.0.1", port, PATIENCE, &failure);

    (void)state;
    check_flags(fd);
    assert_int_equal(option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 60);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 10);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPCNT), 6);
    /* One of the two, never both: a user timeout cuts off servers that are only slow. */
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_RTO_MAX_MS) == 10000,
                     option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) == 0);
    assert_string_equal(failure.text, "");
    close(fd);
    close(listener);
}

/* One that somebody brings back is given up sooner, but never because its server is 20 s slow. */
static void test_tcp_reconnects(void **state)
{
    struct failure failure;
    char port[8];
    int listener = bind_tcp("127.0.0.1", 8, port, sizeof port);
    int fd, patience;

    (void)state;
    policy.reconnects = true;
    fd = connect_tcp_uri("127.0.0.1", port, PATIENCE, &failure);
    policy.reconnects = false;
    check_flags(fd);
    patience = option(fd, IPPROTO_TCP, TCP_KEEPIDLE) +
               option(fd, IPPROTO_TCP, TCP_KEEPINTVL) * option(fd, IPPROTO_TCP, TCP_KEEPCNT);
    assert_in_range(patience, 21, 30);
    if (option(fd, IPPROTO_TCP, TCP_RTO_MAX_MS) != 2000)
        assert_int_equal(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 30000);
    close(fd);
    close(listener);
}

/* TCP's own handshake has less time than all of it: the next SYN is to find a host that is back. */
static void test_tcp_limit(void **state)
{
    struct failure failure;
    char port[8];
    int listener = bind_tcp("127.0.0.1", 0, port, sizeof port);
    int fillers[16];
    uint64_t begin;

    (void)state;
    /* A full backlog answers no SYN. */
    for (size_t i = 0; i < sizeof fillers / sizeof fillers[0]; i++)
        fillers[i] = connect_tcp_uri("127.0.0.1", port, 50 * MS, &failure);
    policy.tcp_ns = 200 * MS;
    begin = monotonic_ns();
    assert_int_equal(connect_tcp_uri("127.0.0.1", port, 60 * PATIENCE, &failure), -ETIMEDOUT);
    assert_in_range(monotonic_ns() - begin, 200 * MS, 5000 * MS);
    policy.tcp_ns = 0;
    for (size_t i = 0; i < sizeof fillers / sizeof fillers[0]; i++)
        if (fillers[i] >= 0)
            close(fillers[i]);
    close(listener);
}

static void test_tcp6(void **state)
{
    struct failure failure;
    char port[8];
    int listener = bind_tcp("::1", 8, port, sizeof port);
    int fd;

    (void)state;
    if (listener < 0) {
        print_message("# no IPv6 here\n");
        return;
    }
    fd = connect_tcp_uri("[::1]", port, PATIENCE, &failure);
    check_flags(fd);
    close(fd);
    close(listener);
}

static void test_refused(void **state)
{
    struct failure failure;
    char port[8], text[128];
    int holder = bind_tcp("127.0.0.1", -1, port, sizeof port);

    (void)state;
    assert_int_equal(connect_tcp_uri("127.0.0.1", port, PATIENCE, &failure), -ECONNREFUSED);
    snprintf(text, sizeof text, "cannot connect to 127.0.0.1 port %s: Connection refused", port);
    assert_string_equal(failure.text, text);
    assert_string_equal(failure.hint, "is an NBD server listening there?");
    close(holder);
}

static void test_localhost(void **state)
{
    struct failure failure;
    char port[8];
    int listener = bind_tcp("127.0.0.1", 8, port, sizeof port);
    int fd = connect_tcp_uri("localhost", port, PATIENCE, &failure);

    (void)state;
    check_flags(fd);
    close(fd);
    close(listener);
}

static void test_no_answer(void **state)
{
    struct failure failure;
    char port[8], text[128];
    int listener = bind_tcp("127.0.0.1", 0, port, sizeof port);
    int filler = fill_backlog(listener);
    uint64_t begin = monotonic_ns();

    (void)state;
    assert_int_equal(connect_tcp_uri("127.0.0.1", port, 300 * MS, &failure), -ETIMEDOUT);
    assert_in_range((monotonic_ns() - begin) / MS, 300, 2000);
    snprintf(text, sizeof text, "cannot connect to 127.0.0.1 port %s within 0.", port);
    assert_memory_equal(failure.text, text, strlen(text));
    assert_non_null(strstr(failure.text, " s: no answer"));
    assert_int_equal(connect_tcp_uri("127.0.0.1", port, 0, &failure), -ETIMEDOUT);
    close(filler);
    close(listener);
}

static void *cancel_later(void *argument)
{
    usleep(100000);
    assert_int_equal(eventfd_write(*(int *)argument, 1), 0);
    return NULL;
}

static void check_cancel(const char *uri)
{
    int cancel = eventfd(0, EFD_CLOEXEC);
    struct failure failure;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, cancel_later, &cancel), 0);
    assert_int_equal(connect_within(uri, DEADLINE_NEVER, cancel, &failure), -ECANCELED);
    assert_non_null(strstr(failure.text, "was interrupted"));
    assert_int_equal(pthread_join(thread, NULL), 0);
    close(cancel);
}

static void test_cancel_tcp(void **state)
{
    char port[8], uri[64];
    int listener = bind_tcp("127.0.0.1", 0, port, sizeof port);
    int filler = fill_backlog(listener);

    (void)state;
    snprintf(uri, sizeof uri, "nbd://127.0.0.1:%s/", port);
    check_cancel(uri);
    close(filler);
    close(listener);
}

/* A directory for sockets, and the URI of a socket in it. */
struct place {
    char directory[32];
    char path[64];
    char uri[128];
};

static int make_place(void **state)
{
    struct place *place = calloc(1, sizeof *place);

    assert_non_null(place);
    strcpy(place->directory, "/tmp/nbdctl-XXXXXX");
    if (!mkdtemp(place->directory))
        return -1;
    snprintf(place->path, sizeof place->path, "%s/a socket", place->directory);
    snprintf(place->uri, sizeof place->uri, "nbd+unix:///?socket=%s/a%%20socket", place->directory);
    *state = place;
    return 0;
}

static int remove_place(void **state)
{
    struct place *place = *state;

    unlink(place->path);
    rmdir(place->directory);
    free(place);
    return 0;
}

static int bind_unix(const char *path, size_t size, int type, int backlog)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path, path, size);
    assert_int_equal(
        bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)), 0);
    if (backlog >= 0)
        assert_int_equal(listen(fd, backlog), 0);
    return fd;
}

static void test_unix(void **state)
{
    const struct place *place = *state;
    int listener = bind_unix(place->path, strlen(place->path), SOCK_STREAM, 8);
    struct failure failure;
    int fd = connect_within(place->uri, PATIENCE, -1, &failure);

    check_flags(fd);
    close(fd);
    close(listener);
}

static void test_abstract(void **state)
{
    char name[108] = "", uri[256];
    struct failure failure;
    int listener, fd;

    (void)state;
    /* As long as a name can be: all bytes of sun_path count, and none terminates it. */
    memset(name, 'x', sizeof name);
    snprintf(name, sizeof name, "%cnbdctl-test-%ld", '\0', (long)getpid());
    name[strlen(name + 1) + 1] = 'x';
    listener = bind_unix(name, sizeof name, SOCK_STREAM, 8);
    snprintf(uri, sizeof uri, "nbd+unix:///?socket=%%00%.107s", name + 1);
    fd = connect_within(uri, PATIENCE, -1, &failure);
    check_flags(fd);
    close(fd);
    close(listener);
}

static void test_unix_failures(void **state)
{
    const struct place *place = *state;
    struct failure failure;
    char text[256];
    int fd;

    assert_int_equal(connect_within(place->uri, PATIENCE, -1, &failure), -ENOENT);
    snprintf(text, sizeof text, "cannot connect to socket %s: No such file or directory", place->path);
    assert_string_equal(failure.text, text);
    assert_string_equal(failure.hint, "is the server running, and is that its socket?");
    fd = bind_unix(place->path, strlen(place->path), SOCK_STREAM, 0);
    close(fd); /* the file stays */
    assert_int_equal(connect_within(place->uri, PATIENCE, -1, &failure), -ECONNREFUSED);
    assert_int_equal(unlink(place->path), 0);
    fd = bind_unix(place->path, strlen(place->path), SOCK_DGRAM, -1);
    assert_int_equal(connect_within(place->uri, PATIENCE, -1, &failure), -EPROTOTYPE);
    close(fd);
}

static void test_unix_permission(void **state)
{
    const struct place *place = *state;
    int listener = bind_unix(place->path, strlen(place->path), SOCK_STREAM, 8);
    struct failure failure;
    int error = -EACCES;

    assert_int_equal(chmod(place->path, 0), 0);
    if (geteuid() != 0 || seteuid(65534) == 0)
        error = connect_within(place->uri, PATIENCE, -1, &failure);
    if (getuid() == 0)
        assert_int_equal(seteuid(0), 0);
    close(listener);
    assert_int_equal(error, -EACCES);
    assert_non_null(strstr(failure.hint, "permission"));
}

/* Connections until the backlog is full; they are closed with the listener. */
static void fill_unix(const char *path, int *fds, size_t count)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, path, strlen(path));
    for (size_t i = 0; i < count; i++) {
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connect(fds[i], (struct sockaddr *)&address, sizeof address) < 0)
            assert_int_equal(errno, EAGAIN);
    }
}

static void test_unix_backlog(void **state)
{
    const struct place *place = *state;
    int listener = bind_unix(place->path, strlen(place->path), SOCK_STREAM, 0);
    uint64_t begin = monotonic_ns();
    struct failure failure;
    pthread_t thread;
    int fds[3], fd;

    fill_unix(place->path, fds, 3);
    assert_int_equal(connect_within(place->uri, 200 * MS, -1, &failure), -ETIMEDOUT);
    assert_in_range((monotonic_ns() - begin) / MS, 200, 1500);
    assert_non_null(strstr(failure.text, "its backlog is full"));
    check_cancel(place->uri);
    assert_int_equal(pthread_create(&thread, NULL, accept_later, &listener), 0);
    fd = connect_within(place->uri, PATIENCE, -1, &failure);
    check_flags(fd);
    assert_int_equal(pthread_join(thread, NULL), 0);
    close(fd);
    for (size_t i = 0; i < 3; i++)
        close(fds[i]);
    close(listener);
}

/* Only where the loopback transport is there: CID 1 would otherwise leave the machine. */
static void test_vsock(void **state)
{
    struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VMADDR_PORT_ANY};
    socklen_t size = sizeof address;
    struct failure failure;
    char uri[64];
    int listener, fd;

    (void)state;
    if (access("/sys/module/vsock_loopback", F_OK) < 0) {
        /* Not skip(): cmocka 1.1.5 reports that as "not ok" in TAP. */
        print_message("# no vsock loopback here\n");
        return;
    }
    listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    snprintf(uri, sizeof uri, "nbd+vsock://1:%u/", address.svm_port);
    fd = connect_within(uri, PATIENCE, -1, &failure);
    check_flags(fd);
    close(fd);
    close(listener);
    assert_true(connect_within(uri, PATIENCE, -1, &failure) < 0);
    assert_non_null(strstr(failure.text, "cannot connect to vsock 1:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_tcp_reconnects),
        cmocka_unit_test(test_tcp_limit),
        cmocka_unit_test(test_tcp6),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_localhost),
        cmocka_unit_test(test_no_answer),
        cmocka_unit_test(test_cancel_tcp),
        cmocka_unit_test_setup_teardown(test_unix, make_place, remove_place),
        cmocka_unit_test(test_abstract),
        cmocka_unit_test_setup_teardown(test_unix_failures, make_place, remove_place),
        cmocka_unit_test_setup_teardown(test_unix_permission, make_place, remove_place),
        cmocka_unit_test_setup_teardown(test_unix_backlog, make_place, remove_place),
        cmocka_unit_test(test_vsock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
