/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the agent share: agent.c has the loop, agent_link.c acts, agent_tell.c tells. */
#pragma once

#include "agent/agent.h"
#include "agent/carry.h"
#include "agent/control.h"
#include "agent/link.h"
#include "agent/redial.h"
#include "netlink/nbd.h"

/* CLOCK_MONOTONIC, nanoseconds; 0: not set. */
struct agent_timers {
    uint64_t settle, pause; /* of the link */
    uint64_t dead;          /* when I/O begins to fail */
    uint64_t confirm;       /* when to offer the kernel a connection once more */
    uint64_t look;          /* when to look at connections that we have no descriptor of */
};
#define AGENT_TIMERS (sizeof(struct agent_timers) / sizeof(uint64_t))

struct agent {
    struct agent_plan *plan;
    struct device_state *state; /* plan->state */
    bool lives[NBD_MAX_CONNECTIONS];

    enum link_state link;
    unsigned attempt;  /* in a row */
    unsigned confirms; /* left */
    uint64_t down_ns;  /* since when no connection has lived; 0: some do */
    uint64_t last_outage_ms;
    bool io_fails;      /* the dead timeout has passed */
    bool told_dialling; /* of this outage */

    struct redial redial;
    struct agent_timers timers;
    struct nbd_netlink *netlink;
    struct nbd_events *events;
    struct control *control;
    int epoll_fd, timer_fd, signal_fd;
    int result; /* of the loop, once link is LINK_ENDED */
};

/* agent.c: is the agent; ready() is called once it is. */
int agent_run(struct agent_plan *plan, void (*ready)(void *opaque), void *opaque, struct failure *failure);

/* agent_link.c */
void agent_event(struct agent *agent, enum link_event event);
void agent_check_sockets(struct agent *agent, bool look); /* look: also at those without a descriptor */
void agent_dialled(struct agent *agent);                  /* the attempt is over */
void agent_confirm(struct agent *agent);
size_t agent_living(const struct agent *agent);
int agent_watch_socket(struct agent *agent, size_t slot, struct failure *failure);

/* agent_tell.c: to watchers, the state file and the log. */
void agent_tell_down(struct agent *agent);
void agent_tell_dialling(struct agent *agent);
void agent_tell_up(struct agent *agent);
void agent_tell_failed(struct agent *agent, const struct failure *failure);
void agent_tell_refused(struct agent *agent);
void agent_tell_io_fails(struct agent *agent);
void agent_tell_resized(struct agent *agent, uint64_t old_size);
void agent_tell_end(struct agent *agent, bool detached);
double agent_outage(const struct agent *agent); /* seconds without any connection, of all outages */
struct json_object *agent_status(void *opaque);
const char *agent_state_name(const struct agent *agent);
