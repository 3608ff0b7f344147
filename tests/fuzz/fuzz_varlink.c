/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Varlink from both sides: any bytes, in pieces of any size (the first byte), as calls to an agent, whose
 * answers must be ones that we understand, and as the replies of one, whose texts must be safe to show.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent_view.h"
#include "agent/json_fields.h"
#include "agent/varlink.h"
#include "agent/varlink_service.h"
#include "cleanup.h"
#include "commands/watch_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* Every answer is a whole message, of bounded size, and one that we would take ourselves. */
static void check_answer(struct json_object *answer)
{
    struct varlink_reply reply;
    size_t size;
    const char *text = varlink_message(answer, &size);

    require(text && size <= 8192 && strlen(text) == size - 1);
    require(varlink_reply_parse(text, size - 1, &reply) == 0 && !reply.continues);
    varlink_reply_clear(&reply);
    json_object_put(answer);
}

static void as_call(const char *message, size_t size)
{
    struct json_object *answer = NULL;
    struct varlink_call call;
    const char *wrong = NULL;

    if (varlink_call_parse(message, size, &call, &wrong) < 0) {
        require(wrong && !call.method && !call.parameters);
        check_answer(varlink_error_new(VARLINK_INVALID_PARAMETER, "parameter", wrong));
        return;
    }
    require(call.method && json_object_is_type(call.parameters, json_type_object));
    if (varlink_route(&call, &answer) == DEVICE_NONE)
        check_answer(answer);
    else
        require(!answer && !call.upgrade);
    varlink_call_clear(&call);
}

static void show_event(struct json_object *event)
{
    _cleanup_free_ char *text = watch_text(event);

    require(text);
    for (const char *c = text; *c; c++)
        require((unsigned char)*c >= ' ' && *c != 0x7f);
}

static void as_reply(const char *message, size_t size)
{
    struct varlink_reply reply;
    struct agent_view view;
    struct json_object *event;

    if (varlink_reply_parse(message, size, &reply) < 0)
        return;
    event = json_field(reply.parameters, "event", json_type_object);
    if (event)
        show_event(event);
    if (agent_view_parse(json_field(reply.parameters, "status", json_type_object), &view) == 0)
        require(view.pid > 0 && view.outage_seconds >= 0);
    agent_view_clear(&view);
    varlink_reply_clear(&reply);
}

static int take_messages(struct varlink_input *input)
{
    const char *message;
    size_t size;
    int r;

    while ((r = varlink_input_next(input, &message, &size)) > 0) {
        require(size < VARLINK_MESSAGE_MAX && memchr(message, '\0', size + 1) == message + size);
        as_call(message, size);
        as_reply(message, size);
    }
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct varlink_input input = {0};
    size_t piece = size > 0 ? 1 + (size_t)data[0] * data[0] : 1;

    for (size_t at = 1; at < size; at += piece) {
        size_t left = size - at;

        require(varlink_input_add(&input, data + at, left < piece ? left : piece) == 0);
        if (take_messages(&input) < 0)
            break;
    }
    varlink_input_clear(&input);
    return 0;
}
