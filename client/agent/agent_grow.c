/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A disk that has grown makes the device grow. The kernel drains the queue for that (nbd_set_size freezes
 * it), and holds locks meanwhile that a RECONFIGURE of any device needs: were the server to die then, with
 * requests under way, nothing could bring the connection back that they wait for. So it is done while nothing
 * is under way; or, on a disk that never rests, when the link has proved itself, but not where the machine
 * depends on the disk.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent_internal.h"
#include "agent/log.h"

#define NS_PER_MS UINT64_C(1000000)
#define LOOK_NS   (50 * NS_PER_MS)
#define LOOKS     300 /* 15 s */

/* The file has two counts, of reads and of writes. */
bool agent_is_idle(const struct agent *agent)
{
    char path[48], line[64] = "";
    FILE *file;

    snprintf(path, sizeof path, "/sys/block/nbd%" PRIu32 "/inflight", agent->plan->device.index);
    file = fopen(path, "re");
    if (!file)
        return false;
    if (!fgets(line, sizeof line, file))
        line[0] = '\0';
    fclose(file);
    return strchr(line, '0') && line[strspn(line, "0 \t\n")] == '\0';
}

void agent_found_size(struct agent *agent, uint64_t size)
{
    if (size <= agent->state->size)
        return;
    agent->larger = size;
    agent->grow_looks = 0;
    agent->timers.grow = monotonic_ns() + LOOK_NS;
}

/* In a message of its own: with sockets beside it the queue is frozen first, and never thaws. */
static void grow(struct agent *agent)
{
    const struct nbd_config config = {
        .index = agent->plan->device.index, .backend = agent->plan->device.backend, .size = agent->larger};
    struct netlink_reason reason = {0};
    uint64_t old_size = agent->state->size;

    agent->larger = 0;
    if (nbd_netlink_reconfigure(agent->netlink, &config, &reason) < 0) {
        agent_log(LOG_PRIORITY_WARNING, config.index, "cannot grow: %s", reason.text);
        return;
    }
    agent->state->size = config.size;
    agent_tell_resized(agent, old_size);
}

void agent_grow(struct agent *agent)
{
    bool steady = agent->grow_looks++ >= LOOKS && !agent->plan->essential;

    if (!agent->larger)
        return;
    if (agent->link != LINK_UP)
        agent->grow_looks = 0;
    if (agent->link == LINK_UP && (steady || agent_is_idle(agent)))
        grow(agent);
    else
        agent->timers.grow = monotonic_ns() + LOOK_NS;
}
