/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/varlink.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/json_fields.h"
#include "agent/varlink_scan.h"
#include "cleanup.h"

#define INPUT_MIN 1024

/* ---- framing ---- */

void varlink_input_clear(struct varlink_input *input)
{
    free(input->data);
    *input = (struct varlink_input){0};
}

static int make_room(struct varlink_input *input, size_t size)
{
    size_t capacity = input->capacity ? input->capacity : INPUT_MIN;
    char *data;

    while (capacity < size)
        capacity *= 2;
    if (capacity == input->capacity)
        return 0;
    data = realloc(input->data, capacity);
    if (!data)
        return -ENOMEM;
    input->data = data;
    input->capacity = capacity;
    return 0;
}

int varlink_input_add(struct varlink_input *input, const void *data, size_t size)
{
    size_t left = input->size - input->taken;

    if (size > VARLINK_MESSAGE_MAX || left > VARLINK_MESSAGE_MAX)
        return -EMSGSIZE;
    if (size == 0)
        return 0;
    if (input->taken > 0)
        memmove(input->data, input->data + input->taken, left);
    input->size = left;
    input->scanned -= input->taken;
    input->taken = 0;
    if (make_room(input, left + size) < 0)
        return -ENOMEM;
    memcpy(input->data + left, data, size);
    input->size += size;
    return 0;
}

int varlink_input_next(struct varlink_input *input, const char **message, size_t *size)
{
    size_t unscanned = input->size - input->scanned;
    const char *end = unscanned ? memchr(input->data + input->scanned, '\0', unscanned) : NULL;
    size_t length = (end ? (size_t)(end - input->data) : input->size) - input->taken;

    if (length >= VARLINK_MESSAGE_MAX)
        return -EMSGSIZE;
    if (!end) {
        input->scanned = input->size;
        return 0;
    }
    *message = input->data + input->taken;
    *size = length;
    input->taken += length + 1;
    input->scanned = input->taken;
    return 1;
}

bool varlink_input_partial(const struct varlink_input *input)
{
    return input->taken < input->size;
}

/* ---- messages that come in ---- */

static struct json_object *parse_object(const char *message, size_t size)
{
    struct json_tokener *tokener;
    struct json_object *object;

    if (size > VARLINK_MESSAGE_MAX || !varlink_scan(message, size))
        return NULL;
    tokener = json_tokener_new();
    if (!tokener)
        return NULL;
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    object = json_tokener_parse_ex(tokener, message, (int)size);
    json_tokener_free(tokener);
    if (json_object_is_type(object, json_type_object))
        return object;
    json_object_put(object);
    return NULL;
}

/* What may be left out may be null too. */
static bool get_flag(struct json_object *object, const char *key, bool *flag)
{
    struct json_object *value = NULL;

    *flag = false;
    json_object_object_get_ex(object, key, &value);
    if (value && !json_object_is_type(value, json_type_boolean))
        return false;
    *flag = value && json_object_get_boolean(value);
    return true;
}

/* *parameters is a reference of its own, to an empty object where there are none. */
static bool get_parameters(struct json_object *object, struct json_object **parameters)
{
    struct json_object *value = NULL;

    json_object_object_get_ex(object, "parameters", &value);
    if (value && !json_object_is_type(value, json_type_object))
        return false;
    *parameters = value ? json_object_get(value) : json_object_new_object();
    return *parameters != NULL;
}

static bool is_name_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
}

/* "io.nbdctl.Device.GetStatus": at least an interface and a name; what they are is for others to judge. */
static bool get_name(struct json_object *object, const char *key, char **name)
{
    const char *text = json_text(object, key);
    const char *dot = text ? strrchr(text, '.') : NULL;

    if (!dot || dot == text || !dot[1] || strlen(text) > VARLINK_NAME_MAX)
        return false;
    for (const char *c = text; *c; c++)
        if (!is_name_character(*c))
            return false;
    *name = strdup(text);
    return *name != NULL;
}

/* What is wrong with it; NULL: nothing. oneway comes first: it decides whether the rest may be answered. */
static const char *take_call(struct json_object *object, struct varlink_call *call)
{
    if (!get_flag(object, "oneway", &call->oneway))
        return "oneway";
    if (!get_flag(object, "more", &call->more))
        return "more";
    if (!get_flag(object, "upgrade", &call->upgrade))
        return "upgrade";
    if (!get_name(object, "method", &call->method))
        return "method";
    return get_parameters(object, &call->parameters) ? NULL : "parameters";
}

int varlink_call_parse(const char *message, size_t size, struct varlink_call *call, const char **wrong)
{
    _cleanup_json_ struct json_object *object = parse_object(message, size);
    bool oneway;

    *call = (struct varlink_call){0};
    *wrong = object ? take_call(object, call) : "message";
    if (!*wrong)
        return 0;
    oneway = call->oneway;
    varlink_call_clear(call);
    call->oneway = oneway;
    return -EBADMSG;
}

void varlink_call_clear(struct varlink_call *call)
{
    free(call->method);
    json_object_put(call->parameters);
    *call = (struct varlink_call){0};
}

static bool take_reply(struct json_object *object, struct varlink_reply *reply)
{
    struct json_object *error = NULL;

    json_object_object_get_ex(object, "error", &error);
    return get_flag(object, "continues", &reply->continues) &&
           (!error || get_name(object, "error", &reply->error)) && get_parameters(object, &reply->parameters);
}

int varlink_reply_parse(const char *message, size_t size, struct varlink_reply *reply)
{
    _cleanup_json_ struct json_object *object = parse_object(message, size);

    *reply = (struct varlink_reply){0};
    if (object && take_reply(object, reply))
        return 0;
    varlink_reply_clear(reply);
    return -EBADMSG;
}

void varlink_reply_clear(struct varlink_reply *reply)
{
    json_object_put(reply->parameters);
    free(reply->error);
    *reply = (struct varlink_reply){0};
}

/* ---- messages that go out ---- */

/* Takes the value, also when it fails. */
static bool put_field(struct json_object *object, const char *key, struct json_object *value)
{
    if (object && value && json_object_object_add(object, key, value) == 0)
        return true;
    json_object_put(value);
    return false;
}

/* An object with one field, to which more may be added. */
static struct json_object *object_with(const char *key, struct json_object *value)
{
    struct json_object *object = json_object_new_object();

    if (put_field(object, key, value))
        return object;
    json_object_put(object);
    return NULL;
}

static struct json_object *add_flag(struct json_object *object, const char *key, bool flag)
{
    if (!object || !flag || put_field(object, key, json_object_new_boolean(true)))
        return object;
    json_object_put(object);
    return NULL;
}

static struct json_object *or_empty(struct json_object *parameters)
{
    return parameters ? parameters : json_object_new_object();
}

struct json_object *varlink_call_new(const char *method, struct json_object *parameters, bool more)
{
    struct json_object *object = object_with("parameters", or_empty(parameters));

    if (object && !put_field(object, "method", json_object_new_string(method))) {
        json_object_put(object);
        return NULL;
    }
    return add_flag(object, "more", more);
}

struct json_object *varlink_reply_new(struct json_object *parameters, bool continues)
{
    return add_flag(object_with("parameters", or_empty(parameters)), "continues", continues);
}

struct json_object *varlink_error_new(const char *error, const char *key, const char *value)
{
    struct json_object *parameters = key ? object_with(key, json_object_new_string(value)) : NULL;
    struct json_object *object = object_with("error", json_object_new_string(error));

    if (put_field(object, "parameters", key ? parameters : json_object_new_object()))
        return object;
    json_object_put(object);
    return NULL;
}

const char *varlink_message(struct json_object *object, size_t *size)
{
    const char *text = json_object_to_json_string_length(
        object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, size);

    (*size)++;
    return text;
}
