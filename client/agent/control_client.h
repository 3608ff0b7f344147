/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One connection to an agent's socket: what control.c serves. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>

#include "agent/control.h"
#include "agent/varlink.h"

struct client {
    int fd; /* owned; -1: a free place */
    struct varlink_input input;
    char *output; /* owned; what the kernel has not taken yet */
    size_t output_size;
    bool watching; /* a stream of events goes out: nothing is read any more */
    bool ending;   /* to be dropped once its output is out */
};

/* What a client's calls act on. */
struct client_context {
    const struct control_ops *ops;
    void *opaque;
    uint32_t index;
};

void client_start(struct client *client, int fd); /* takes the fd */
void client_drop(struct client *client);

/*
 * Answers what has come in, and sends what waits; revents are epoll's. False: the client is to be dropped.
 * A client that does not read its answers is not read from either.
 */
bool client_serve(struct client *client, const struct client_context *context, uint32_t revents);

/* Sends a message (taken; NULL: out of memory), or keeps it for later. False: the client is to be dropped. */
bool client_send(struct client *client, struct json_object *message);

/* Sends what the kernel takes at once. False: the client is to be dropped. */
bool client_flush(struct client *client);

/* What epoll is to watch for. */
uint32_t client_events(const struct client *client);

/* "event", "time" and "device" of an event. NULL: out of memory. */
struct json_object *client_event(uint32_t index, const char *name);
