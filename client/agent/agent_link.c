/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "agent/agent_internal.h"
#include "agent/disconnect.h"
#include "agent/log.h"
#include "agent/relay.h"
#include "cleanup.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

/* A device that is being detached loses its connections first, and is gone a moment later. */
#define SETTLE_NS      (20 * NS_PER_MS)
/* A link that has lived for so long had nothing to do with the outage before. */
#define STEADY_NS      (10 * NS_PER_S)
/* A server that restarts is back between two attempts, and one that does not answer is not stormed. */
#define PAUSE_FIRST_NS (50 * NS_PER_MS)
#define PAUSE_MOST_NS  (800 * NS_PER_MS)
/* A host that was away answers a SYN; the one that was sent last may be seconds old. */
#define TCP_NS         (3 * NS_PER_S)
/* Connections of which an agent before us had the descriptors. */
#define LOOK_NS        (2 * NS_PER_S)

size_t agent_living(const struct agent *agent)
{
    size_t living = 0;

    for (size_t i = 0; i < agent->state->connections; i++)
        living += agent->lives[i];
    return living;
}

/* ---- losing ---- */

static bool hung_up(int fd)
{
    struct pollfd polled = {.fd = fd};

    return poll(&polled, 1, 0) > 0 && (polled.revents & (POLLHUP | POLLNVAL)) != 0;
}

static bool seen_alive(const struct agent *agent, size_t i)
{
    struct netlink_reason ignored;
    struct socket_view view;
    int r;

    if (agent->state->relays[i] && !relay_lives(agent->state->relays[i]))
        return false;
    r = socket_view(&agent->state->sockets[i], &view, &ignored);
    return r == 0 ? view.established : r != -ENOENT;
}

void agent_lose(struct agent *agent, size_t i)
{
    int fd = agent->plan->fds[i];

    agent->lives[i] = false;
    /* The kernel holds the file still, so that closing it does not end the watch. */
    if (fd >= 0)
        epoll_ctl(agent->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    cleanup_close(&agent->plan->fds[i]);
}

static void begin_outage(struct agent *agent)
{
    const uint64_t dead_ns = agent->plan->dead_timeout_s < UINT64_MAX / NS_PER_S / 2
                                 ? agent->plan->dead_timeout_s * NS_PER_S
                                 : UINT64_MAX / 2;

    agent->down_ns = monotonic_ns();
    agent->timers.dead = agent->down_ns + dead_ns;
}

void agent_lost(struct agent *agent)
{
    if (agent_living(agent) == 0 && !agent->down_ns)
        begin_outage(agent);
    agent_event(agent, LINK_LOST);
}

void agent_check_sockets(struct agent *agent, bool look)
{
    bool lost = false, blind = false;

    for (size_t i = 0; i < agent->state->connections; i++) {
        bool mine = agent->plan->fds[i] >= 0;

        if (!agent->lives[i])
            continue;
        if (mine ? hung_up(agent->plan->fds[i]) : look && !seen_alive(agent, i)) {
            agent_lose(agent, i);
            lost = true;
        } else if (!mine) {
            blind = true;
        }
    }
    agent->timers.look = blind ? monotonic_ns() + LOOK_NS : 0;
    if (lost)
        agent_lost(agent);
}

/* ---- finding the server again ---- */

static void pin(const struct agent *agent, struct sockaddr_storage *only)
{
    for (size_t i = 0; i < agent->state->connections; i++) {
        const struct sockaddr_storage *remote = &agent->state->sockets[i].remote;

        if (agent->lives[i] && (remote->ss_family == AF_INET || remote->ss_family == AF_INET6))
            *only = *remote;
    }
}

int agent_dial(struct agent *agent, const struct endpoint *endpoints, size_t count, size_t connections,
               struct failure *failure)
{
    struct agent_plan *plan = agent->plan;
    const struct servers servers = {
        .endpoints = endpoints,
        .count = count,
        .connections = connections,
        .ktls = plan->ktls,
        .connect_timeout_ns = plan->connect_timeout_ns,
    };
    const struct disk_identity identity = {
        .size = agent->state->size,
        .flags = agent->state->flags,
        .read_only = plan->device.read_only,
        .block_size = plan->device.logical_block_size,
        .request_size = plan->device.max_sectors_kb * 1024,
        .connections = agent->state->connections,
        .canonical_name = agent->state->canonical_name,
    };

    for (size_t i = 0; i < plan->endpoints_count; i++) {
        plan->endpoints[i].policy.tcp_ns = TCP_NS;
        plan->endpoints[i].policy.only = (struct sockaddr_storage){0};
    }
    /* A name may stand for several servers: beside a connection that lives there is one alone. */
    pin(agent, &plan->endpoints[plan->serving].policy.only);
    if (connections == 0)
        return redial_look(&agent->redial, &servers, &identity, failure);
    return redial_start(&agent->redial, &servers, &identity, failure);
}

static void dial_again(struct agent *agent)
{
    struct agent_plan *plan = agent->plan;
    size_t living = agent_living(agent), missing = agent->state->connections - living;
    struct failure failure = {0};
    int r;

    agent_renewal_drop(agent);
    if (missing == 0) { /* somebody has brought it back already */
        agent_event(agent, LINK_HANDED_ALL);
        return;
    }
    agent->attempt++;
    agent_tell_dialling(agent);
    /* While a connection lives the others belong to the same server: one's flush must cover all. */
    if (living)
        r = agent_dial(agent, &plan->endpoints[plan->serving], 1, missing, &failure);
    else
        r = agent_dial(agent, plan->endpoints, plan->endpoints_count, missing, &failure);
    if (r == 0)
        return;
    agent_tell_failed(agent, r, &failure);
    agent_event(agent, LINK_FAILED);
}

/* Longer after each attempt in a row. */
static uint64_t pause_ns(const struct agent *agent)
{
    uint64_t ns = PAUSE_MOST_NS;

    if (agent->attempt < 5)
        ns = PAUSE_FIRST_NS << agent->attempt > PAUSE_MOST_NS ? PAUSE_MOST_NS
                                                              : PAUSE_FIRST_NS << agent->attempt;
    /* Many agents of one server must not come at the same moment: 75 to 125 %. */
    return ns * 3 / 4 + (uint64_t)random() % (ns / 2);
}

/* A link that comes up and dies is no better than one that does not come up. */
static void settle(struct agent *agent)
{
    uint64_t now = monotonic_ns();

    if (now - agent->up_ns > STEADY_NS)
        agent->attempt = 0;
    agent->timers.settle = now + (agent->attempt ? pause_ns(agent) : SETTLE_NS);
}

void agent_dialled(struct agent *agent)
{
    eventfd_t count;
    int r;

    /* What was told may have been of an attempt that was given up since. */
    if (!agent->redial.running || eventfd_read(agent->redial.done_fd, &count) < 0)
        return;
    r = redial_join(&agent->redial);
    if (agent->renewal.state != RENEWAL_NONE) {
        agent_renewal_dialled(agent, r);
        return;
    }
    if (r == 0) {
        agent_event(agent, LINK_DIALLED);
        return;
    }
    agent_tell_failed(agent, r, &agent->redial.failure);
    agent_event(agent,
                agent->redial.failure.status == EXIT_STATUS_IDENTITY ? LINK_NOT_THE_DISK : LINK_FAILED);
}

/* ---- coming back ---- */

static void note_server(struct agent *agent, const struct carried *carried)
{
    struct agent_plan *plan = agent->plan;
    const struct sockaddr_storage *remote = &carried->sockets[0].remote;
    char *uri;

    /* Where the one in use was asked alone the index counts from it. */
    if (agent->redial.servers.endpoints == plan->endpoints)
        plan->serving = agent->redial.served.server;
    if (remote->ss_family == AF_INET || remote->ss_family == AF_INET6)
        plan->endpoints[plan->serving].policy.known = *remote;
    uri = target_format(&plan->endpoints[plan->serving].target);
    if (!uri)
        return; /* the old one stands: out of memory is no reason to fail */
    free(agent->state->uri);
    agent->state->uri = uri;
}

static void end_outage(struct agent *agent)
{
    agent->last_outage_ms = agent->down_ns ? (monotonic_ns() - agent->down_ns) / NS_PER_MS : 0;
    agent->state->outage_ms += agent->last_outage_ms;
    agent->down_ns = 0;
    agent->io_fails = false;
    agent->timers.dead = 0;
}

static void hand_over(struct agent *agent)
{
    struct connections *connections = &agent->redial.connections;
    uint64_t size = connections->export.size;
    struct failure failure = {0};
    struct carried carried;
    int r = carry_connections(connections, &carried, &failure);

    if (carried.relay_weakness.text[0])
        agent_log(LOG_PRIORITY_WARNING, agent->plan->device.index, "a shortage of memory may hang it: %s",
                  carried.relay_weakness.text);
    if (r < 0) {
        agent_tell_failed(agent, r, &failure);
        r = 0;
    } else {
        r = agent_hand_all(agent, &carried);
    }
    if (r > 0)
        note_server(agent, &carried);
    connections_close(connections); /* those that were not taken */
    if (r == -EINVAL || r == -ENODEV) {
        /* Disconnected, though somebody holds it open still; or attached anew. */
        agent_event(agent, LINK_DETACHED);
        return;
    }
    if (r <= 0) {
        agent_event(agent, LINK_HANDED_NONE);
        return;
    }
    agent_confirm_later(agent);
    agent_found_size(agent, size);
    agent_event(agent, agent_living(agent) == agent->state->connections ? LINK_HANDED_ALL : LINK_HANDED_SOME);
}

/*
 * The kernel says that a connection died, and ours look well. It may be about the one before; or about one
 * that an agent before us had given it, in whose place ours was dropped without a word. Of a single
 * connection either is found out by offering it again; one that we have no descriptor of is believed dead.
 */
void agent_doubt(struct agent *agent)
{
    if (agent->state->connections != 1 || !agent->lives[0] || agent->link != LINK_UP)
        return;
    if (agent->plan->fds[0] < 0) {
        agent_lose(agent, 0);
        agent_lost(agent);
        return;
    }
    agent_confirm_later(agent);
}

/* ---- the machine ---- */

static void link_up(struct agent *agent)
{
    agent->state->reconnects++;
    end_outage(agent);
    agent_tell_up(agent);
    agent_check_wear(agent);
    agent->up_ns = monotonic_ns();
    agent->told_dialling = false;
}

static void act(struct agent *agent, unsigned actions)
{
    if (actions & LINK_TELL_DOWN)
        agent_tell_down(agent);
    if (actions & LINK_TELL_REFUSED)
        agent_tell_refused(agent);
    if (actions & LINK_TELL_UP)
        link_up(agent);
    if (actions & LINK_SETTLE)
        settle(agent);
    if (actions & LINK_PAUSE)
        agent->timers.pause = monotonic_ns() + pause_ns(agent);
    if (actions & LINK_DIAL)
        dial_again(agent);
    if (actions & LINK_HAND_OVER)
        hand_over(agent);
}

/* Before each attempt: nobody must be dialled for a device that is detached. */
static enum link_event unless_detached(const struct agent *agent, enum link_event event)
{
    if (event != LINK_SETTLED && event != LINK_PAUSED && event != LINK_DIALLED)
        return event;
    return device_still(&agent->plan->device) ? event : LINK_DETACHED;
}

void agent_event(struct agent *agent, enum link_event event)
{
    enum link_event real = unless_detached(agent, event);
    struct link_step step = link_step(agent->link, real);

    if (event == LINK_DIALLED && real == LINK_DETACHED)
        connections_close(&agent->redial.connections);
    agent->link = step.next;
    if (step.actions & LINK_END)
        agent_tell_end(agent, real == LINK_DETACHED);
    else
        act(agent, step.actions);
}
