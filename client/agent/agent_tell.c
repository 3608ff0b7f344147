/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent_internal.h"
#include "agent/disconnect.h"
#include "agent/json_fields.h"
#include "agent/log.h"

#define NS_PER_MS UINT64_C(1000000)

/* Seconds without any connection, of all outages. */
static double all_outages(const struct agent *agent)
{
    uint64_t ms = agent->state->outage_ms;

    if (agent->down_ns)
        ms += (monotonic_ns() - agent->down_ns) / NS_PER_MS;
    return (double)ms / 1000;
}

/* Of this outage alone, or of the one that has just ended. */
static double this_outage(const struct agent *agent)
{
    uint64_t ms = agent->down_ns ? (monotonic_ns() - agent->down_ns) / NS_PER_MS : agent->last_outage_ms;

    return (double)ms / 1000;
}

static const char *state_name(const struct agent *agent)
{
    if (agent_living(agent) > 0)
        return "up";
    return agent->io_fails ? "down" : "reconnecting";
}

struct json_object *agent_status(void *opaque)
{
    const struct agent *agent = opaque;
    struct json_object *object = json_object_new_object();

    json_add_text(object, "state", state_name(agent));
    json_add_text(object, "link", link_state_name(agent->link));
    json_add_number(object, "agent_pid", (uint64_t)agent->state->agent_pid);
    json_add_number(object, "connections", agent->state->connections);
    json_add_number(object, "connections_up", agent_living(agent));
    json_add_number(object, "reconnects", agent->state->reconnects);
    json_object_object_add(object, "outage_seconds", json_object_new_double(all_outages(agent)));
    json_add_text(object, "last_error", agent->state->last_error);
    json_add_text(object, "uri", agent->state->uri);
    json_add_number(object, "size", agent->state->size);
    return object;
}

#define WRITE_AGAIN_NS UINT64_C(1000000000)

void agent_write_state(struct agent *agent)
{
    struct failure failure = {0};

    /* It may be detached, and another's by now. */
    if (!device_still(&agent->plan->device))
        return;
    if (device_state_write(agent->state, &failure) == 0)
        return;
    /* Whoever comes after us relies on it. */
    if (!agent->timers.write)
        agent_log(LOG_PRIORITY_WARNING, agent->plan->device.index, "%s", failure.text);
    agent->timers.write = monotonic_ns() + WRITE_AGAIN_NS;
}

static void add_counts(const struct agent *agent, struct json_object *event)
{
    json_add_number(event, "connections_up", agent_living(agent));
    json_add_number(event, "connections", agent->state->connections);
}

void agent_tell_down(struct agent *agent)
{
    struct json_object *event = control_event(agent->control, "link-down");

    agent_log(LOG_PRIORITY_WARNING, agent->plan->device.index,
              "lost the server: %zu of %zu connections are left", agent_living(agent),
              agent->state->connections);
    if (event)
        add_counts(agent, event);
    control_announce(agent->control, event);
}

/* Once an outage: what changes from attempt to attempt is the reason, and that is told when it does. */
void agent_tell_dialling(struct agent *agent)
{
    struct json_object *event;

    if (agent->told_dialling)
        return;
    agent->told_dialling = true;
    event = control_event(agent->control, "reconnecting");
    if (event) {
        json_add_text(event, "uri", agent->state->uri);
        json_add_number(event, "attempt", agent->attempt);
    }
    control_announce(agent->control, event);
}

/* The first of its kind is logged, and written where status finds it when the agent is gone. */
static bool new_error(struct agent *agent, int error, const char *text)
{
    char *copy;

    if (agent->state->last_error && agent->last_code == error && agent->attempt > 1)
        return false;
    agent->last_code = error;
    copy = strdup(text);
    if (!copy)
        return true;
    free(agent->state->last_error);
    agent->state->last_error = copy;
    agent_write_state(agent);
    return true;
}

void agent_tell_failed(struct agent *agent, int error, const struct failure *failure)
{
    struct json_object *event;

    if (failure->status == EXIT_STATUS_IDENTITY || !new_error(agent, error, failure->text))
        return;
    agent_log(LOG_PRIORITY_WARNING, agent->plan->device.index, "cannot reconnect, and keeps trying: %s",
              failure->text);
    event = control_event(agent->control, "reconnecting");
    if (event) {
        json_add_text(event, "uri", agent->state->uri);
        json_add_number(event, "attempt", agent->attempt);
        json_add_text(event, "error", failure->text);
    }
    control_announce(agent->control, event);
}

void agent_tell_refused(struct agent *agent)
{
    const char *text = agent->redial.failure.text;
    struct json_object *event;

    if (!new_error(agent, agent->redial.result, text))
        return;
    agent_log(LOG_PRIORITY_ERROR, agent->plan->device.index, "what answers is not taken: %s", text);
    event = control_event(agent->control, "identity-changed");
    if (event) {
        json_add_text(event, "uri", agent->state->uri);
        json_add_text(event, "error", text);
    }
    control_announce(agent->control, event);
}

void agent_tell_up(struct agent *agent)
{
    struct json_object *event = control_event(agent->control, "link-up");

    agent_write_state(agent);
    agent_log(LOG_PRIORITY_NOTICE, agent->plan->device.index, "reconnected to %s: %zu of %zu connections",
              agent->state->uri, agent_living(agent), agent->state->connections);
    if (event) {
        json_add_text(event, "uri", agent->state->uri);
        add_counts(agent, event);
        json_object_object_add(event, "outage_seconds", json_object_new_double(this_outage(agent)));
    }
    control_announce(agent->control, event);
}

void agent_tell_renewed(struct agent *agent)
{
    struct json_object *event = control_event(agent->control, "renewed");

    agent_write_state(agent);
    agent_log(LOG_PRIORITY_NOTICE, agent->plan->device.index, "a new connection has replaced an old one");
    if (event) {
        json_add_text(event, "uri", agent->state->uri);
        add_counts(agent, event);
    }
    control_announce(agent->control, event);
}

void agent_tell_io_fails(struct agent *agent)
{
    struct json_object *event = control_event(agent->control, "io-failing");

    agent->io_fails = true;
    agent_log(LOG_PRIORITY_ERROR, agent->plan->device.index,
              "no server for %" PRIu64 " s: I/O fails until one is back", agent->plan->dead_timeout_s);
    if (event)
        json_object_object_add(event, "outage_seconds", json_object_new_double(this_outage(agent)));
    control_announce(agent->control, event);
}

void agent_tell_resized(struct agent *agent, uint64_t old_size)
{
    struct json_object *event = control_event(agent->control, "resized");

    agent_write_state(agent);
    agent_log(LOG_PRIORITY_NOTICE, agent->plan->device.index, "grew from %" PRIu64 " to %" PRIu64 " bytes",
              old_size, agent->state->size);
    if (event) {
        json_add_number(event, "size", agent->state->size);
        json_add_number(event, "old_size", old_size);
    }
    control_announce(agent->control, event);
}

void agent_tell_end(struct agent *agent, bool detached)
{
    control_announce(agent->control, control_event(agent->control, detached ? "detached" : "agent-stopped"));
    if (detached)
        device_state_remove(&agent->plan->device);
    else
        agent_write_state(agent);
    agent_log(LOG_PRIORITY_NOTICE, agent->plan->device.index, "%s",
              detached ? "detached" : "the agent was told to end; the device stays attached");
}
