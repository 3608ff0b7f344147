/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/resolve.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "cleanup.h"

/*
 * A resolver that never answers (a hung directory service) would otherwise leave one more thread behind at
 * every attempt of an agent that reconnects for days.
 */
#define LOOKUPS_MAX 16

static atomic_uint lookups_running;

/* Shared by the waiting caller and the thread; whoever lets go last frees it. */
struct lookup {
    atomic_uint owners;
    int done_fd; /* eventfd: readable when error and list are set */
    char *host;
    char *port;
    int error; /* EAI_*, or 0 */
    int system_error;
    struct addrinfo *list;
};

static void lookup_free(struct lookup *lookup)
{
    if (lookup->list)
        freeaddrinfo(lookup->list);
    cleanup_close(&lookup->done_fd);
    free(lookup->host);
    free(lookup->port);
    free(lookup);
}

static void lookup_release(struct lookup *lookup)
{
    if (atomic_fetch_sub(&lookup->owners, 1) == 1)
        lookup_free(lookup);
}

/* Owned by two from the start: its maker, and the thread to come. */
static struct lookup *lookup_new(const char *host, const char *port)
{
    struct lookup *lookup = calloc(1, sizeof *lookup);

    if (!lookup)
        return NULL;
    atomic_init(&lookup->owners, 2);
    lookup->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    lookup->host = strdup(host);
    lookup->port = strdup(port);
    if (lookup->done_fd >= 0 && lookup->host && lookup->port)
        return lookup;
    lookup_free(lookup);
    return NULL;
}

static int query(const char *host, const char *port, int flags, struct addrinfo **ret)
{
    /*
     * Not AI_ADDRCONFIG: it does not count loopback addresses, and an unreachable family costs one failed
     * connect(2). IPPROTO_TCP is carried into socket(2): the kernel driver and kTLS know no MPTCP.
     */
    struct addrinfo hints = {
        .ai_flags = AI_NUMERICSERV | flags,
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_protocol = IPPROTO_TCP,
    };

    *ret = NULL;
    return getaddrinfo(host, port, &hints, ret);
}

static void *lookup_thread(void *argument)
{
    struct lookup *lookup = argument;

    lookup->error = query(lookup->host, lookup->port, 0, &lookup->list);
    lookup->system_error = errno;
    eventfd_write(lookup->done_fd, 1); /* cannot fail: the counter is 0 */
    lookup_release(lookup);
    atomic_fetch_sub(&lookups_running, 1);
    return NULL;
}

/* With every signal blocked: they belong to the threads that were written with them in mind. */
static int start_detached(struct lookup *lookup)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_t thread;
    int error = pthread_attr_init(&attributes);

    if (error)
        return -error;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread, &attributes, lookup_thread, lookup);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -error;
}

static int lookup_start(struct lookup *lookup)
{
    int error;

    if (atomic_fetch_add(&lookups_running, 1) >= LOOKUPS_MAX) {
        atomic_fetch_sub(&lookups_running, 1);
        return -EBUSY;
    }
    error = start_detached(lookup);
    if (error)
        atomic_fetch_sub(&lookups_running, 1);
    return error;
}

/* What the thread found, once it said so. */
static int lookup_take(struct lookup *lookup, struct addrinfo **ret, int *gai_error)
{
    eventfd_t count;

    if (eventfd_read(lookup->done_fd, &count) < 0)
        return -errno;
    if (lookup->error == EAI_SYSTEM && lookup->system_error > 0)
        return -lookup->system_error;
    *gai_error = lookup->error;
    *ret = steal_ptr(&lookup->list);
    return lookup->error ? -ENXIO : 0;
}

static int resolve_name(const char *host, const char *port, const struct deadline *deadline,
                        struct addrinfo **ret, int *gai_error)
{
    struct lookup *lookup = lookup_new(host, port);
    int error;

    if (!lookup)
        return -ENOMEM;
    error = lookup_start(lookup);
    if (error) {
        lookup_free(lookup);
        return error;
    }
    error = deadline_poll(deadline, lookup->done_fd, POLLIN);
    if (error >= 0)
        error = lookup_take(lookup, ret, gai_error);
    lookup_release(lookup);
    return error;
}

int resolve(const char *host, const char *port, const struct deadline *deadline, struct addrinfo **ret,
            int *gai_error)
{
    *gai_error = query(host, port, AI_NUMERICHOST, ret);
    if (*gai_error == 0)
        return 0;
    if (strchr(host, ':')) /* an address whose zone is unknown here; never a question for a name server */
        return -ENXIO;
    return resolve_name(host, port, deadline, ret, gai_error);
}
