/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The interfaces that an agent's socket has: org.varlink.service is answered here, io.nbdctl.Device named. */
#pragma once

#include <json-c/json.h>

#include "agent/varlink.h"

#define DEVICE_INTERFACE  "io.nbdctl.Device"
#define DEVICE_BUSY_ERROR DEVICE_INTERFACE ".TooManyClients"

#define VARLINK_INVALID_PARAMETER "org.varlink.service.InvalidParameter"

enum device_method {
    DEVICE_NONE, /* introspection, or a mistake: there is an answer already */
    DEVICE_GET_STATUS,
    DEVICE_WATCH, /* with "more" */
    DEVICE_STOP,
    DEVICE_RENEW,
};

/* Which method is meant. DEVICE_NONE: *answer is the message to send, the caller's; NULL: out of memory. */
enum device_method varlink_route(const struct varlink_call *call, struct json_object **answer);
