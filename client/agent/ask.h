/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asking the agent of a device, over its socket. What answers is bounded and checked like any other input. */
#pragma once

#include <stdint.h>

#include <json-c/json.h>

#include "deadline.h"
#include "failure.h"

/*
 * Calls a method of io.nbdctl.Device ("GetStatus"). *reply, the parameters of the answer, is the caller's.
 * -ENOENT, -ECONNREFUSED: no agent. -EPERM: what listens there is neither root nor us. -EBUSY: too many
 * clients. -EREMOTEIO: another error was the answer. -EPROTO: what came is no answer.
 */
int agent_ask(uint32_t index, const char *method, const struct deadline *deadline, struct json_object **reply,
              struct failure *failure);

/*
 * Calls visit for each event until it returns non-zero (which is returned), the agent ends the stream (0), or
 * it is cancelled (-ECANCELED) or fails as above. The event is only lent.
 */
int agent_watch(uint32_t index, const struct deadline *deadline,
                int (*visit)(void *opaque, struct json_object *event), void *opaque, struct failure *failure);

/* The same in another folder. */
int agent_ask_in(const char *folder, uint32_t index, const char *method, const struct deadline *deadline,
                 struct json_object **reply, struct failure *failure);
int agent_watch_in(const char *folder, uint32_t index, const struct deadline *deadline,
                   int (*visit)(void *opaque, struct json_object *event), void *opaque,
                   struct failure *failure);
