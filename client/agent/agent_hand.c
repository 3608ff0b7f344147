/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connections for the kernel driver, which says neither which it lost nor which it took. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/log.h"
#include "cleanup.h"

#define NS_PER_MS UINT64_C(1000000)

/* The driver marks a slot dead a moment after its socket: until then a new one is dropped without a word. */
#define OFFER_AGAIN_US 20000
#define OFFERS_MOST    50
static const uint64_t confirm_after_ns[] = {100 * NS_PER_MS, 1000 * NS_PER_MS};
#define CONFIRMS (sizeof confirm_after_ns / sizeof confirm_after_ns[0])

static bool surely_refused(int error)
{
    return error == -EINVAL || error == -ENODEV || error == -EPERM || error == -EBADF || error == -ENOTSOCK ||
           error == -EOPNOTSUPP;
}

static int offer(struct agent *agent, int fd)
{
    struct netlink_reason reason = {0};
    const struct nbd_config config = {
        .index = agent->plan->device.index,
        .backend = agent->plan->device.backend,
        .sockets = &fd,
        .sockets_count = 1,
    };
    int r = nbd_netlink_reconfigure(agent->netlink, &config, &reason);

    if (r < 0)
        agent_log(LOG_PRIORITY_WARNING, config.index, "the kernel refuses a connection: %s", reason.text);
    /* An answer that was lost says nothing; the kernel may well have taken it. */
    return surely_refused(r) ? r : 0;
}

/* The driver gives its request timeout, if it has one, to every socket that it takes (nbd_reconnect_socket).
 */
static bool taken(int fd)
{
    struct timeval timeout = {0};
    socklen_t size = sizeof timeout;

    return getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, &size) == 0 &&
           (timeout.tv_sec > 0 || timeout.tv_usec > 0);
}

/*
 * RECONFIGURE says yes also when no slot was dead, and then drops the socket. Two slots with one socket would
 * mix up replies, so with several connections a socket is offered again only when it is certain that it was
 * not taken. A single one may always be offered again: see agent_confirm().
 */
static int hand_to_kernel(struct agent *agent, int fd)
{
    int r = offer(agent, fd);

    if (agent->plan->timeout_s == 0)
        return r;
    for (int i = 0; i < OFFERS_MOST && r == 0 && !taken(fd); i++) {
        usleep(OFFER_AGAIN_US);
        r = offer(agent, fd);
    }
    return r == 0 && !taken(fd) ? -EAGAIN : r;
}

static size_t dead_slot(const struct agent *agent)
{
    for (size_t i = 0; i < agent->state->connections; i++)
        if (!agent->lives[i])
            return i;
    return NBD_MAX_CONNECTIONS;
}

static void adopt(struct agent *agent, size_t slot, struct connection *connection,
                  const struct carried *carried, size_t i)
{
    struct failure failure = {0};

    agent->plan->fds[slot] = steal_fd(&connection->fd);
    agent->lives[slot] = true;
    agent->state->sockets[slot] = carried->sockets[i];
    agent->state->relays[slot] = carried->relays[i];
    agent->state->path = connection->path;
    agent->state->tls = connection->tls;
    if (agent_watch_socket(agent, slot, &failure) < 0)
        agent_log(LOG_PRIORITY_WARNING, agent->plan->device.index, "%s", failure.text);
}

int agent_hand_all(struct agent *agent, const struct carried *carried)
{
    struct connections *connections = &agent->redial.connections;
    int count = 0;

    for (size_t i = 0; i < connections->count; i++) {
        size_t slot = dead_slot(agent);
        int r;

        if (slot == NBD_MAX_CONNECTIONS)
            break; /* none is missing any more */
        r = hand_to_kernel(agent, connections->list[i].fd);
        if (r == -EINVAL || r == -ENODEV)
            return r;
        if (r < 0) {
            /* No farewell on what the kernel has seen: it could land amidst a request. */
            cleanup_close(&connections->list[i].fd);
            continue;
        }
        adopt(agent, slot, &connections->list[i], carried, i);
        count++;
    }
    return count;
}

/*
 * One that lives makes room for the one that was dialled. From the shutdown to the handover the device has
 * one connection less; I/O that comes in between waits, or goes over the others.
 */
void agent_replace(struct agent *agent, size_t slot)
{
    struct connections *connections = &agent->redial.connections;
    struct failure failure = {0};
    struct carried carried;
    int r = carry_connections(connections, &carried, &failure);

    if (r == 0) {
        shutdown(agent->plan->fds[slot], SHUT_RDWR);
        usleep(OFFER_AGAIN_US); /* the driver is to notice it */
        agent_lose(agent, slot);
        r = agent_hand_all(agent, &carried);
    }
    connections_close(connections);
    if (r > 0) {
        agent_confirm_later(agent);
        agent_tell_renewed(agent);
        return;
    }
    agent_log(LOG_PRIORITY_WARNING, agent->plan->device.index, "could not renew a connection: %s",
              failure.text[0] ? failure.text : "the kernel did not take the new one");
    if (!agent->lives[slot])
        agent_lost(agent);
}

void agent_confirm_later(struct agent *agent)
{
    if (agent->state->connections != 1)
        return;
    agent->confirms = CONFIRMS;
    agent->timers.confirm = monotonic_ns() + confirm_after_ns[0];
}

/*
 * The one connection of a device without a request timeout leaves no sign of having been taken. It is offered
 * again: when the slot has it already nothing happens, and when it died since nothing is lost.
 */
void agent_confirm(struct agent *agent)
{
    if (agent->state->connections != 1 || !agent->lives[0] || agent->plan->fds[0] < 0 || agent->confirms == 0)
        return;
    offer(agent, agent->plan->fds[0]);
    if (--agent->confirms > 0)
        agent->timers.confirm = monotonic_ns() + confirm_after_ns[CONFIRMS - agent->confirms];
}
