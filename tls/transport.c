/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The socket as GnuTLS sees it. Our own functions, for three reasons: to know whether a record has arrived
 * only in part when the kernel is to take over (GnuTLS keeps its beginning and does not tell), to know the
 * errno, and because GnuTLS does not install its own kTLS under them.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "tls_internal.h"

/* RFC 8446, 5.1: type, version, length; the same for every version. */
static void take_header(struct tls_framing *framing)
{
    framing->left = (size_t)framing->header[3] << 8 | framing->header[4];
    framing->is_garbage = framing->header[0] < 20 || framing->header[0] > 24 || framing->header[1] != 3;
    framing->header_size = 0;
}

static void framing_advance(struct tls_framing *framing, const uint8_t *data, size_t size)
{
    while (size > 0) {
        size_t n = framing->left;

        if (n == 0) {
            n = sizeof framing->header - framing->header_size;
            n = n < size ? n : size;
            memcpy(framing->header + framing->header_size, data, n);
            framing->header_size += n;
            if (framing->header_size == sizeof framing->header) {
                take_header(framing);
            }
        } else {
            n = n < size ? n : size;
            framing->left -= n;
        }
        data += n;
        size -= n;
    }
}

bool tls_transport_between_records(const struct tls_session *session)
{
    return session->framing.header_size == 0 && session->framing.left == 0;
}

static ssize_t refuse(struct tls_session *session, int error)
{
    if (error != EAGAIN && error != EINTR)
        session->io_error = error;
    gnutls.transport_set_errno(session->gnutls, error);
    return -1;
}

static ssize_t pull(gnutls_transport_ptr_t transport, void *into, size_t size)
{
    struct tls_session *session = transport;
    ssize_t n = recv(session->fd, into, size, MSG_DONTWAIT);

    session->starved = n < 0 && errno == EAGAIN;
    if (n < 0)
        return refuse(session, errno);
    if (n == 0 && size > 0)
        session->ended = true;
    framing_advance(&session->framing, into, (size_t)n);
    return n;
}

/* GnuTLS asks before it waits; we never let it wait. */
static int pull_timeout(gnutls_transport_ptr_t transport, unsigned ms)
{
    const struct tls_session *session = transport;
    struct pollfd waiting = {.fd = session->fd, .events = POLLIN};

    (void)ms;
    return poll(&waiting, 1, 0);
}

static ssize_t push(gnutls_transport_ptr_t transport, const giovec_t *vector, int count)
{
    struct tls_session *session = transport;
    struct msghdr message = {0};
    struct iovec parts[8];
    ssize_t n;
    int i;

    for (i = 0; i < count && i < 8; i++)
        parts[i] = (struct iovec){.iov_base = vector[i].iov_base, .iov_len = vector[i].iov_len};
    message.msg_iov = parts;
    message.msg_iovlen = (size_t)i;
    n = sendmsg(session->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? refuse(session, errno) : n;
}

void tls_transport_attach(struct tls_session *session)
{
    gnutls.transport_set_ptr(session->gnutls, session);
    gnutls.transport_set_pull_function(session->gnutls, pull);
    gnutls.transport_set_pull_timeout_function(session->gnutls, pull_timeout);
    gnutls.transport_set_vec_push_function(session->gnutls, push);
}

short tls_wanted_events(const struct tls_session *session)
{
    return gnutls.record_get_direction(session->gnutls) ? POLLOUT : POLLIN;
}
