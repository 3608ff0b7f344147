/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * JSON that we write; and that somebody else wrote, of which a field of another type than expected is one
 * that is not there.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cleanup.h"

static inline void cleanup_json(struct json_object **object)
{
    json_object_put(*object);
}
#define _cleanup_json_ _cleanup_(cleanup_json)

/* The field, which the object keeps; NULL: absent, null, or of another type. */
static inline struct json_object *json_field(struct json_object *object, const char *key, enum json_type type)
{
    struct json_object *value;

    if (!json_object_object_get_ex(object, key, &value) || !json_object_is_type(value, type))
        return NULL;
    return value;
}

/* The text, which the object keeps; NULL also for one with a NUL inside, which would be cut. */
static inline const char *json_text(struct json_object *object, const char *key)
{
    struct json_object *value = json_field(object, key, json_type_string);
    const char *text = value ? json_object_get_string(value) : NULL;

    return text && strlen(text) == (size_t)json_object_get_string_len(value) ? text : NULL;
}

/* NULL becomes null. */
static inline void json_add_text(struct json_object *object, const char *key, const char *text)
{
    json_object_object_add(object, key, text ? json_object_new_string(text) : NULL);
}

static inline void json_add_number(struct json_object *object, const char *key, uint64_t value)
{
    json_object_object_add(object, key, json_object_new_uint64(value));
}
