/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Varlink (varlink.org) without I/O, for both of its sides: messages are JSON objects, each ended by a NUL
 * byte. What the other side says is bounded in size, depth and number of values before any of it is built.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <json-c/json.h>

#define VARLINK_MESSAGE_MAX 65536 /* bytes, with the NUL */
#define VARLINK_DEPTH_MAX   16
#define VARLINK_VALUES_MAX  4096 /* an empty array takes two bytes, and some 300 once it is built */
#define VARLINK_NAME_MAX    255  /* of a method or an error */

/* Bytes that have come in, until they are whole messages. {0} is an empty one. */
struct varlink_input {
    char *data; /* owned */
    size_t capacity, size;
    size_t taken;   /* how much of it varlink_input_next() has given out */
    size_t scanned; /* where the search for the next NUL goes on */
};

void varlink_input_clear(struct varlink_input *input);

/* Once varlink_input_next() has nothing more. At most VARLINK_MESSAGE_MAX bytes at a time; -ENOMEM. */
int varlink_input_add(struct varlink_input *input, const void *data, size_t size);

/*
 * 1: a whole message, its NUL not counted, valid until bytes are added. 0: none yet. -EMSGSIZE: more than a
 * message may have.
 */
int varlink_input_next(struct varlink_input *input, const char **message, size_t *size);

/* Whether the end of the connection would cut a message. */
bool varlink_input_partial(const struct varlink_input *input);

struct varlink_call {
    char *method;                   /* "io.nbdctl.Device.GetStatus"; owned, as are the parameters */
    struct json_object *parameters; /* always an object */
    bool more, oneway, upgrade;
};

/*
 * -EBADMSG (the connection is to be dropped): *wrong says what cannot be understood ("message", "method",
 * "parameters", "more", "oneway", "upgrade"), and call holds nothing but, if it was understood, oneway.
 */
int varlink_call_parse(const char *message, size_t size, struct varlink_call *call, const char **wrong);
void varlink_call_clear(struct varlink_call *call);

struct varlink_reply {
    struct json_object *parameters; /* always an object; owned, as is the error */
    char *error;                    /* its full name; NULL: none */
    bool continues;
};

/* -EBADMSG: not a reply. */
int varlink_reply_parse(const char *message, size_t size, struct varlink_reply *reply);
void varlink_reply_clear(struct varlink_reply *reply);

/* The messages that we send; parameters are taken (NULL: none). The new object is the caller's; NULL: out of
 * memory. */
struct json_object *varlink_call_new(const char *method, struct json_object *parameters, bool more);
struct json_object *varlink_reply_new(struct json_object *parameters, bool continues);

/* With one parameter, or, with key NULL, none. */
struct json_object *varlink_error_new(const char *error, const char *key, const char *value);

/* As it goes over the wire, *size with its NUL; the object keeps it. NULL: out of memory. */
const char *varlink_message(struct json_object *object, size_t *size);
