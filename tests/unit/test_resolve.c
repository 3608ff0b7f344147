/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Name lookups, with getaddrinfo() replaced for names (linked with --wrap): nothing leaves this process. */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/connect.h" /* first: cmocka makes fail() a macro */
#include "protocol/resolve.h"

#include "cmocka_all.h"

#define MS UINT64_C(1000000)

int __real_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **ret);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **ret);

/* Lookups of "slow" wait until they are let go. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool held;
static unsigned int waiting;

static void hold_slow(bool hold)
{
    pthread_mutex_lock(&lock);
    held = hold;
    pthread_cond_broadcast(&changed);
    while (!hold && waiting > 0)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void wait_while_held(void)
{
    pthread_mutex_lock(&lock);
    waiting++;
    while (held)
        pthread_cond_wait(&changed, &lock);
    waiting--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* The thread must leave signals to those who wait for them. */
static bool signals_blocked(void)
{
    sigset_t mask;

    return pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0 && sigismember(&mask, SIGTERM) == 1 &&
           sigismember(&mask, SIGALRM) == 1;
}

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **ret)
{
    int error;

    if (hints->ai_flags & AI_NUMERICHOST)
        return __real_getaddrinfo(host, port, hints, ret);
    if (!signals_blocked() || hints->ai_protocol != IPPROTO_TCP)
        return EAI_FAIL;
    if (strcmp(host, "again") == 0)
        return EAI_AGAIN;
    if (strcmp(host, "system") == 0) {
        errno = EMFILE;
        return EAI_SYSTEM;
    }
    if (strcmp(host, "slow") == 0)
        wait_while_held();
    else if (strcmp(host, "both") != 0)
        return EAI_NONAME;
    error = __real_getaddrinfo("::1", port, hints, ret);
    return error ? error : __real_getaddrinfo("127.0.0.1", port, hints, &(*ret)->ai_next);
}

static int lookup(const char *host, uint64_t timeout_ns, int cancel_fd, int *gai_error)
{
    struct deadline deadline = deadline_after(timeout_ns, cancel_fd);
    struct addrinfo *list = NULL;
    int error = resolve(host, "10809", &deadline, &list, gai_error);

    assert_int_equal(error == 0, list != NULL);
    if (list)
        freeaddrinfo(list);
    return error;
}

static void test_numeric(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "::1", "fe80::1%1"};
    int gai_error;

    (void)state;
    /* No time is needed: nothing is looked up. */
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++)
        assert_int_equal(lookup(hosts[i], 0, -1, &gai_error), 0);
    assert_int_equal(lookup("fe80::1%no-such-device", 0, -1, &gai_error), -ENXIO);
    assert_int_equal(gai_error, EAI_NONAME);
}

static void test_answers(void **state)
{
    int gai_error = 0;

    (void)state;
    assert_int_equal(lookup("both", DEADLINE_NEVER, -1, &gai_error), 0);
    assert_int_equal(lookup("missing", DEADLINE_NEVER, -1, &gai_error), -ENXIO);
    assert_int_equal(gai_error, EAI_NONAME);
    assert_int_equal(lookup("again", DEADLINE_NEVER, -1, &gai_error), -ENXIO);
    assert_int_equal(gai_error, EAI_AGAIN);
    assert_int_equal(lookup("system", DEADLINE_NEVER, -1, &gai_error), -EMFILE);
}

static void test_abandoned(void **state)
{
    int cancel = eventfd(1, EFD_CLOEXEC), gai_error;
    uint64_t begin = monotonic_ns();

    (void)state;
    hold_slow(true);
    assert_int_equal(lookup("slow", 100 * MS, -1, &gai_error), -ETIMEDOUT);
    assert_in_range((monotonic_ns() - begin) / MS, 100, 2000);
    assert_int_equal(lookup("slow", DEADLINE_NEVER, cancel, &gai_error), -ECANCELED);
    hold_slow(false);
    assert_int_equal(lookup("slow", DEADLINE_NEVER, -1, &gai_error), 0);
    close(cancel);
}

static void test_many_abandoned(void **state)
{
    int gai_error, error, abandoned = 0;

    (void)state;
    hold_slow(true);
    do {
        error = lookup("slow", 1 * MS, -1, &gai_error);
        abandoned++;
    } while (error == -ETIMEDOUT && abandoned < 100);
    assert_int_equal(error, -EBUSY);
    assert_in_range(abandoned, 10, 17);
    hold_slow(false);
    /* Their threads have returned from the lookup, but may not have ended. */
    for (int i = 0; i < 1000 && error == -EBUSY; i++) {
        usleep(1000);
        error = lookup("both", DEADLINE_NEVER, -1, &gai_error);
    }
    assert_int_equal(error, 0);
}

static struct connect_policy policy;

static int connect_to(const char *uri, uint64_t timeout_ns, struct failure *failure)
{
    struct deadline deadline = deadline_after(timeout_ns, -1);
    struct target target;
    int fd;

    *failure = (struct failure){0};
    assert_int_equal(target_parse(&target, uri, strlen(uri), failure), 0);
    fd = target_connect(&target, &policy, &deadline, failure);
    target_clear(&target);
    return fd;
}

static void test_messages(void **state)
{
    struct failure failure;

    (void)state;
    assert_int_equal(connect_to("nbd://missing/", DEADLINE_NEVER, &failure), -ENXIO);
    assert_string_equal(failure.text, "cannot connect to missing port 10809: Name or service not known");
    assert_string_equal(failure.hint, "check the name, or use an address");
    assert_int_equal(connect_to("nbd://again/", DEADLINE_NEVER, &failure), -EAGAIN);
    assert_string_equal(failure.hint, "is the name server reachable?");
    assert_int_equal(connect_to("nbd://system/", DEADLINE_NEVER, &failure), -EMFILE);
    assert_string_equal(failure.text, "cannot connect to system port 10809: Too many open files");
    hold_slow(true);
    assert_int_equal(connect_to("nbd://slow/", 100 * MS, &failure), -ETIMEDOUT);
    assert_memory_equal(failure.text, "cannot connect to slow port 10809 within 0.", 43);
    assert_non_null(strstr(failure.text, " s: no answer to the name lookup"));
    hold_slow(false);
}

/* A listener on one of the two addresses of "both"; its port in *port. */
static int listen_on(int family, in_port_t *port)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *address = family == AF_INET6 ? (struct sockaddr *)&six : (struct sockaddr *)&four;
    socklen_t size = family == AF_INET6 ? sizeof six : sizeof four;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, address, size) < 0)
        return -1;
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, address, &size), 0);
    *port = ntohs(family == AF_INET6 ? six.sin6_port : four.sin_port);
    return fd;
}

static void test_either_family(void **state)
{
    static const int families[] = {AF_INET6, AF_INET};
    struct failure failure;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        in_port_t port;
        char uri[64];
        int listener = listen_on(families[i], &port), fd;

        if (listener < 0)
            continue;
        snprintf(uri, sizeof uri, "nbd://both:%u/", port);
        fd = connect_to(uri, 10000 * MS, &failure);
        assert_true(fd >= 0);
        close(fd);
        close(listener);
    }
}

/* Port 1 of the loopback addresses: nobody listens there. */
static void test_every_address_is_told(void **state)
{
    struct failure failure;
    int error = connect_to("nbd://both:1/", 10000 * MS, &failure);

    (void)state;
    assert_int_equal(error, -ECONNREFUSED);
    assert_memory_equal(failure.text, "cannot connect to both port 1: ::1: ", 36);
    assert_non_null(strstr(failure.text, "; 127.0.0.1: Connection refused"));
}

/* Where no name server answers, or not in time, the address that was good before is as good as any. */
static void test_known_address(void **state)
{
    static const char *const uris[] = {"nbd://missing/", "nbd://slow/"};
    struct sockaddr_in *known = (struct sockaddr_in *)&policy.known;
    struct failure failure;
    in_port_t port;
    int listener = listen_on(AF_INET, &port);

    (void)state;
    *known = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    hold_slow(true);
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++) {
        int fd = connect_to(uris[i], 10000 * MS, &failure);

        assert_true(fd >= 0);
        close(fd);
    }
    hold_slow(false);
    close(listener);
    /* It is a way like any other: nobody listens there now. */
    assert_int_equal(connect_to("nbd://missing/", 10000 * MS, &failure), -ECONNREFUSED);
    policy = (struct connect_policy){0};
    assert_int_equal(connect_to("nbd://missing/", 10000 * MS, &failure), -ENXIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numeric),       cmocka_unit_test(test_answers),
        cmocka_unit_test(test_abandoned),     cmocka_unit_test(test_many_abandoned),
        cmocka_unit_test(test_messages),      cmocka_unit_test(test_known_address),
        cmocka_unit_test(test_either_family), cmocka_unit_test(test_every_address_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
