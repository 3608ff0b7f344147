/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/negotiate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/negotiate_internal.h"

#define GREETING_SIZE      18 /* two magic numbers and the handshake flags */
#define OPTION_HEADER_SIZE 16
#define EXPORT_NAME_SIZE   10 /* size and transmission flags */
#define EXPORT_NAME_ZEROES 124

struct negotiation *negotiation_new(void)
{
    struct negotiation *n = calloc(1, sizeof *n);

    if (n) {
        n->state = NEGOTIATION_GREETING;
        n->wanted = GREETING_SIZE;
    }
    return n;
}

void negotiation_free(struct negotiation *n)
{
    if (!n)
        return;
    export_clear(&n->pending);
    export_clear(&n->export);
    free(n->out);
    free(n);
}

enum negotiation_state negotiation_state(const struct negotiation *n)
{
    return n->state;
}

bool negotiation_is_fixed(const struct negotiation *n)
{
    return n->fixed;
}

const struct export *negotiation_export(const struct negotiation *n)
{
    return &n->export;
}

size_t negotiation_wanted(struct negotiation *n, uint8_t **into)
{
    *into = n->in + n->have;
    return n->wanted - n->have;
}

size_t negotiation_output(const struct negotiation *n, const uint8_t **from)
{
    *from = n->out + n->out_sent;
    return n->out_size - n->out_sent;
}

void negotiation_sent(struct negotiation *n, size_t count)
{
    n->out_sent += count;
    if (n->out_sent < n->out_size)
        return;
    free(n->out);
    n->out = NULL;
    n->out_size = n->out_sent = 0;
}

/* Room for size more bytes of output; NULL when out of memory. */
static uint8_t *extend_output(struct negotiation *n, size_t size)
{
    uint8_t *out = realloc(n->out, n->out_size + size);
    uint8_t *room;

    if (!out)
        return NULL;
    n->out = out;
    room = out + n->out_size;
    n->out_size += size;
    return room;
}

static void want(struct negotiation *n, size_t size)
{
    n->wanted = size;
    n->have = 0;
}

static int broken(struct negotiation *n, int error)
{
    n->state = NEGOTIATION_FAILED;
    want(n, 0);
    return error;
}

static int greet(struct negotiation *n, struct negotiation_event *event, struct failure *failure)
{
    uint64_t magic = be64_get(n->in);
    uint64_t style = be64_get(n->in + 8);
    uint16_t flags = be16_get(n->in + 16);
    uint8_t *out;

    if (magic != NBD_MAGIC)
        return fail(failure, EPROTO, "the server does not speak NBD (it began with 0x%016" PRIx64 ")", magic);
    if (style == NBD_OLDSTYLE_MAGIC)
        return fail_hint(
            failure, fail(failure, EPROTO, "the server speaks only the oldstyle negotiation of NBD"),
            "the server needs to be 3.10 or later of nbd-server, or another that knows export names");
    if (style != NBD_OPTION_MAGIC)
        return fail(failure, EPROTO, "the server speaks an unknown NBD negotiation (0x%016" PRIx64 ")",
                    style);
    out = extend_output(n, 4);
    if (!out)
        return fail(failure, ENOMEM, "out of memory");
    n->fixed = (flags & NBD_FLAG_FIXED_NEWSTYLE) != 0;
    n->no_zeroes = (flags & NBD_FLAG_NO_ZEROES) != 0;
    be32_put(out, (n->fixed ? NBD_FLAG_C_FIXED_NEWSTYLE : 0) | (n->no_zeroes ? NBD_FLAG_C_NO_ZEROES : 0));
    n->state = NEGOTIATION_READY;
    want(n, 0);
    event->type = NEGOTIATION_EVENT_GREETED;
    return 0;
}

static int accept_export_name(struct negotiation *n, struct negotiation_event *event, struct failure *failure)
{
    n->pending.size = be64_get(n->in);
    n->pending.flags = be16_get(n->in + 8);
    n->pending.described = true;
    if (export_check(&n->pending, failure) < 0)
        return -EPROTO;
    export_clear(&n->export);
    n->export = n->pending;
    n->pending = (struct export){0};
    n->state = NEGOTIATION_TRANSMISSION;
    want(n, 0);
    event->type = NEGOTIATION_EVENT_REPLIED;
    return 0;
}

static int check_reply_header(struct negotiation *n, struct failure *failure)
{
    uint64_t magic = be64_get(n->in);
    uint32_t option = be32_get(n->in + 8);

    if (magic != NBD_OPTION_REPLY_MAGIC)
        return fail(failure, EPROTO, "the server's reply to %s has the wrong magic number 0x%016" PRIx64,
                    negotiation_option_name(n->option), magic);
    if (option != (uint32_t)n->option)
        return fail(failure, EPROTO, "the server replied to option %" PRIu32 " when %s was asked", option,
                    negotiation_option_name(n->option));
    n->reply_type = be32_get(n->in + 12);
    n->reply_size = be32_get(n->in + 16);
    if (n->reply_size > REPLY_PAYLOAD_MAX)
        return fail(failure, EPROTO,
                    "the server's reply to %s claims %" PRIu32 " bytes, more than any reply has",
                    negotiation_option_name(n->option), n->reply_size);
    if (++n->replies > n->replies_max)
        return fail(failure, EPROTO, "the server sends more than %u replies to %s", n->replies_max,
                    negotiation_option_name(n->option));
    return 0;
}

static int take_reply(struct negotiation *n, struct negotiation_event *event, struct failure *failure)
{
    uint8_t *payload = n->in;
    int r;

    if (!n->in_payload) {
        r = check_reply_header(n, failure);
        if (r < 0)
            return r;
        n->in_payload = true;
        want(n, n->reply_size);
        if (n->reply_size > 0)
            return 0;
    }
    n->in_payload = false;
    payload[n->reply_size] = '\0';
    want(n, REPLY_HEADER_SIZE);
    r = negotiation_reply(n, payload, n->reply_size, event, failure);
    if (r == 0 && n->state != NEGOTIATION_OPTION)
        want(n, 0);
    return r;
}

static int take_item(struct negotiation *n, struct negotiation_event *event, struct failure *failure)
{
    switch (n->state) {
    case NEGOTIATION_GREETING:
        return greet(n, event, failure);
    case NEGOTIATION_OPTION:
        return take_reply(n, event, failure);
    case NEGOTIATION_EXPORT_NAME:
        return accept_export_name(n, event, failure);
    case NEGOTIATION_READY:
    case NEGOTIATION_SECURING:
    case NEGOTIATION_TRANSMISSION:
    case NEGOTIATION_ENDED:
    case NEGOTIATION_FAILED:
        break;
    }
    return fail(failure, EPROTO, "bytes from the server when none were awaited");
}

int negotiation_received(struct negotiation *n, size_t count, struct negotiation_event *event,
                         struct failure *failure)
{
    int r;

    *event = (struct negotiation_event){
        .type = NEGOTIATION_EVENT_NONE, .option = n->option, .name = "", .description = "", .message = ""};
    if (count > n->wanted - n->have)
        return broken(n, fail(failure, EPROTO, "more bytes from the server than were awaited"));
    n->have += count;
    if (n->have < n->wanted)
        return 0;
    r = take_item(n, event, failure);
    return r < 0 ? broken(n, r) : 0;
}

/* The header of an option with size bytes of data; returns where they go, NULL when out of memory. */
static uint8_t *put_option(struct negotiation *n, enum nbd_option option, size_t size)
{
    uint8_t *out = extend_output(n, OPTION_HEADER_SIZE + size);

    if (!out)
        return NULL;
    be64_put(out, NBD_OPTION_MAGIC);
    be32_put(out + 8, (uint32_t)option);
    be32_put(out + 12, (uint32_t)size);
    return out + OPTION_HEADER_SIZE;
}

/* Begins an option; *data is where its size bytes go. */
static int start(struct negotiation *n, enum nbd_option option, size_t size, unsigned replies_max,
                 uint8_t **data)
{
    if (n->state != NEGOTIATION_READY)
        return -EBUSY;
    if (!n->fixed && option != NBD_OPT_EXPORT_NAME)
        return -EOPNOTSUPP;
    *data = put_option(n, option, size);
    if (!*data)
        return -ENOMEM;
    export_clear(&n->pending);
    n->pending.min_block = NBD_DEFAULT_MIN_BLOCK;
    n->pending.preferred_block = NBD_DEFAULT_PREFERRED_BLOCK;
    n->pending.max_payload = NBD_DEFAULT_MAX_BLOCK;
    n->option = option;
    n->replies = 0;
    n->replies_max = replies_max;
    n->in_payload = false;
    n->state = NEGOTIATION_OPTION;
    want(n, REPLY_HEADER_SIZE);
    return 0;
}

static int start_bare(struct negotiation *n, enum nbd_option option, unsigned replies_max)
{
    uint8_t *data;

    return start(n, option, 0, replies_max, &data);
}

int negotiation_start_tls(struct negotiation *n)
{
    return n->secured ? -EALREADY : start_bare(n, NBD_OPT_STARTTLS, 1);
}

int negotiation_structured_reply(struct negotiation *n)
{
    return start_bare(n, NBD_OPT_STRUCTURED_REPLY, 1);
}

int negotiation_extended_headers(struct negotiation *n)
{
    return start_bare(n, NBD_OPT_EXTENDED_HEADERS, 1);
}

int negotiation_list(struct negotiation *n)
{
    return start_bare(n, NBD_OPT_LIST, NEGOTIATION_MAX_EXPORTS + 1);
}

/* INFO and GO: name, and the information items we want beyond NBD_INFO_EXPORT. */
static int start_info(struct negotiation *n, enum nbd_option option, const char *name)
{
    static const uint16_t items[] = {NBD_INFO_NAME, NBD_INFO_DESCRIPTION, NBD_INFO_BLOCK_SIZE};
    const size_t count = sizeof items / sizeof items[0];
    size_t length = strlen(name);
    uint8_t *data;
    int r;

    if (length > NBD_MAX_STRING)
        return -EINVAL;
    r = start(n, option, 4 + length + 2 + 2 * count, NEGOTIATION_MAX_INFOS, &data);
    if (r < 0)
        return r;
    be32_put(data, (uint32_t)length);
    memcpy(data + 4, name, length);
    data += 4 + length;
    be16_put(data, (uint16_t)count);
    for (size_t i = 0; i < count; i++)
        be16_put(data + 2 + 2 * i, items[i]);
    return 0;
}

int negotiation_info(struct negotiation *n, const char *name)
{
    return start_info(n, NBD_OPT_INFO, name);
}

int negotiation_go(struct negotiation *n, const char *name)
{
    return start_info(n, NBD_OPT_GO, name);
}

int negotiation_export_name(struct negotiation *n, const char *name)
{
    size_t length = strlen(name);
    uint8_t *data;
    int r;

    if (length > NBD_MAX_STRING)
        return -EINVAL;
    r = start(n, NBD_OPT_EXPORT_NAME, length, 0, &data);
    if (r < 0)
        return r;
    memcpy(data, name, length);
    n->state = NEGOTIATION_EXPORT_NAME;
    want(n, EXPORT_NAME_SIZE + (n->no_zeroes ? 0 : EXPORT_NAME_ZEROES));
    return 0;
}

static uint8_t *put_string(uint8_t *out, const char *text)
{
    size_t length = strlen(text);

    be32_put(out, (uint32_t)length);
    memcpy(out + 4, text, length);
    return out + 4 + length;
}

static int start_meta(struct negotiation *n, enum nbd_option option, const char *name,
                      const char *const *queries, size_t count, unsigned replies_max)
{
    size_t size = 4 + strlen(name) + 4;
    uint8_t *data;
    int r;

    if (strlen(name) > NBD_MAX_STRING || count > NEGOTIATION_MAX_QUERIES)
        return -EINVAL;
    for (size_t i = 0; i < count; i++) {
        if (strlen(queries[i]) > NBD_MAX_STRING)
            return -EINVAL;
        size += 4 + strlen(queries[i]);
    }
    r = start(n, option, size, replies_max, &data);
    if (r < 0)
        return r;
    data = put_string(data, name);
    be32_put(data, (uint32_t)count);
    data += 4;
    for (size_t i = 0; i < count; i++)
        data = put_string(data, queries[i]);
    return 0;
}

int negotiation_list_meta_context(struct negotiation *n, const char *name, const char *const *queries,
                                  size_t count)
{
    return start_meta(n, NBD_OPT_LIST_META_CONTEXT, name, queries, count, NEGOTIATION_MAX_CONTEXTS + 1);
}

int negotiation_set_meta_context(struct negotiation *n, const char *name, const char *const *queries,
                                 size_t count)
{
    return start_meta(n, NBD_OPT_SET_META_CONTEXT, name, queries, count, NEGOTIATION_MAX_CONTEXTS + 1);
}

void negotiation_abort(struct negotiation *n)
{
    if (n->state == NEGOTIATION_TRANSMISSION || n->state == NEGOTIATION_FAILED ||
        n->state == NEGOTIATION_ENDED || n->state == NEGOTIATION_SECURING)
        return;
    /* A server that is not fixed newstyle knows no options; closing the connection is all that is left. */
    if (n->state != NEGOTIATION_GREETING && n->fixed && n->state != NEGOTIATION_EXPORT_NAME)
        put_option(n, NBD_OPT_ABORT, 0);
    n->state = NEGOTIATION_ENDED;
    want(n, 0);
}

void negotiation_secured(struct negotiation *n)
{
    if (n->state != NEGOTIATION_SECURING)
        return;
    export_clear(&n->pending);
    export_clear(&n->export);
    n->secured = true;
    n->state = NEGOTIATION_READY;
}
