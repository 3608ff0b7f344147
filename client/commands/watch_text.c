/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands/watch_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/json_fields.h"
#include "cleanup.h"
#include "escape.h"

#define VALUE_MAX 1024

/* {field} is its value, "?" where it is missing; what stands in brackets is left out without its field. */
static const struct {
    const char *event, *sentence;
} sentences[] = {
    {"watching", "watching, the link is {state}"},
    {"link-down", "link down, {connections_up} of {connections} connections are up[: {error}]"},
    {"reconnecting", "reconnecting, attempt {attempt}[: {error}]"},
    {"link-up",
     "link up, {connections_up} of {connections} connections to {uri}[, after {outage_seconds} seconds]"},
    {"io-failing", "I/O fails, the server has been away for {outage_seconds} seconds"},
    {"renewed", "a new connection to {uri} has replaced an old one"},
    {"resized", "resized from {old_size} to {size} bytes"},
    {"identity-changed", "{uri} is not the disk that was attached[: {error}]"},
    {"dirty-grew", "bitmap {bitmap} has {dirty_bytes} dirty bytes"},
    {"bitmap-lost", "bitmap {bitmap} is lost[: {error}]"},
    {"detached", "detached"},
    {"agent-stopped", "the agent has stopped, the device stays attached"},
};

static const char *find_sentence(const char *name)
{
    for (size_t i = 0; name && i < sizeof sentences / sizeof sentences[0]; i++)
        if (strcmp(sentences[i].event, name) == 0)
            return sentences[i].sentence;
    return NULL;
}

static void put_escaped(FILE *to, const char *text, size_t size)
{
    _cleanup_free_ char *shown = escape_text(text, size, VALUE_MAX);

    fputs(shown ? shown : "?", to);
}

static void put_value(FILE *to, struct json_object *value)
{
    const char *text;

    if (json_object_is_type(value, json_type_double)) {
        fprintf(to, "%.1f", json_object_get_double(value));
        return;
    }
    if (json_object_is_type(value, json_type_string)) {
        put_escaped(to, json_object_get_string(value), (size_t)json_object_get_string_len(value));
        return;
    }
    text = value ? json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN) : "?";
    put_escaped(to, text, strlen(text));
}

/* sentence stands at "{field}"; returns what follows it. */
static const char *take_field(const char *sentence, struct json_object *event, struct json_object **value)
{
    size_t length = strcspn(sentence, "}");
    char name[32];

    snprintf(name, sizeof name, "%.*s", (int)(length - 1), sentence + 1);
    *value = NULL;
    json_object_object_get_ex(event, name, value);
    return sentence + length + 1;
}

static bool has_field(const char *group, struct json_object *event)
{
    struct json_object *value;

    take_field(strchr(group, '{'), event, &value);
    return value != NULL;
}

static void put_sentence(FILE *to, const char *sentence, struct json_object *event)
{
    while (*sentence) {
        struct json_object *value;

        if (*sentence == '{') {
            sentence = take_field(sentence, event, &value);
            put_value(to, value);
        } else if (*sentence == '[' && !has_field(sentence, event)) {
            sentence = strchr(sentence, ']') + 1;
        } else {
            if (*sentence != '[' && *sentence != ']')
                fputc(*sentence, to);
            sentence++;
        }
    }
}

/* One that a later agent sends. */
static void put_unknown(FILE *to, struct json_object *event)
{
    put_sentence(to, "{event}", event);
    json_object_object_foreach(event, key, value)
    {
        if (strcmp(key, "event") == 0 || strcmp(key, "time") == 0 || strcmp(key, "device") == 0)
            continue;
        fputs(", ", to);
        put_escaped(to, key, strlen(key));
        fputc(' ', to);
        put_value(to, value);
    }
}

char *watch_text(struct json_object *event)
{
    const char *sentence = find_sentence(json_text(event, "event"));
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    if (!to)
        return NULL;
    put_sentence(to, "{time} {device}: ", event);
    if (sentence)
        put_sentence(to, sentence, event);
    else
        put_unknown(to, event);
    if (fclose(to) == 0)
        return text;
    free(text);
    return NULL;
}
