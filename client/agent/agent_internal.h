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
    uint64_t wear;          /* when to look how worn the keys are */
    uint64_t poll;          /* when to ask the server for the disk's size */
    uint64_t grow;          /* when to look for a moment to make the device larger */
    uint64_t write;         /* when to try again to write the state */
    uint64_t renew;         /* when to look for a moment to swap a connection */
};
#define AGENT_TIMERS (sizeof(struct agent_timers) / sizeof(uint64_t))

/* A connection that lives is replaced by a new one. */
struct renewal {
    enum {
        RENEWAL_NONE,
        RENEWAL_DIALLING, /* in the thread of redial */
        RENEWAL_LOOKING,  /* likewise; it is the disk's size alone that is asked for */
        RENEWAL_READY,    /* redial.connections waits for a moment without I/O */
    } state;
    size_t slot;
    unsigned looks;
    bool wanted[NBD_MAX_CONNECTIONS];
};

struct agent {
    struct agent_plan *plan;
    struct device_state *state; /* plan->state */
    bool lives[NBD_MAX_CONNECTIONS];

    enum link_state link;
    unsigned attempt;  /* in a row */
    unsigned confirms; /* left */
    uint64_t up_ns;    /* since when the connections have lived; 0: since before we came */
    int last_code;     /* -errno of the last attempt that failed */
    uint64_t larger;   /* bytes that the disk has grown to, and the device has not; 0: none */
    unsigned grow_looks;
    uint64_t down_ns; /* since when no connection has lived; 0: some do */
    uint64_t last_outage_ms;
    bool io_fails;      /* the dead timeout has passed */
    bool told_dialling; /* of this outage */
    bool poll_failed;   /* the last one: told once */

    struct redial redial;
    struct renewal renewal;
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
void agent_lose(struct agent *agent, size_t slot); /* it is dead: no event yet */
void agent_lost(struct agent *agent); /* some are: the event, and the outage if it was the last */
size_t agent_living(const struct agent *agent);
int agent_watch_socket(struct agent *agent, size_t slot, struct failure *failure);
/* connections 0: only ask what the export is now. */
int agent_dial(struct agent *agent, const struct endpoint *endpoints, size_t count, size_t connections,
               struct failure *failure);
void agent_doubt(struct agent *agent); /* the kernel says that a connection died, and none looks dead */

/* agent_grow.c */
void agent_found_size(struct agent *agent, uint64_t size);
void agent_grow(struct agent *agent);          /* to agent->larger, when the moment is good */
bool agent_is_idle(const struct agent *agent); /* no request is under way; false when that cannot be seen */

/* agent_hand.c */
/* What redial has, carried: how many the kernel took, or -errno when it will take none any more. */
int agent_hand_all(struct agent *agent, const struct carried *carried);
void agent_replace(struct agent *agent, size_t slot); /* by what redial has */
void agent_confirm_later(struct agent *agent);

/* agent_renew.c */
void agent_check_wear(struct agent *agent);
void agent_poll(struct agent *agent);
void agent_renew_all(void *opaque);
void agent_renew(struct agent *agent);
void agent_renewal_dialled(struct agent *agent, int result);
void agent_renewal_swap(struct agent *agent);
void agent_renewal_drop(struct agent *agent);

/* agent_tell.c: to watchers, the state file and the log. */
void agent_tell_down(struct agent *agent);
void agent_tell_dialling(struct agent *agent);
void agent_tell_up(struct agent *agent);
void agent_tell_renewed(struct agent *agent);
void agent_tell_failed(struct agent *agent, int error, const struct failure *failure);
void agent_write_state(struct agent *agent);
void agent_tell_refused(struct agent *agent);
void agent_tell_io_fails(struct agent *agent);
void agent_tell_resized(struct agent *agent, uint64_t old_size);
void agent_tell_end(struct agent *agent, bool detached);
struct json_object *agent_status(void *opaque);
