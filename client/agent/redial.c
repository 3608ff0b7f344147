/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/redial.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>

#include "cleanup.h"

int redial_init(struct redial *redial, struct failure *failure)
{
    *redial = (struct redial){
        .done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
    };
    if (redial->done_fd >= 0 && redial->cancel_fd >= 0)
        return 0;
    return fail(failure, errno, "cannot make an eventfd: %s", strerror(errno));
}

/* A server that has grown stingy may have room for one connection where it has none for all. */
static int dial_some(struct redial *redial)
{
    int r = servers_dial(&redial->servers, &redial->connections, &redial->served, &redial->failure);

    if (r != -ETIMEDOUT || redial->servers.connections == 1)
        return r;
    redial->servers.connections = 1;
    return servers_dial(&redial->servers, &redial->connections, &redial->served, &redial->failure);
}

static void *attempt(void *opaque)
{
    struct redial *redial = opaque;

    redial->result = dial_some(redial);
    eventfd_write(redial->done_fd, 1); /* cannot fail: the counter is 0 */
    return NULL;
}

/* With every signal blocked: they are the loop's. */
static int start_thread(struct redial *redial)
{
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&redial->thread, NULL, attempt, redial);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

int redial_start(struct redial *redial, const struct servers *servers, const struct disk_identity *identity,
                 struct failure *failure)
{
    eventfd_t ignored;
    int error;

    eventfd_read(redial->done_fd, &ignored);
    eventfd_read(redial->cancel_fd, &ignored);
    redial->servers = *servers;
    redial->identity = *identity;
    redial->servers.identity = &redial->identity;
    redial->servers.cancel_fd = redial->cancel_fd;
    redial->failure = (struct failure){0};
    redial->connections = (struct connections){0};
    error = start_thread(redial);
    if (error)
        return fail(failure, error, "cannot start a thread: %s", strerror(error));
    redial->running = true;
    return 0;
}

int redial_join(struct redial *redial)
{
    pthread_join(redial->thread, NULL);
    redial->running = false;
    return redial->result;
}

void redial_cancel(struct redial *redial)
{
    eventfd_write(redial->cancel_fd, 1);
}

void redial_clear(struct redial *redial)
{
    if (redial->running) {
        redial_cancel(redial);
        if (redial_join(redial) == 0)
            connections_close(&redial->connections);
    }
    if (redial->done_fd > 0)
        close(redial->done_fd);
    if (redial->cancel_fd > 0)
        close(redial->cancel_fd);
    *redial = (struct redial){0};
}
