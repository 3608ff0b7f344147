/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/control_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/json_fields.h"
#include "agent/varlink_service.h"
#include "cleanup.h"

#define READ_SIZE 4096 /* the share of one turn of the loop: some hundred calls */

void client_start(struct client *client, int fd)
{
    *client = (struct client){.fd = fd};
}

void client_drop(struct client *client)
{
    cleanup_close(&client->fd);
    varlink_input_clear(&client->input);
    free(client->output);
    *client = (struct client){.fd = -1};
}

uint32_t client_events(const struct client *client)
{
    if (client->output_size > 0)
        return EPOLLOUT;
    return client->watching ? 0 : EPOLLIN; /* the end of the connection is always reported */
}

/* ---- output ---- */

/* How much the kernel takes now; -1: the connection is lost. */
static ssize_t send_some(int fd, const char *data, size_t size)
{
    size_t sent = 0;

    while (sent < size) {
        ssize_t n = send(fd, data + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0 && errno != EINTR)
            return -1;
        sent += n > 0 ? (size_t)n : 0;
    }
    return (ssize_t)sent;
}

bool client_flush(struct client *client)
{
    ssize_t sent = send_some(client->fd, client->output, client->output_size);

    if (sent < 0)
        return false;
    client->output_size -= (size_t)sent;
    if (client->output_size > 0) {
        memmove(client->output, client->output + sent, client->output_size);
        return true;
    }
    free(steal_ptr(&client->output));
    return true;
}

static bool keep(struct client *client, const char *data, size_t size)
{
    char *output;

    if (size == 0)
        return true;
    if (size > CONTROL_OUTPUT_MAX - client->output_size)
        return false;
    output = realloc(client->output, client->output_size + size);
    if (!output)
        return false;
    memcpy(output + client->output_size, data, size);
    client->output = output;
    client->output_size += size;
    return true;
}

bool client_send(struct client *client, struct json_object *message)
{
    _cleanup_json_ struct json_object *owned = message;
    size_t size;
    const char *data = owned ? varlink_message(owned, &size) : NULL;
    ssize_t sent;

    if (!data || size > VARLINK_MESSAGE_MAX)
        return false;
    sent = client->output_size > 0 ? 0 : send_some(client->fd, data, size);
    return sent >= 0 && keep(client, data + sent, size - (size_t)sent);
}

/* ---- calls ---- */

static struct json_object *object_with(const char *key, struct json_object *value)
{
    struct json_object *object = value ? json_object_new_object() : NULL;

    if (object && json_object_object_add(object, key, value) == 0)
        return object;
    json_object_put(value);
    json_object_put(object);
    return NULL;
}

static struct json_object *time_now(void)
{
    char date[32], text[64];
    struct timespec now;
    struct tm utc;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text, sizeof text, "%s.%03ldZ", date, now.tv_nsec / 1000000);
    return json_object_new_string(text);
}

struct json_object *client_event(uint32_t index, const char *name)
{
    struct json_object *event = object_with("event", json_object_new_string(name));
    char device[32];

    if (!event)
        return NULL;
    snprintf(device, sizeof device, "/dev/nbd%u", index);
    json_object_object_add(event, "time", time_now());
    json_object_object_add(event, "device", json_object_new_string(device));
    return event;
}

static struct json_object *get_status(const struct client_context *context)
{
    struct json_object *parameters = object_with("status", context->ops->status(context->opaque));

    return parameters ? varlink_reply_new(parameters, false) : NULL;
}

static struct json_object *start_watching(struct client *client, const struct client_context *context)
{
    _cleanup_json_ struct json_object *status = context->ops->status(context->opaque);
    struct json_object *event = client_event(context->index, "watching");
    struct json_object *parameters;

    if (event)
        json_object_object_add(event, "state",
                               json_object_get(json_field(status, "state", json_type_string)));
    parameters = object_with("event", event);
    client->watching = true;
    return parameters ? varlink_reply_new(parameters, true) : NULL;
}

/* A call that wants no answer is answered to nobody. */
static bool answer(struct client *client, const struct varlink_call *call, struct json_object *message)
{
    if (!call->oneway)
        return client_send(client, message);
    json_object_put(message);
    return true;
}

/* Answered first: what is asked for may be the end of us. */
static bool carry_out(struct client *client, const struct varlink_call *call,
                      const struct client_context *context, void (*what)(void *opaque))
{
    bool sent = answer(client, call, varlink_reply_new(NULL, false));

    what(context->opaque);
    return sent;
}

static bool handle_call(struct client *client, const struct varlink_call *call,
                        const struct client_context *context)
{
    struct json_object *message;

    switch (varlink_route(call, &message)) {
    case DEVICE_GET_STATUS:
        return answer(client, call, call->oneway ? NULL : get_status(context));
    case DEVICE_WATCH:
        return answer(client, call, call->oneway ? NULL : start_watching(client, context));
    case DEVICE_STOP:
        return carry_out(client, call, context, context->ops->stop);
    case DEVICE_RENEW:
        return carry_out(client, call, context, context->ops->renew);
    case DEVICE_NONE:
        break;
    }
    return answer(client, call, message);
}

/* What cannot be understood leaves nothing certain about what follows it. */
static bool refuse(struct client *client, const struct varlink_call *call, const char *wrong)
{
    client->ending = true;
    return answer(client, call, varlink_error_new(VARLINK_INVALID_PARAMETER, "parameter", wrong));
}

static bool handle_message(struct client *client, const char *message, size_t size,
                           const struct client_context *context)
{
    struct varlink_call call;
    const char *wrong;
    bool kept = varlink_call_parse(message, size, &call, &wrong) < 0 ? refuse(client, &call, wrong)
                                                                     : handle_call(client, &call, context);

    varlink_call_clear(&call);
    return kept;
}

/* The next call waits until the answer to the last one is out: what a client can make us keep is bounded. */
static bool handle_messages(struct client *client, const struct client_context *context)
{
    const char *message;
    size_t size;
    int r = 0;

    while (client->output_size == 0 && !client->watching && !client->ending) {
        r = varlink_input_next(&client->input, &message, &size);
        if (r <= 0)
            break;
        if (!handle_message(client, message, size, context))
            return false;
    }
    if (r == -EMSGSIZE && !refuse(client, &(struct varlink_call){0}, "message"))
        return false;
    return !client->ending || client->output_size > 0;
}

static bool read_calls(struct client *client, const struct client_context *context)
{
    char data[READ_SIZE];
    ssize_t n = recv(client->fd, data, sizeof data, MSG_DONTWAIT);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0 || varlink_input_add(&client->input, data, (size_t)n) < 0)
        return false;
    return handle_messages(client, context);
}

bool client_serve(struct client *client, const struct client_context *context, uint32_t revents)
{
    if (client->output_size > 0)
        return client_flush(client) && handle_messages(client, context);
    if (client->watching)
        return !(revents & (EPOLLHUP | EPOLLERR));
    return read_calls(client, context);
}
