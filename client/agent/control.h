/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The socket on which an agent is asked: Varlink on /run/nbdctl/nbdX.varlink, for root alone. It lives in the
 * agent's event loop: nothing here blocks, and nothing wakes the loop up while nobody speaks.
 */
#pragma once

#include <stdint.h>

#include <json-c/json.h>

#include "failure.h"

#define CONTROL_CLIENTS_MAX 16
#define CONTROL_OUTPUT_MAX  65536 /* bytes that may wait for one client, beyond the kernel's own buffer */

struct control;

/* Called by control_dispatch(); they may announce, but not close. */
struct control_ops {
    /* A new object for GetStatus; owned by the caller. NULL: out of memory. */
    struct json_object *(*status)(void *opaque);
    /* Stop being the agent; the device stays attached. The answer is on its way already. */
    void (*stop)(void *opaque);
    /* Replace every connection by a new one, while I/O goes on. */
    void (*renew)(void *opaque);
};

/*
 * Opens the socket of a device; ops and opaque must outlive it. A stale socket is replaced; -EADDRINUSE: a
 * live process has it. The files are closed on exec, but a fork() that stays must close them, or the socket
 * looks alive for ever.
 */
int control_open(struct control **ret, uint32_t index, const struct control_ops *ops, void *opaque,
                 struct failure *failure);

/* The same in another folder. */
int control_open_in(const char *folder, struct control **ret, uint32_t index, const struct control_ops *ops,
                    void *opaque, struct failure *failure);

/* Removes what an agent that was killed has left; nothing when one lives. */
void control_sweep(uint32_t index);

/* Readable: call control_dispatch(). */
int control_fd(const struct control *control);

/* Serves who has something to say, each a bounded amount; never blocks. */
void control_dispatch(struct control *control);

/* A new event of this device, with its time; the fields of its own are still to be added. NULL: out of
 * memory. */
struct json_object *control_event(const struct control *control, const char *name);

/* Takes the event (NULL is none), and sends it to every watcher; one that does not read is dropped. */
void control_announce(struct control *control, struct json_object *event);

/* Ends all connections, sending what can be sent at once, and removes the socket if it is still ours. */
void control_close(struct control *control);
