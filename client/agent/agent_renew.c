/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * New connections for old ones while the link is up. A peer whose AES keys are worn out sends a KeyUpdate,
 * which the kernel driver takes for a broken link (GnuTLS: after 2^24 - 3 records): so before that, a new
 * session is negotiated, and takes the place of the old one in a moment without I/O. Also on demand, for a
 * server that is to be left, or credentials that have changed.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "agent/agent_internal.h"
#include "agent/log.h"
#include "cleanup.h"
#include "netlink/ktls_records.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

/* Half of what a peer stands: at a million records a second there are 8 s left, and we look every 5. */
#define RECORDS_MOST  (UINT64_C(1) << 23)
#define WEAR_LOOK_NS  (5 * NS_PER_S)
/*
 * Only while nothing is under way: what a server that lives had begun could be done after it was sent again,
 * and undo what was written in between. Often at first, and then for as long as it takes.
 */
#define IDLE_LOOK_NS  (5 * NS_PER_MS)
#define IDLE_LOOKS    400
#define LATER_LOOK_NS (100 * NS_PER_MS)

static bool is_worn(const struct agent *agent, size_t i, bool *wears)
{
    uint64_t records;

    if (!agent->lives[i] || agent->plan->fds[i] < 0 || ktls_records(agent->plan->fds[i], &records) < 0)
        return false;
    *wears = true;
    return records >= RECORDS_MOST;
}

void agent_check_wear(struct agent *agent)
{
    bool wears = false;

    for (size_t i = 0; i < agent->state->connections; i++)
        if (is_worn(agent, i, &wears))
            agent->renewal.wanted[i] = true;
    agent->timers.wear = wears ? monotonic_ns() + WEAR_LOOK_NS : 0;
    agent_renew(agent);
}

void agent_renew_all(void *opaque)
{
    struct agent *agent = opaque;

    for (size_t i = 0; i < agent->state->connections; i++)
        agent->renewal.wanted[i] = true;
    agent_renew(agent);
}

/*
 * Without a dead timeout the last connection's I/O would fail for the moment that it is not there; and of
 * several without a request timeout there is no sign of which the kernel took.
 */
static bool can_renew(const struct agent *agent)
{
    if (agent->state->connections == 1)
        return agent->plan->dead_timeout_s != 0;
    return agent->plan->timeout_s != 0;
}

/* One after the other: the others carry on. */
void agent_renew(struct agent *agent)
{
    struct renewal *renewal = &agent->renewal;
    struct failure failure = {0};

    if (agent->link != LINK_UP || renewal->state != RENEWAL_NONE || !can_renew(agent))
        return;
    for (size_t i = 0; i < agent->state->connections; i++) {
        if (!renewal->wanted[i] || !agent->lives[i] || agent->plan->fds[i] < 0)
            continue;
        renewal->slot = i;
        if (agent_dial(agent, &agent->plan->endpoints[agent->plan->serving], 1, 1, &failure) == 0)
            renewal->state = RENEWAL_DIALLING;
        else
            agent_log(LOG_PRIORITY_WARNING, agent->plan->device.index, "%s", failure.text);
        return;
    }
}

/* The size may change under a connection that lives; nothing but asking tells. */
void agent_poll(struct agent *agent)
{
    struct failure failure = {0};

    agent->timers.poll = agent->plan->poll_ns ? monotonic_ns() + agent->plan->poll_ns : 0;
    if (agent->link != LINK_UP || agent->renewal.state != RENEWAL_NONE || !agent->plan->poll_ns)
        return;
    if (agent_dial(agent, &agent->plan->endpoints[agent->plan->serving], 1, 0, &failure) == 0)
        agent->renewal.state = RENEWAL_LOOKING;
}

static void looked(struct agent *agent, int result)
{
    struct connections *connections = &agent->redial.connections;

    agent->renewal.state = RENEWAL_NONE;
    if (result == 0)
        agent_found_size(agent, connections->export.size);
    else if (!agent->poll_failed)
        agent_log(LOG_PRIORITY_WARNING, agent->plan->device.index, "cannot ask for the size: %s",
                  agent->redial.failure.text);
    agent->poll_failed = result != 0;
    connections_close(connections);
    agent_renew(agent);
}

void agent_renewal_dialled(struct agent *agent, int result)
{
    struct renewal *renewal = &agent->renewal;

    if (renewal->state == RENEWAL_LOOKING) {
        looked(agent, result);
        return;
    }
    if (result < 0) {
        renewal->state = RENEWAL_NONE;
        renewal->wanted[renewal->slot] = false; /* worn keys are found worn again at the next look */
        agent_log(LOG_PRIORITY_WARNING, agent->plan->device.index, "cannot renew a connection: %s",
                  agent->redial.failure.text);
        return;
    }
    renewal->state = RENEWAL_READY;
    if (agent->link != LINK_UP) {
        agent_renewal_drop(agent);
        return;
    }
    renewal->looks = 0;
    agent->timers.renew = monotonic_ns();
}

/* The link was lost meanwhile: what brings it back begins with nothing under way. */
void agent_renewal_drop(struct agent *agent)
{
    struct renewal *renewal = &agent->renewal;
    int r = 0;

    if (renewal->state == RENEWAL_NONE)
        return;
    if (renewal->state != RENEWAL_READY) {
        redial_cancel(&agent->redial);
        r = redial_join(&agent->redial);
    }
    if (r == 0)
        connections_close(&agent->redial.connections);
    *renewal = (struct renewal){0};
    agent->timers.renew = 0;
}

/* It waited for its moment, and a server may have had enough of it: one that lives is not given up for it. */
static bool still_good(const struct connections *connections)
{
    const struct connection *connection = &connections->list[0];
    struct pollfd polled = {
        .fd = connection->session ? session_channel(connection->session)->fd : connection->fd,
        .events = POLLIN | POLLRDHUP,
    };

    return connections->count == 1 && poll(&polled, 1, 0) == 0;
}

void agent_renewal_swap(struct agent *agent)
{
    struct renewal *renewal = &agent->renewal;

    if (renewal->state != RENEWAL_READY)
        return;
    if (agent->link != LINK_UP || !agent->lives[renewal->slot] || agent->plan->fds[renewal->slot] < 0) {
        agent_renewal_drop(agent);
        return;
    }
    if (!agent_is_idle(agent)) {
        agent->timers.renew = monotonic_ns() + (renewal->looks++ < IDLE_LOOKS ? IDLE_LOOK_NS : LATER_LOOK_NS);
        return;
    }
    renewal->state = RENEWAL_NONE;
    if (!still_good(&agent->redial.connections)) {
        connections_close(&agent->redial.connections);
        agent_renew(agent);
        return;
    }
    renewal->wanted[renewal->slot] = false;
    agent_replace(agent, renewal->slot);
    agent_check_wear(agent);
}
