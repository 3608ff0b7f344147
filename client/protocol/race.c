/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/race.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "cleanup.h"
#include "escape.h"

#define STAGGER_NS     UINT64_C(250000000) /* RFC 8305 section 5 */
#define ADDRESSES_MAX  64                  /* bounds descriptors; no server has more */
#define ADDRESSES_TOLD 4

/*
 * Keepalive is silent while sent data is unacknowledged; then it takes the 15 retransmissions of tcp_retries2
 * to notice that the peer is gone, a quarter of an hour with the pauses of up to 2 min that TCP makes between
 * them. With short pauses it is seconds. A server that is only slow is never cut off: also one that keeps its
 * window closed, reading nothing while its own disk hangs, answers the probes. Since Linux 6.15.
 */
#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44
#endif

/*
 * user_timeout_ms is what older kernels have instead of rto_max_ms. It does cut off a peer that answers
 * probes with a closed window all the time (tcp_probe_timer), and takes the place of the number of probes.
 */
struct patience {
    int idle_s, interval_s, probes; /* keepalive */
    int rto_max_ms, user_timeout_ms;
};

/* Two minutes: an outage that passes must find a connection alive that nobody would bring back. */
static const struct patience alone = {
    .idle_s = 60, .interval_s = 10, .probes = 6, .rto_max_ms = 10000, .user_timeout_ms = 120000};
/* Half a minute: it costs a reconnect, and a server that is 20 s slow is still left alone. */
static const struct patience brought_back = {
    .idle_s = 10, .interval_s = 5, .probes = 4, .rto_max_ms = 2000, .user_timeout_ms = 30000};

struct attempt {
    const struct addrinfo *address;
    int fd;    /* -1 before it started and after it failed */
    int error; /* positive errno once it failed */
};

struct race {
    const struct patience *patience;
    struct attempt attempts[ADDRESSES_MAX];
    struct pollfd poll[ADDRESSES_MAX + 1]; /* the attempts, then what cancels */
    size_t count;
    size_t started;
    uint64_t next_ns; /* when the next attempt starts */
};

static bool family_is(const struct addrinfo *address, int family, bool wanted)
{
    return (address->ai_family == family) == wanted;
}

static const struct addrinfo *next_of(const struct addrinfo *address, int family, bool wanted)
{
    while (address && !family_is(address, family, wanted))
        address = address->ai_next;
    return address;
}

/* The order of the resolver (RFC 6724) within each family; the families take turns. */
static void race_order(struct race *race, const struct addrinfo *list)
{
    int family = list->ai_family;
    const struct addrinfo *queues[2] = {list, next_of(list, family, false)};

    for (bool first = true; race->count < ADDRESSES_MAX && (queues[0] || queues[1]); first = !first) {
        const struct addrinfo **queue = &queues[first ? 0 : 1];

        if (!*queue)
            continue;
        race->attempts[race->count++] = (struct attempt){.address = *queue, .fd = -1};
        *queue = next_of((*queue)->ai_next, family, first);
    }
}

static int set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

/* Before connect(2), so that nothing can be sent without them. */
static int set_options(const struct race *race, int fd)
{
    const struct {
        int level, option, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, race->patience->idle_s},
        {IPPROTO_TCP, TCP_KEEPINTVL, race->patience->interval_s},
        {IPPROTO_TCP, TCP_KEEPCNT, race->patience->probes},
    };

    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        int error = set_option(fd, options[i].level, options[i].option, options[i].value);

        if (error)
            return error;
    }
    return 0;
}

/* Not before connect(2): how long the handshake may take is for the deadline to say. */
static int bound_retransmission(const struct patience *patience, int fd)
{
    if (set_option(fd, IPPROTO_TCP, TCP_RTO_MAX_MS, patience->rto_max_ms) == 0)
        return 0;
    return set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, patience->user_timeout_ms);
}

/*
 * A port of the ephemeral range that nobody listens on can be picked as the source port too: TCP then
 * connects the socket to itself, and a client that keeps trying gets there in the end.
 */
static bool connected_to_itself(int fd)
{
    struct sockaddr_storage local = {0}, remote = {0};
    socklen_t local_size = sizeof local, remote_size = sizeof remote;

    return getsockname(fd, (struct sockaddr *)&local, &local_size) == 0 &&
           getpeername(fd, (struct sockaddr *)&remote, &remote_size) == 0 && local_size == remote_size &&
           memcmp(&local, &remote, local_size) == 0;
}

static void attempt_fail(struct attempt *attempt, int error)
{
    cleanup_close(&attempt->fd);
    attempt->error = error;
}

/* Whether the attempt's socket is connected; an attempt that ended without is marked. */
static bool attempt_finish(const struct race *race, struct attempt *attempt)
{
    int error = 0;
    socklen_t size = sizeof error;

    if (getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    if (error == 0 && connected_to_itself(attempt->fd))
        error = ECONNREFUSED;
    if (error == 0)
        error = -bound_retransmission(race->patience, attempt->fd);
    if (error)
        attempt_fail(attempt, error);
    return error == 0;
}

/* True when it connected at once; otherwise it is under way or has failed. */
static bool attempt_start(const struct race *race, struct attempt *attempt)
{
    const struct addrinfo *address = attempt->address;
    int error;

    /* Never ai_protocol 0: where MPTCP is the default of the system, that is what 0 becomes. */
    attempt->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (attempt->fd < 0) {
        attempt_fail(attempt, errno);
        return false;
    }
    error = set_options(race, attempt->fd);
    if (error) {
        attempt_fail(attempt, -error);
        return false;
    }
    if (connect(attempt->fd, address->ai_addr, address->ai_addrlen) == 0)
        return attempt_finish(race, attempt);
    if (errno != EINPROGRESS && errno != EINTR)
        attempt_fail(attempt, errno);
    return false;
}

static size_t race_pending(const struct race *race)
{
    size_t pending = 0;

    for (size_t i = 0; i < race->started; i++)
        pending += race->attempts[i].fd >= 0;
    return pending;
}

/* Starts what is due. The fd of an attempt that connected at once, or -1. */
static int race_start(struct race *race)
{
    while (race->started < race->count && (race_pending(race) == 0 || monotonic_ns() >= race->next_ns)) {
        struct attempt *attempt = &race->attempts[race->started++];

        if (attempt_start(race, attempt))
            return steal_fd(&attempt->fd);
        race->next_ns = monotonic_ns() + (attempt->fd >= 0 ? STAGGER_NS : 0);
    }
    return -1;
}

/* The earlier of the deadline and the next attempt's start, for poll(2). */
static int race_wait_ms(const struct race *race, const struct deadline *deadline)
{
    struct deadline next = {.at_ns = race->next_ns, .cancel_fd = -1};
    int ms = deadline_remaining_ms(deadline);

    if (race->started == race->count)
        return ms;
    return ms < 0 || next.at_ns < deadline->at_ns ? deadline_remaining_ms(&next) : ms;
}

/* Waits for something to happen: 0, -ETIMEDOUT (the deadline), -ECANCELED, or another -errno. */
static int race_poll(struct race *race, const struct deadline *deadline)
{
    for (size_t i = 0; i < race->started; i++)
        race->poll[i] = (struct pollfd){.fd = race->attempts[i].fd, .events = POLLOUT};
    race->poll[race->started] = (struct pollfd){.fd = deadline->cancel_fd, .events = POLLIN};
    if (poll(race->poll, race->started + 1, race_wait_ms(race, deadline)) < 0)
        return errno == EINTR ? 0 : -errno;
    if (race->poll[race->started].revents)
        return -ECANCELED;
    return 0;
}

/* Looks at what poll(2) reported: the connected fd, or -1. */
static int race_collect(struct race *race, size_t polled)
{
    for (size_t i = 0; i < polled; i++) {
        struct attempt *attempt = &race->attempts[i];

        if (attempt->fd < 0 || !race->poll[i].revents)
            continue;
        if (attempt_finish(race, attempt))
            return steal_fd(&attempt->fd);
        race->next_ns = 0; /* a failure is reason enough to try the next address now */
    }
    return -1;
}

/* How much an error says: an address of a family this machine has no route for explains little. */
static int error_rank(int error)
{
    switch (error) {
    case ECONNREFUSED:
        return 3;
    case EAFNOSUPPORT:
    case EADDRNOTAVAIL:
    case ENETUNREACH:
    case EHOSTUNREACH:
        return 1;
    default:
        return 2;
    }
}

static int race_error(const struct race *race)
{
    int error = race->attempts[0].error;

    for (size_t i = 1; i < race->started; i++)
        if (error_rank(race->attempts[i].error) > error_rank(error))
            error = race->attempts[i].error;
    return error ? error : ECONNREFUSED;
}

/* The winner's fd, -ETIMEDOUT, -ECANCELED, or what says most when every attempt failed. */
static int race_run(struct race *race, const struct deadline *deadline)
{
    for (;;) {
        int fd = race_start(race);
        size_t polled = race->started;
        int error;

        if (fd >= 0)
            return fd;
        if (race_pending(race) == 0)
            return -race_error(race);
        error = race_poll(race, deadline);
        if (error)
            return error;
        fd = race_collect(race, polled);
        if (fd >= 0)
            return fd;
        if (deadline_remaining_ms(deadline) == 0)
            return -ETIMEDOUT;
    }
}

/* An IPv6 zone is the name of an interface, which may hold anything. */
static void put_address(FILE *out, const struct addrinfo *address)
{
    char host[NI_MAXHOST] = "?";
    _cleanup_free_ char *escaped = NULL;

    getnameinfo(address->ai_addr, address->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    escaped = escape_text(host, strlen(host), sizeof host);
    fprintf(out, "%s: ", escaped ? escaped : "?");
}

/* "127.0.0.1: Connection refused; ::1: no answer", with the address only where there are several. */
static void describe(const struct race *race, char *text, size_t size)
{
    FILE *out = fmemopen(text, size, "w");
    size_t told = race->started < ADDRESSES_TOLD ? race->started : ADDRESSES_TOLD;

    text[0] = '\0';
    if (!out)
        return;
    for (size_t i = 0; i < told; i++) {
        fputs(i ? "; " : "", out);
        if (race->count > 1)
            put_address(out, race->attempts[i].address);
        fputs(race->attempts[i].error ? strerror(race->attempts[i].error) : "no answer", out);
    }
    if (race->count > told)
        fprintf(out, "; and %zu more", race->count - told);
    fclose(out);
    text[size - 1] = '\0';
}

static void race_close(struct race *race)
{
    for (size_t i = 0; i < race->started; i++)
        cleanup_close(&race->attempts[i].fd);
}

int race_connect(const struct addrinfo *addresses, bool reconnects, const struct deadline *deadline,
                 char *reasons, size_t size)
{
    struct race race = {.patience = reconnects ? &brought_back : &alone};
    int fd;

    race_order(&race, addresses);
    fd = race_run(&race, deadline);
    race_close(&race);
    if (fd < 0)
        describe(&race, reasons, size);
    return fd;
}
