/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/dial.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "protocol/reply.h"

/* With --connections auto; chosen with scripts/bench attach. */
#define AUTO_CONNECTIONS 2
#define AUTO_PATIENCE_NS UINT64_C(2000000000)

struct dialling {
    const struct endpoint *endpoint;
    const struct deadline *deadline;
    struct session *session; /* owned once it is open */
    struct failure failure;
    int result;
    pthread_t thread;
};

static void *dial_one(void *opaque)
{
    struct dialling *d = opaque;

    d->result = session_open(&d->session, d->endpoint, d->deadline, &d->failure);
    if (d->result == 0)
        d->result = session_go(d->session, d->endpoint->target.export_name, &d->failure);
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
                  "the server may take fewer clients than the %zu connections asked for (qemu-nbd: -e)",
                  count);
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
                          "%zu connections were asked for, but the server does not say CAN_MULTI_CONN",
                          count),
                     "use --connections 1: with more, a flush would not cover all writes");
}

/* -EOPNOTSUPP, with the reason, when only a relay can carry the connection. */
static int try_kernel(const struct endpoint *endpoint, enum ktls_mode ktls, struct session *session,
                      struct failure *failure)
{
    /* The driver takes TCP and unix sockets only (Linux 9f7c02e03157). */
    if (endpoint->target.transport == TARGET_VSOCK)
        return fail(failure, EOPNOTSUPP, "the kernel driver takes no vsock sockets");
    if (endpoint->target.tls == TARGET_TLS_NEVER)
        return 0;
    if (ktls == KTLS_NO)
        return fail(failure, EOPNOTSUPP, "--ktls=no");
    return session_to_kernel(session, failure);
}

/* What the session becomes: the kernel's, or a relay's. */
static int settle(const struct endpoint *endpoint, enum ktls_mode ktls, struct dialling *dialled,
                  struct connections *connections, struct failure *failure)
{
    struct connection *connection = &connections->list[connections->count];
    bool tls = session_info_tls(dialled->session, &connection->tls);
    int r = try_kernel(endpoint, ktls, dialled->session, failure);

    connection->fd = -1;
    if (r < 0 && (session_is_over(dialled->session) || ktls == KTLS_REQUIRE))
        return tls ? fail_within(failure, r, "TLS cannot be given to the kernel") : r;
    if (r < 0) {
        connections->relay_reason = *failure;
        connection->path = CONNECTION_RELAY;
        connection->session = steal_ptr(&dialled->session);
        connections->count++;
        return 0;
    }
    connection->path = tls ? CONNECTION_KTLS : CONNECTION_PLAIN;
    connection->fd = session_steal_fd(dialled->session, failure);
    if (connection->fd < 0)
        return connection->fd;
    connections->count++;
    return 0;
}

/* Where a TCP connection went; AF_UNSPEC for any other. */
static struct sockaddr_storage peer_of(int fd)
{
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;

    if (getpeername(fd, (struct sockaddr *)&peer, &size) < 0 ||
        (peer.ss_family != AF_INET && peer.ss_family != AF_INET6))
        return (struct sockaddr_storage){0};
    return peer;
}

static bool same_peer(const struct dialling *list, size_t count)
{
    struct sockaddr_storage first = peer_of(session_channel(list[0].session)->fd);

    for (size_t i = 1; i < count; i++) {
        struct sockaddr_storage peer = peer_of(session_channel(list[i].session)->fd);

        if (memcmp(&first, &peer, sizeof first) != 0)
            return false;
    }
    return true;
}

/*
 * A name may stand for several servers, which need not have the same bytes at the same moment: all
 * connections go where the first one went. They are dialled at once all the same, as most names have one
 * address.
 */
static int dial_one_server(const struct endpoint *endpoint, struct dialling *list, size_t count,
                           struct failure *failure)
{
    struct endpoint pinned = *endpoint;
    int r;

    dial_all(list, count);
    r = check_results(list, count, failure);
    if (r < 0 || same_peer(list, count))
        return r;
    pinned.policy.only = peer_of(session_channel(list[0].session)->fd);
    for (size_t i = 1; i < count; i++) {
        session_close(list[i].session);
        list[i] = (struct dialling){.endpoint = &pinned, .deadline = list[i].deadline};
    }
    dial_all(list + 1, count - 1);
    return check_results(list, count, failure);
}

/* Adds count connections; the first ever defines the export, all others must reach it. */
static int dial_more(const struct endpoint *endpoint, size_t count, enum ktls_mode ktls,
                     const struct deadline *deadline, struct connections *connections,
                     struct failure *failure)
{
    _cleanup_free_ struct dialling *list = calloc(count, sizeof *list);
    int r;

    if (!list)
        return fail(failure, ENOMEM, "out of memory");
    for (size_t i = 0; i < count; i++)
        list[i] = (struct dialling){.endpoint = endpoint, .deadline = deadline};
    r = dial_one_server(endpoint, list, count, failure);
    if (r == 0 && !connections->export.described)
        r = export_copy(&connections->export, session_export(list[0].session));
    if (r == 0)
        r = check_same_disk(list, count, &connections->export, failure);
    if (r == 0)
        r = check_multi_conn(&connections->export, connections->count + count, failure);
    if (r == 0)
        r = export_check_disk(&connections->export, failure);
    for (size_t i = 0; i < count && r == 0; i++)
        r = settle(endpoint, ktls, &list[i], connections, failure);
    for (size_t i = 0; i < count; i++)
        session_close(list[i].session);
    return r;
}

/*
 * A server may say CAN_MULTI_CONN and yet take one client only (qemu-nbd without -e). Nobody asked for the
 * further connections, so their absence is no error; a different disk behind one of them is.
 */
static int dial_auto(const struct endpoint *endpoint, enum ktls_mode ktls, const struct deadline *deadline,
                     struct connections *connections, struct failure *failure)
{
    struct deadline soon = deadline_after(AUTO_PATIENCE_NS, deadline->cancel_fd);
    struct endpoint pinned = *endpoint;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    size_t wanted = cpus < AUTO_CONNECTIONS ? (size_t)cpus : AUTO_CONNECTIONS;
    int r;

    /* The driver binds each CPU to one connection: more connections than CPUs would stay idle. */
    if (wanted <= 1 || !export_can(&connections->export, NBD_FLAG_CAN_MULTI_CONN))
        return 0;
    if (soon.at_ns > deadline->at_ns)
        soon.at_ns = deadline->at_ns;
    if (connections->list[0].fd >= 0)
        pinned.policy.only = peer_of(connections->list[0].fd);
    else
        pinned.policy.only = peer_of(session_channel(connections->list[0].session)->fd);
    r = dial_more(&pinned, wanted - 1, ktls, &soon, connections, failure);
    return r == -ESTALE || r == -ECANCELED || r == -ENOMEM ? r : 0;
}

int dial(const struct endpoint *endpoint, size_t wanted, enum ktls_mode ktls, const struct deadline *deadline,
         struct connections *connections, struct failure *failure)
{
    int r;

    *connections = (struct connections){0};
    r = dial_more(endpoint, wanted == DIAL_AUTO ? 1 : wanted, ktls, deadline, connections, failure);
    if (r == 0 && wanted == DIAL_AUTO)
        r = dial_auto(endpoint, ktls, deadline, connections, failure);
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
        if (connections->list[i].fd >= 0 &&
            send(connections->list[i].fd, header, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            continue; /* a link that is dead needs no farewell; it is closed below */
    connections_release(connections);
}

void connections_release(struct connections *connections)
{
    for (size_t i = 0; i < connections->count; i++) {
        cleanup_close(&connections->list[i].fd);
        session_close(connections->list[i].session);
    }
    export_clear(&connections->export);
    *connections = (struct connections){0};
}

const char *connection_path_name(enum connection_path path)
{
    switch (path) {
    case CONNECTION_PLAIN:
        return "none";
    case CONNECTION_KTLS:
        return "ktls";
    case CONNECTION_RELAY:
        return "relay";
    }
    return "none";
}
