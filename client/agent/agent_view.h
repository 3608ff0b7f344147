/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the agent of a device says of it: the status object of io.nbdctl.Device.GetStatus. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <json-c/json.h>

#include "deadline.h"

enum agent_link {
    AGENT_LINK_UP,
    AGENT_LINK_RECONNECTING,
    AGENT_LINK_DOWN, /* the dead timeout has passed: I/O fails */
};

struct agent_view {
    enum agent_link link;
    pid_t pid;
    uint64_t reconnects;
    double outage_seconds; /* all outages together; finite, not negative */
    char *last_error;      /* NULL: none; owned, as is the uri; neither is escaped */
    char *uri;             /* of the server that serves now; NULL: it did not say */
};

/* Fills view from a status object; -EPROTO: it has no state and pid. */
int agent_view_parse(struct json_object *status, struct agent_view *view);
void agent_view_clear(struct agent_view *view);

/* Asks the agent of a device. -errno: there is none, or it cannot be asked. */
int agent_view_read(uint32_t index, const struct deadline *deadline, struct agent_view *view);

/* "up", "reconnecting" or "down". */
const char *agent_link_name(enum agent_link link);
