/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/agent_view.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/ask.h"
#include "agent/json_fields.h"
#include "cleanup.h"
#include "failure.h"

const char *agent_link_name(enum agent_link link)
{
    switch (link) {
    case AGENT_LINK_UP:
        return "up";
    case AGENT_LINK_RECONNECTING:
        return "reconnecting";
    case AGENT_LINK_DOWN:
        return "down";
    }
    return "?";
}

static bool get_link(struct json_object *status, enum agent_link *link)
{
    static const enum agent_link links[] = {AGENT_LINK_UP, AGENT_LINK_RECONNECTING, AGENT_LINK_DOWN};
    const char *name = json_text(status, "state");

    for (size_t i = 0; name && i < sizeof links / sizeof links[0]; i++)
        if (strcmp(name, agent_link_name(links[i])) == 0) {
            *link = links[i];
            return true;
        }
    return false;
}

static bool get_pid(struct json_object *status, pid_t *pid)
{
    struct json_object *value = json_field(status, "agent_pid", json_type_int);
    int64_t number = value ? json_object_get_int64(value) : 0;

    if (number <= 0 || number > INT_MAX)
        return false;
    *pid = (pid_t)number;
    return true;
}

/* 12 and 12.5 are seconds alike. */
static double get_seconds(struct json_object *status, const char *key)
{
    struct json_object *value = NULL;
    double seconds;

    json_object_object_get_ex(status, key, &value);
    if (!json_object_is_type(value, json_type_double) && !json_object_is_type(value, json_type_int))
        return 0;
    seconds = json_object_get_double(value);
    return isfinite(seconds) && seconds > 0 ? seconds : 0;
}

static char *get_string(struct json_object *status, const char *key)
{
    const char *text = json_text(status, key);

    return text ? strdup(text) : NULL;
}

int agent_view_parse(struct json_object *status, struct agent_view *view)
{
    struct json_object *reconnects = json_field(status, "reconnects", json_type_int);

    *view = (struct agent_view){0};
    if (!get_link(status, &view->link) || !get_pid(status, &view->pid))
        return -EPROTO;
    view->reconnects = reconnects ? json_object_get_uint64(reconnects) : 0;
    view->outage_seconds = get_seconds(status, "outage_seconds");
    view->last_error = get_string(status, "last_error");
    view->uri = get_string(status, "uri");
    return 0;
}

void agent_view_clear(struct agent_view *view)
{
    free(view->last_error);
    free(view->uri);
    *view = (struct agent_view){0};
}

int agent_view_read(uint32_t index, const struct deadline *deadline, struct agent_view *view)
{
    _cleanup_json_ struct json_object *reply = NULL;
    struct failure ignored = {0};
    int r = agent_ask(index, "GetStatus", deadline, &reply, &ignored);

    *view = (struct agent_view){0};
    return r < 0 ? r : agent_view_parse(json_field(reply, "status", json_type_object), view);
}
