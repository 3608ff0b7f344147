/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the replies to an option mean (proto.md, "Option types" and "Option reply types"). */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/negotiate_internal.h"
#include "utf8.h"

const char *negotiation_option_name(enum nbd_option option)
{
    switch (option) {
    case NBD_OPT_EXPORT_NAME:
        return "NBD_OPT_EXPORT_NAME";
    case NBD_OPT_ABORT:
        return "NBD_OPT_ABORT";
    case NBD_OPT_LIST:
        return "NBD_OPT_LIST";
    case NBD_OPT_STARTTLS:
        return "NBD_OPT_STARTTLS";
    case NBD_OPT_INFO:
        return "NBD_OPT_INFO";
    case NBD_OPT_GO:
        return "NBD_OPT_GO";
    case NBD_OPT_STRUCTURED_REPLY:
        return "NBD_OPT_STRUCTURED_REPLY";
    case NBD_OPT_LIST_META_CONTEXT:
        return "NBD_OPT_LIST_META_CONTEXT";
    case NBD_OPT_SET_META_CONTEXT:
        return "NBD_OPT_SET_META_CONTEXT";
    case NBD_OPT_EXTENDED_HEADERS:
        return "NBD_OPT_EXTENDED_HEADERS";
    }
    return "an option";
}

const char *negotiation_error_name(uint32_t error)
{
    static const struct {
        uint32_t error;
        const char *name;
    } names[] = {
        {NBD_REP_ERR_UNSUP, "NBD_REP_ERR_UNSUP"},
        {NBD_REP_ERR_POLICY, "NBD_REP_ERR_POLICY"},
        {NBD_REP_ERR_INVALID, "NBD_REP_ERR_INVALID"},
        {NBD_REP_ERR_PLATFORM, "NBD_REP_ERR_PLATFORM"},
        {NBD_REP_ERR_TLS_REQD, "NBD_REP_ERR_TLS_REQD"},
        {NBD_REP_ERR_UNKNOWN, "NBD_REP_ERR_UNKNOWN"},
        {NBD_REP_ERR_SHUTDOWN, "NBD_REP_ERR_SHUTDOWN"},
        {NBD_REP_ERR_BLOCK_SIZE_REQD, "NBD_REP_ERR_BLOCK_SIZE_REQD"},
        {NBD_REP_ERR_TOO_BIG, "NBD_REP_ERR_TOO_BIG"},
        {NBD_REP_ERR_EXT_HEADER_REQD, "NBD_REP_ERR_EXT_HEADER_REQD"},
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].error == error)
            return names[i].name;
    return NULL;
}

/* "Strings": UTF-8, and no NUL. */
static bool string_valid(const uint8_t *text, size_t size)
{
    return !memchr(text, '\0', size) && utf8_valid((const char *)text, size);
}

static int malformed(const struct negotiation *n, struct failure *failure, const char *what)
{
    return fail(failure, EPROTO, "the server's reply to %s is malformed: %s",
                negotiation_option_name(n->option), what);
}

/* Takes a string from the wire into a buffer of NBD_MAX_STRING + 1 bytes. */
static int take_string(const struct negotiation *n, const uint8_t *text, size_t size, char *into,
                       struct failure *failure)
{
    if (size > NBD_MAX_STRING)
        return malformed(n, failure, "a string of more than 4096 bytes");
    if (!string_valid(text, size))
        return malformed(n, failure, "a string that is not UTF-8");
    memcpy(into, text, size);
    into[size] = '\0';
    return 0;
}

/* NBD_REP_SERVER: length of name, name, and the rest is a description for people. */
static int reply_server(struct negotiation *n, const uint8_t *payload, size_t size,
                        struct negotiation_event *event, struct failure *failure)
{
    uint32_t length;
    size_t rest;

    if (size < 4)
        return malformed(n, failure, "no room for a name");
    length = be32_get(payload);
    if (length > size - 4)
        return malformed(n, failure, "a name longer than the reply");
    if (take_string(n, payload + 4, length, n->name, failure) < 0)
        return -EPROTO;
    rest = size - 4 - length;
    if (rest > NBD_MAX_STRING || !string_valid(payload + 4 + length, rest))
        rest = 0; /* implementation-specific details need not be text */
    memcpy(n->description, payload + 4 + length, rest);
    n->description[rest] = '\0';
    event->type = NEGOTIATION_EVENT_EXPORT;
    event->name = n->name;
    event->description = n->description;
    return 0;
}

static int reply_context(struct negotiation *n, const uint8_t *payload, size_t size,
                         struct negotiation_event *event, struct failure *failure)
{
    if (size < 5)
        return malformed(n, failure, "no room for a meta context");
    if (take_string(n, payload + 4, size - 4, n->name, failure) < 0)
        return -EPROTO;
    event->type = NEGOTIATION_EVENT_CONTEXT;
    event->context_id = be32_get(payload);
    event->name = n->name;
    return 0;
}

static int info_export(struct negotiation *n, const uint8_t *payload, size_t size, struct failure *failure)
{
    uint64_t export_size;
    uint16_t flags;

    if (size != 12)
        return malformed(n, failure, "NBD_INFO_EXPORT is not 12 bytes");
    export_size = be64_get(payload + 2);
    flags = be16_get(payload + 10);
    if (n->pending.described && (n->pending.size != export_size || n->pending.flags != flags))
        return malformed(n, failure, "two NBD_INFO_EXPORT that differ");
    n->pending.described = true;
    n->pending.size = export_size;
    n->pending.flags = flags;
    return 0;
}

static int info_block_size(struct negotiation *n, const uint8_t *payload, size_t size,
                           struct failure *failure)
{
    if (size != 14)
        return malformed(n, failure, "NBD_INFO_BLOCK_SIZE is not 14 bytes");
    n->pending.has_block_sizes = true;
    n->pending.min_block = be32_get(payload + 2);
    n->pending.preferred_block = be32_get(payload + 6);
    n->pending.max_payload = be32_get(payload + 10);
    return 0;
}

static int info_string(struct negotiation *n, const uint8_t *payload, size_t size, char **into,
                       struct failure *failure)
{
    char *copy;

    if (take_string(n, payload + 2, size - 2, n->name, failure) < 0)
        return -EPROTO;
    copy = strdup(n->name);
    if (!copy)
        return fail(failure, ENOMEM, "out of memory");
    free(*into);
    *into = copy;
    return 0;
}

static int reply_info(struct negotiation *n, const uint8_t *payload, size_t size, struct failure *failure)
{
    if (size < 2)
        return malformed(n, failure, "no room for an information type");
    switch (be16_get(payload)) {
    case NBD_INFO_EXPORT:
        return info_export(n, payload, size, failure);
    case NBD_INFO_NAME:
        return info_string(n, payload, size, &n->pending.canonical_name, failure);
    case NBD_INFO_DESCRIPTION:
        return info_string(n, payload, size, &n->pending.description, failure);
    case NBD_INFO_BLOCK_SIZE:
        return info_block_size(n, payload, size, failure);
    default:
        return 0; /* "The client MUST ignore information replies it does not understand" */
    }
}

static int keep_export(struct negotiation *n, struct failure *failure)
{
    int r = export_check(&n->pending, failure);

    if (r < 0)
        return r;
    export_clear(&n->export);
    n->export = n->pending;
    n->pending = (struct export){0};
    return 0;
}

static int reply_ack(struct negotiation *n, size_t size, struct negotiation_event *event,
                     struct failure *failure)
{
    int r = 0;

    if (size != 0)
        return malformed(n, failure, "an NBD_REP_ACK with data");
    n->state = NEGOTIATION_READY;
    if (n->option == NBD_OPT_INFO || n->option == NBD_OPT_GO)
        r = keep_export(n, failure);
    if (r < 0)
        return r;
    if (n->option == NBD_OPT_GO)
        n->state = NEGOTIATION_TRANSMISSION;
    if (n->option == NBD_OPT_STARTTLS)
        n->state = NEGOTIATION_SECURING;
    event->type = NEGOTIATION_EVENT_REPLIED;
    return 0;
}

static int reply_error(struct negotiation *n, const uint8_t *payload, size_t size,
                       struct negotiation_event *event)
{
    /* The message is for people: cut at a NUL and at the longest string, escaped when it is shown. */
    size_t length = strnlen((const char *)payload, size);

    if (length > NBD_MAX_STRING)
        length = NBD_MAX_STRING;
    memcpy(n->description, payload, length);
    n->description[length] = '\0';
    n->state = NEGOTIATION_READY;
    event->type = NEGOTIATION_EVENT_REPLIED;
    event->error = n->reply_type;
    event->message = n->description;
    return 0;
}

int negotiation_reply(struct negotiation *n, const uint8_t *payload, size_t size,
                      struct negotiation_event *event, struct failure *failure)
{
    bool info = n->option == NBD_OPT_INFO || n->option == NBD_OPT_GO;
    bool meta = n->option == NBD_OPT_LIST_META_CONTEXT || n->option == NBD_OPT_SET_META_CONTEXT;

    if (n->reply_type & NBD_REP_FLAG_ERROR)
        return reply_error(n, payload, size, event);
    if (n->reply_type == NBD_REP_ACK)
        return reply_ack(n, size, event, failure);
    if (n->reply_type == NBD_REP_SERVER && n->option == NBD_OPT_LIST)
        return reply_server(n, payload, size, event, failure);
    if (n->reply_type == NBD_REP_INFO && info)
        return reply_info(n, payload, size, failure);
    if (n->reply_type == NBD_REP_META_CONTEXT && meta)
        return reply_context(n, payload, size, event, failure);
    return fail(failure, EPROTO, "the server answered %s with reply type %" PRIu32,
                negotiation_option_name(n->option), n->reply_type);
}
