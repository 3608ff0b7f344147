/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/redial.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>

#include "cleanup.h"
#include "protocol/session.h"

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

    if (r == 0 || redial->servers.connections == 1 || r == -ECANCELED || r == -ENOMEM || r == -ESTALE)
        return r;
    redial->servers.connections = 1;
    return servers_dial(&redial->servers, &redial->connections, &redial->served, &redial->failure);
}

static int look(struct redial *redial)
{
    const struct endpoint *endpoint = redial->servers.endpoints;
    struct deadline deadline = deadline_after(redial->servers.connect_timeout_ns, redial->cancel_fd);
    _cleanup_(session_closep) struct session *session = NULL;
    struct export *export = &redial->connections.export;
    int r = session_open(&session, endpoint, &deadline, &redial->failure);

    if (r == 0)
        r = session_info(session, endpoint->target.export_name, export, &redial->failure);
    if (r == 0)
        r = identity_check(&redial->identity, export, &redial->failure);
    if (r < 0)
        export_clear(export);
    return r;
}

static void *attempt(void *opaque)
{
    struct redial *redial = opaque;

    redial->result = redial->looks ? look(redial) : dial_some(redial);
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

static int start(struct redial *redial, bool looks, const struct servers *servers,
                 const struct disk_identity *identity, struct failure *failure)
{
    eventfd_t ignored;
    int error;

    eventfd_read(redial->done_fd, &ignored);
    eventfd_read(redial->cancel_fd, &ignored);
    redial->looks = looks;
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

int redial_start(struct redial *redial, const struct servers *servers, const struct disk_identity *identity,
                 struct failure *failure)
{
    return start(redial, false, servers, identity, failure);
}

int redial_look(struct redial *redial, const struct servers *servers, const struct disk_identity *identity,
                struct failure *failure)
{
    return start(redial, true, servers, identity, failure);
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
