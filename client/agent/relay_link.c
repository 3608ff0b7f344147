/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/relay_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "config.h"

#if HAVE_TLS
#include "tls/tls.h"

_Static_assert(RELAY_LINK_PARTS >= TLS_BULK_PARTS, "a link has room for all parts of a record batch");
#endif

#define PLAIN_SIZE 131072

struct link_kind {
    ssize_t (*read)(struct relay_link *link, const uint8_t **data, struct failure *failure);
    size_t (*room)(struct relay_link *link, struct iovec *parts);
    int (*write)(struct relay_link *link, size_t size, struct failure *failure);
    void (*bye)(struct relay_link *link);
};

struct relay_link {
    const struct link_kind *kind;
    struct tls_bulk *tls;         /* owned; NULL: plain, then: */
    int fd;                       /* not owned */
    uint8_t *incoming, *outgoing; /* owned; PLAIN_SIZE each */
};

static ssize_t plain_read(struct relay_link *link, const uint8_t **data, struct failure *failure)
{
    ssize_t n;

    do
        n = recv(link->fd, link->incoming, PLAIN_SIZE, 0);
    while (n < 0 && errno == EINTR);
    *data = link->incoming;
    return n < 0 ? fail(failure, errno, "the connection to the server failed: %s", strerror(errno)) : n;
}

static size_t plain_room(struct relay_link *link, struct iovec *parts)
{
    parts[0] = (struct iovec){.iov_base = link->outgoing, .iov_len = PLAIN_SIZE};
    return 1;
}

static int plain_write(struct relay_link *link, size_t size, struct failure *failure)
{
    const uint8_t *from = link->outgoing;

    while (size > 0) {
        ssize_t n = send(link->fd, from, size, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR)
            return fail(failure, errno, "cannot send to the server: %s", strerror(errno));
        if (n > 0) {
            from += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

static void plain_bye(struct relay_link *link)
{
    (void)link;
}

static const struct link_kind plain_kind = {
    .read = plain_read, .room = plain_room, .write = plain_write, .bye = plain_bye};

static int plain_new(struct relay_link *link, const struct channel *channel, struct failure *failure)
{
    link->kind = &plain_kind;
    link->incoming = malloc(PLAIN_SIZE);
    link->outgoing = malloc(PLAIN_SIZE);
    if (!link->incoming || !link->outgoing)
        return fail(failure, ENOMEM, "out of memory");
    return channel_check_silent(channel, failure);
}

#if HAVE_TLS

static int from_tls(struct failure *failure, int error, const struct tls_reason *reason)
{
    return fail_hint(failure, fail(failure, -error, "%s", reason->text), "%s", reason->hint);
}

static ssize_t tls_kind_read(struct relay_link *link, const uint8_t **data, struct failure *failure)
{
    struct tls_reason reason;
    ssize_t n = tls_bulk_read(link->tls, data, &reason);

    return n < 0 ? from_tls(failure, (int)n, &reason) : n;
}

static size_t tls_kind_room(struct relay_link *link, struct iovec *parts)
{
    return tls_bulk_room(link->tls, parts);
}

static int tls_kind_write(struct relay_link *link, size_t size, struct failure *failure)
{
    struct tls_reason reason;
    int r = tls_bulk_write(link->tls, size, &reason);

    return r < 0 ? from_tls(failure, r, &reason) : 0;
}

static void tls_kind_bye(struct relay_link *link)
{
    tls_bulk_bye(link->tls);
}

static const struct link_kind tls_kind = {
    .read = tls_kind_read, .room = tls_kind_room, .write = tls_kind_write, .bye = tls_kind_bye};

static int tls_new(struct relay_link *link, const struct channel *channel, struct failure *failure)
{
    struct tls_reason reason = {0};
    int r = tls_bulk_new(&link->tls, channel->state, &reason); /* TLS is the only layer that there is */

    link->kind = &tls_kind;
    return r < 0 ? from_tls(failure, r, &reason) : 0;
}

#else

static int tls_new(struct relay_link *link, const struct channel *channel, struct failure *failure)
{
    (void)link, (void)channel;
    return fail(failure, EOPNOTSUPP, "built without TLS");
}

static void tls_bulk_free(struct tls_bulk *bulk)
{
    (void)bulk;
}

static void tls_bulk_drop_secrets(struct tls_bulk *bulk)
{
    (void)bulk;
}

#endif

int relay_link_new(struct relay_link **ret, const struct channel *channel, struct failure *failure)
{
    struct relay_link *link = calloc(1, sizeof *link);
    int r;

    if (!link)
        return fail(failure, ENOMEM, "out of memory");
    link->fd = channel->fd;
    r = channel->layer ? tls_new(link, channel, failure) : plain_new(link, channel, failure);
    if (r < 0) {
        relay_link_free(link);
        return r;
    }
    *ret = link;
    return 0;
}

void relay_link_free(struct relay_link *link)
{
    if (!link)
        return;
    tls_bulk_free(link->tls);
    free(link->incoming);
    free(link->outgoing);
    free(link);
}

ssize_t relay_link_read(struct relay_link *link, const uint8_t **data, struct failure *failure)
{
    return link->kind->read(link, data, failure);
}

size_t relay_link_room(struct relay_link *link, struct iovec parts[static RELAY_LINK_PARTS])
{
    return link->kind->room(link, parts);
}

int relay_link_write(struct relay_link *link, size_t size, struct failure *failure)
{
    return link->kind->write(link, size, failure);
}

void relay_link_bye(struct relay_link *link)
{
    link->kind->bye(link);
}

void relay_link_drop_secrets(struct relay_link *link)
{
    if (link->tls)
        tls_bulk_drop_secrets(link->tls);
}
