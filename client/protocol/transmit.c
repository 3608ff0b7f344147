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

/* Of the message; escaped it is at most four times as long, and so fits into a failure. */
#define MESSAGE_SHOWN 160

/* Chunks may come in any order. One that touches others joins them, so real servers need very few. */
#define PIECES_MAX 64

/* Error chunks bring no byte nearer; a server has no use for more than this many in one reply. */
#define ERROR_CHUNKS_MAX 64

struct piece {
    uint64_t begin, end;
};

/* The read in flight, and how much of it the server has answered. */
struct reading {
    struct session *session;
    uint64_t cookie;
    uint64_t offset;
    uint32_t length;
    uint8_t *buffer;
    struct piece pieces[PIECES_MAX]; /* filled so far: ascending, apart from each other */
    size_t pieces_count;
    unsigned error_chunks;
    int error; /* the first error the server told; the failure holds its text */
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

static int check_header(const struct reading *reading, const struct reply_header *reply,
                        struct failure *failure)
{
    if (reply->cookie != reading->cookie)
        return fail(failure, EPROTO, "the server's reply carries a cookie that nobody used");
    if (session_replies(reading->session) == SESSION_EXTENDED && reply->offset != reading->offset)
        return fail(failure, EPROTO, "the server's reply carries an offset other than that of the request");
    return 0;
}

static int receive_header(const struct reading *reading, struct reply_header *reply, struct failure *failure)
{
    uint8_t header[REPLY_HEADER_MAX_SIZE];
    size_t size;
    int r = receive(reading->session, header, REPLY_MAGIC_SIZE, failure);

    if (r < 0)
        return r;
    size = reply_header_size(header, session_replies(reading->session));
    if (size == 0)
        return fail(failure, EPROTO,
                    "the server's reply begins with 0x%08" PRIx32 ", which this session has no use for",
                    be32_get(header));
    r = receive(reading->session, header + REPLY_MAGIC_SIZE, size - REPLY_MAGIC_SIZE, failure);
    if (r < 0)
        return r;
    reply_header_get(header, reply);
    return check_header(reading, reply, failure);
}

static int told_error(struct reading *reading, uint32_t error, const uint8_t *message, size_t size,
                      struct failure *failure)
{
    _cleanup_free_ char *shown = escape_text((const char *)message, size, MESSAGE_SHOWN);
    int number = nbd_errno(error);
    const char *reason = number == ESHUTDOWN ? "it is shutting down" : strerror(number);

    if (reading->error == 0)
        reading->error = fail(failure, number, "the server cannot read its disk: %s%s%s", reason,
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
    /* Endless chunks that bring nothing would hold us as long as the deadline is long. */
    if (++reading->error_chunks > ERROR_CHUNKS_MAX)
        return fail(failure, EPROTO, "the server sends reply chunks that bring nothing");
    r = receive(reading->session, payload, reply->size, failure);
    if (r == 0)
        r = reply_error_get(reply->type, payload, reply->size, &error, &message, &size, failure);
    return r < 0 ? r : told_error(reading, error, message, size, failure);
}

static void remove_piece(struct reading *reading, size_t at)
{
    reading->pieces_count--;
    memmove(reading->pieces + at, reading->pieces + at + 1,
            (reading->pieces_count - at) * sizeof *reading->pieces);
}

static int insert_piece(struct reading *reading, size_t at, struct piece piece, struct failure *failure)
{
    if (reading->pieces_count == PIECES_MAX)
        return fail(failure, EPROTO, "the server answers a read in more pieces than make sense");
    memmove(reading->pieces + at + 1, reading->pieces + at,
            (reading->pieces_count - at) * sizeof *reading->pieces);
    reading->pieces[at] = piece;
    reading->pieces_count++;
    return 0;
}

/* Remembers that the server has answered this piece, which it may do once. */
static int cover(struct reading *reading, struct piece piece, struct failure *failure)
{
    struct piece *pieces = reading->pieces;
    bool joins_left, joins_right;
    size_t i = 0;

    while (i < reading->pieces_count && pieces[i].end < piece.begin)
        i++;
    joins_left = i < reading->pieces_count && pieces[i].end == piece.begin;
    i += joins_left;
    if (i < reading->pieces_count && pieces[i].begin < piece.end)
        return fail(failure, EPROTO, "the server answered a part of the read twice");
    joins_right = i < reading->pieces_count && pieces[i].begin == piece.end;
    if (joins_left) {
        pieces[i - 1].end = joins_right ? pieces[i].end : piece.end;
        if (joins_right)
            remove_piece(reading, i);
        return 0;
    }
    if (!joins_right)
        return insert_piece(reading, i, piece, failure);
    pieces[i].begin = piece.begin;
    return 0;
}

static uint64_t covered(const struct reading *reading)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < reading->pieces_count; i++)
        sum += reading->pieces[i].end - reading->pieces[i].begin;
    return sum;
}

/* Where a content chunk goes. */
static int place(struct reading *reading, uint64_t offset, uint64_t length, uint8_t **into,
                 struct failure *failure)
{
    uint64_t end = reading->offset + reading->length;

    if (offset < reading->offset || offset > end || length == 0 || length > end - offset)
        return fail(failure, EPROTO, "the server's reply lies outside of what was asked");
    *into = reading->buffer + (offset - reading->offset);
    return cover(reading, (struct piece){offset, offset + length}, failure);
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
    r = place(reading, be64_get(offset), reply->size - 8, &into, failure);
    return r < 0 ? r : receive(reading->session, into, reply->size - 8, failure);
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
    r = place(reading, be64_get(payload), length, &into, failure);
    if (r == 0)
        memset(into, 0, length);
    return r;
}

static int take_simple(struct reading *reading, const struct reply_header *reply, struct failure *failure)
{
    uint8_t *into;
    int r;

    if (reply->error)
        return told_error(reading, reply->error, (const uint8_t *)"", 0, failure);
    if (session_replies(reading->session) != SESSION_SIMPLE)
        return fail(failure, EPROTO,
                    "the server answered a read with a simple reply where a structured one is due");
    r = place(reading, reading->offset, reading->length, &into, failure);
    return r < 0 ? r : receive(reading->session, into, reading->length, failure);
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

/* Until the reply is complete: then the session is ready for the next request, whatever the reply was. */
static int take_reply(struct reading *reading, struct failure *failure)
{
    struct reply_header reply;

    do {
        int r = receive_header(reading, &reply, failure);

        if (r == 0)
            r = take_chunk(reading, &reply, failure);
        if (r < 0)
            return r;
    } while (!reply.done);
    if (reading->error == 0 && covered(reading) != reading->length)
        return fail(failure, EPROTO, "the server answered only %" PRIu64 " of %" PRIu32 " bytes",
                    covered(reading), reading->length);
    return 0;
}

int transmit_read(struct session *session, uint64_t offset, uint32_t length, uint8_t *buffer,
                  struct failure *failure)
{
    struct reading reading = {
        .session = session, .cookie = 1, .offset = offset, .length = length, .buffer = buffer};
    struct request request = {
        .command = NBD_CMD_READ, .cookie = reading.cookie, .offset = offset, .length = length};
    int r = send_request(session, &request, failure);

    if (r < 0)
        return session_break(session, r);
    r = take_reply(&reading, failure);
    if (r == -ETIMEDOUT || r == -ECANCELED)
        return session_abandon(session, r);
    return r < 0 ? session_break(session, r) : reading.error;
}

int transmit_disconnect(struct session *session, struct failure *failure)
{
    struct request request = {.command = NBD_CMD_DISC};

    return send_request(session, &request, failure);
}
