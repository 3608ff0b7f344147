/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/dial.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/reply.h"
#include "protocol/session.h"

/*
 * With --connections auto. Measured with scripts/bench attach: a second connection gives the server's and the
 * kernel's receive work another CPU; more than that gains nothing on the loopback of a small machine, and costs recovery time.
 */
#define AUTO_CONNECTIONS 2
#define AUTO_PATIENCE_NS UINT64_C(2000000000)

struct dialling {
    const struct target *target;
    const struct deadline *deadline;
    struct session *session; /* owned once it is open */
    struct failure failure;
    int result;
    pthread_t thread;
};

static void *dial_one(void *opaque)
{
    struct dialling *d = opaque;

    d->result = session_open(&d->session, d->target, d->deadline, &d->failure);
    if (d->result == 0)
        d->result = session_go(d->session, d->target->export_name, &d->failure);
    return NULL;
}

/* Runs all of them at once, the last in this thread. */
static void dial_all(struct dialling *list, size_t count)
{
    size_t started = 0;

    while (started + 1 < count && pthread_create(&list[started].thread, NULL, dial_one, &list[started]) == 0)
        started++;
    for (size_t i = started; i < count; i++)
        dial_one(&list[i]);
    for (size_t i = 0; i < started; i++)
        pthread_join(list[i].thread, NULL);
}

static const struct dialling *first_failed(const struct dialling *list, size_t count)
{
    const struct dialling *failed = NULL;

    for (size_t i = 0; i < count; i++) {
        if (list[i].result == 0)
            continue;
        /* One that was refused says more than one that merely waited. */
        if (!failed || failed->result == -ETIMEDOUT)
            failed = &list[i];
    }
    return failed;
}

static int check_results(const struct dialling *list, size_t count, struct failure *failure)
{
    const struct dialling *failed = first_failed(list, count);

    if (!failed)
        return 0;
    *failure = failed->failure;
    if (failed->result == -ETIMEDOUT && count > 1)
        fail_hint(failure, 0,
                  "the server may take fewer clients than the %zu connections asked for (qemu-nbd: -e)", count);
    return failed->result;
}

static int check_same_disk(const struct dialling *list, size_t count, const struct export *expected,
                           struct failure *failure)
{
    for (size_t i = 0; i < count; i++) {
        int r = export_same_disk(expected, session_export(list[i].session), failure);

        if (r < 0)
            return fail_within(failure, r, "the server's connections disagree");
    }
    return 0;
}

static int check_multi_conn(const struct export *export, size_t count, struct failure *failure)
{
    if (count <= 1 || export_can(export, NBD_FLAG_CAN_MULTI_CONN))
        return 0;
    return fail_hint(failure,
                     fail(failure, EOPNOTSUPP,
                          "%zu connections were asked for, but the server does not say CAN_MULTI_CONN", count),
                     "use --connections 1: with more, a flush would not cover all writes");
}

static int steal_all(struct dialling *list, size_t count, struct connections *connections,
                     struct failure *failure)
{
    for (size_t i = 0; i < count; i++) {
        int fd = session_steal_fd(list[i].session, failure);

        if (fd < 0)
            return fd;
        connections->fds[connections->count++] = fd;
    }
    return 0;
}

/* Adds count connections; the first ever defines the export, all others must reach it. */
static int dial_more(const struct target *target, size_t count, const struct deadline *deadline,
                     struct connections *connections, struct failure *failure)
{
    struct dialling list[DIAL_MAX_CONNECTIONS] = {0};
    int r;

    for (size_t i = 0; i < count; i++)
        list[i] = (struct dialling){.target = target, .deadline = deadline};
    dial_all(list, count);
    r = check_results(list, count, failure);
    if (r == 0 && !connections->export.described)
        r = export_copy(&connections->export, session_export(list[0].session));
    if (r == 0)
        r = check_same_disk(list, count, &connections->export, failure);
    if (r == 0)
        r = check_multi_conn(&connections->export, connections->count + count, failure);
    if (r == 0)
        r = steal_all(list, count, connections, failure);
    for (size_t i = 0; i < count; i++)
        session_close(list[i].session);
    return r;
}

/*
 * A server may say CAN_MULTI_CONN and yet take one client only (qemu-nbd without -e). Nobody asked for the further
 * connections, so their absence is no error; a different disk behind one of them is.
 */
static int dial_auto(const struct target *target, const struct deadline *deadline,
                     struct connections *connections, struct failure *failure)
{
    struct deadline soon = deadline_after(AUTO_PATIENCE_NS, deadline->cancel_fd);
    int r;

    if (soon.at_ns > deadline->at_ns)
        soon.at_ns = deadline->at_ns;
    r = dial_more(target, AUTO_CONNECTIONS - 1, &soon, connections, failure);
    return r == -ESTALE || r == -ECANCELED || r == -ENOMEM ? r : 0;
}

int dial(const struct target *target, size_t wanted, const struct deadline *deadline,
         struct connections *connections, struct failure *failure)
{
    int r;

    *connections = (struct connections){0};
    r = dial_more(target, wanted == DIAL_AUTO ? 1 : wanted, deadline, connections, failure);
    if (r == 0)
        r = export_check_disk(&connections->export, failure);
    if (r == 0 && wanted == DIAL_AUTO && export_can(&connections->export, NBD_FLAG_CAN_MULTI_CONN))
        r = dial_auto(target, deadline, connections, failure);
    if (r < 0)
        connections_close(connections);
    return r;
}

void connections_close(struct connections *connections)
{
    struct request request = {.command = NBD_CMD_DISC};
    uint8_t header[NBD_EXTENDED_REQUEST_SIZE];
    size_t size = request_put(&request, SESSION_SIMPLE, header);

    for (size_t i = 0; i < connections->count; i++)
        if (send(connections->fds[i], header, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            continue; /* a link that is dead needs no farewell; it is closed below */
    connections_release(connections);
}

void connections_release(struct connections *connections)
{
    for (size_t i = 0; i < connections->count; i++)
        close(connections->fds[i]);
    export_clear(&connections->export);
    *connections = (struct connections){0};
}
