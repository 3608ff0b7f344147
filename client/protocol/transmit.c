/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/transmit.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cleanup.h"
#include "escape.h"
#include "protocol/reply.h"

/* Error chunks carry a message of at most 64 KiB; more than a string's worth is not for people. */
#define ERROR_PAYLOAD_MAX (14 + NBD_MAX_STRING)

/* The read in flight, and how much of it the server has answered. */
struct reading {
    struct session *session;
    uint64_t offset;
    uint32_t length;
    uint8_t *buffer;
    uint64_t covered; /* bytes filled so far; chunks may not overlap, so it is enough to count them... */
    uint64_t next;    /* ...where they come in order, which is all we accept */
    int error;        /* the first error the server told; the failure holds its text */
};

static int send_request(struct session *session, const struct request *request, struct failure *failure)
{
    uint8_t header[NBD_EXTENDED_REQUEST_SIZE];
    size_t size = request_put(request, session_replies(session), header);

    return channel_write(session_channel(session), header, size, session_deadline(session), failure);
}

static int receive(struct session *session, uint8_t *into, size_t size, struct failure *failure)
{
    return channel_read(session_channel(session), into, size, session_deadline(session), failure);
}

static int receive_header(struct session *session, uint64_t cookie, struct reply_header *reply,
                          struct failure *failure)
{
    uint8_t header[REPLY_HEADER_MAX_SIZE];
    size_t size;
    int r = receive(session, header, REPLY_MAGIC_SIZE, failure);

    if (r < 0)
        return r;
    size = reply_header_size(header, session_replies(session));
    if (size == 0)
        return fail(failure, EPROTO, "the server's reply begins with 0x%08" PRIx32 ", which this session has no use for",
                    be32_get(header));
    r = receive(session, header + REPLY_MAGIC_SIZE, size - REPLY_MAGIC_SIZE, failure);
    if (r < 0)
        return r;
    reply_header_get(header, reply);
    if (reply->cookie != cookie)
        return fail(failure, EPROTO, "the server's reply carries a cookie that nobody used");
    return 0;
}

static int told_error(struct reading *reading, uint32_t error, const uint8_t *message, size_t size,
                      struct failure *failure)
{
    _cleanup_free_ char *shown = escape_text((const char *)message, size, 512);
    int number = nbd_errno(error);

    if (reading->error == 0)
        reading->error = fail(failure, number, "the server cannot read its disk: %s%s%s", strerror(number),
                              shown && *shown ? ": " : "", shown ? shown : "");
    return 0;
}

static int take_error(struct reading *reading, const struct reply_header *reply, struct failure *failure)
{
    uint8_t payload[ERROR_PAYLOAD_MAX];
    const uint8_t *message;
    size_t size;
    uint32_t error;
    int r;

    if (reply->size > sizeof payload)
        return fail(failure, EPROTO, "the server's error reply is too long");
    r = receive(reading->session, payload, reply->size, failure);
    if (r == 0)
        r = reply_error_get(reply->type, payload, reply->size, &error, &message, &size, failure);
    return r < 0 ? r : told_error(reading, error, message, size, failure);
}

/* Where a content chunk goes; NULL when it lies outside the request or on what was answered before. */
static uint8_t *place(struct reading *reading, uint64_t offset, uint64_t length)
{
    uint64_t end = reading->offset + reading->length;

    if (offset < reading->next || offset > end || length == 0 || length > end - offset)
        return NULL;
    reading->next = offset + length;
    reading->covered += length;
    return reading->buffer + (offset - reading->offset);
}

static int take_data(struct reading *reading, const struct reply_header *reply, struct failure *failure)
{
    uint8_t offset[8];
    uint8_t *into;
    int r;

    if (reply->size <= 8)
        return fail(failure, EPROTO, "the server's data reply is too short");
    r = receive(reading->session, offset, sizeof offset, failure);
    if (r < 0)
        return r;
    into = place(reading, be64_get(offset), reply->size - 8);
    if (!into)
        return fail(failure, EPROTO, "the server's data reply lies outside of what was asked");
    return receive(reading->session, into, reply->size - 8, failure);
}

static int take_hole(struct reading *reading, const struct reply_header *reply, struct failure *failure)
{
    uint8_t payload[12];
    uint32_t length;
    uint8_t *into;
    int r;

    if (reply->size != sizeof payload)
        return fail(failure, EPROTO, "the server's hole reply is malformed");
    r = receive(reading->session, payload, sizeof payload, failure);
    if (r < 0)
        return r;
    length = be32_get(payload + 8);
    into = place(reading, be64_get(payload), length);
    if (!into)
        return fail(failure, EPROTO, "the server's hole reply lies outside of what was asked");
    memset(into, 0, length);
    return 0;
}

static int take_simple(struct reading *reading, const struct reply_header *reply, struct failure *failure)
{
    if (reply->error)
        return told_error(reading, reply->error, (const uint8_t *)"", 0, failure);
    if (session_replies(reading->session) != SESSION_SIMPLE)
        return fail(failure, EPROTO, "the server answered a read with a simple reply where a structured one is due");
    reading->covered = reading->length;
    return receive(reading->session, reading->buffer, reading->length, failure);
}

static int take_chunk(struct reading *reading, const struct reply_header *reply, struct failure *failure)
{
    if (reply->simple)
        return take_simple(reading, reply, failure);
    if (NBD_REPLY_TYPE_IS_ERROR(reply->type))
        return take_error(reading, reply, failure);
    switch (reply->type) {
    case NBD_REPLY_TYPE_OFFSET_DATA:
        return take_data(reading, reply, failure);
    case NBD_REPLY_TYPE_OFFSET_HOLE:
        return take_hole(reading, reply, failure);
    case NBD_REPLY_TYPE_NONE:
        if (reply->size == 0 && reply->done)
            return 0;
        return fail(failure, EPROTO, "the server's empty reply is malformed");
    default:
        return fail(failure, EPROTO, "the server answered a read with reply type %u", reply->type);
    }
}

int transmit_read(struct session *session, uint64_t offset, uint32_t length, uint8_t *buffer,
                  struct failure *failure)
{
    struct request request = {
        .command = NBD_CMD_READ, .cookie = 1, .offset = offset, .length = length};
    struct reading reading = {
        .session = session, .offset = offset, .length = length, .buffer = buffer, .next = offset};
    struct reply_header reply;
    int r = send_request(session, &request, failure);

    if (r < 0)
        return r;
    do {
        uint64_t before = reading.covered;

        r = receive_header(session, request.cookie, &reply, failure);
        if (r == 0)
            r = take_chunk(&reading, &reply, failure);
        if (r < 0)
            return r;
        /* Endless chunks that bring nothing would hold us as long as the deadline is long. */
        if (!reply.done && reading.covered == before && reading.error == 0)
            return fail(failure, EPROTO, "the server sends reply chunks that bring nothing");
    } while (!reply.done);
    if (reading.error)
        return reading.error;
    if (reading.covered != length)
        return fail(failure, EPROTO, "the server answered only %" PRIu64 " of %" PRIu32 " bytes", reading.covered,
                    length);
    return 0;
}

int transmit_disconnect(struct session *session, struct failure *failure)
{
    struct request request = {.command = NBD_CMD_DISC};

    return send_request(session, &request, failure);
}
