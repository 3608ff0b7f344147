/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/ask.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/control_socket.h"
#include "agent/json_fields.h"
#include "agent/state.h"
#include "agent/varlink.h"
#include "agent/varlink_service.h"
#include "cleanup.h"
#include "escape.h"

#define READ_SIZE      16384
#define RETRY_PAUSE_NS UINT64_C(10000000)

/* One conversation: one call, and its replies. */
struct asking {
    uint32_t index;
    int fd; /* owned; -1: none */
    const struct deadline *deadline;
    struct varlink_input input;
    struct failure *failure;
};

static void end(struct asking *asking)
{
    cleanup_close(&asking->fd);
    varlink_input_clear(&asking->input);
}
#define _cleanup_asking_ _cleanup_(end)

static int failed(struct asking *asking, int error, const char *why)
{
    return fail(asking->failure, -error, "the agent of /dev/nbd%u %s", asking->index, why);
}

static int wait_failed(struct asking *asking, int error)
{
    if (error == -ETIMEDOUT)
        return failed(asking, error, "did not answer in time");
    if (error == -ECANCELED)
        return fail(asking->failure, ECANCELED, "interrupted");
    return failed(asking, error, strerror(-error));
}

static int wait_for(struct asking *asking, short events)
{
    int r = deadline_poll(asking->deadline, asking->fd, events);

    return r < 0 ? wait_failed(asking, r) : 0;
}

/* ---- connecting ---- */

/* A queue that is full cannot be waited for in any other way. */
static int pause_before_retry(const struct deadline *deadline)
{
    struct deadline pause = deadline_after(RETRY_PAUSE_NS, deadline->cancel_fd);
    int r;

    if (deadline_remaining_ms(deadline) == 0)
        return -ETIMEDOUT;
    r = deadline_poll(&pause, -1, 0);
    return r == -ETIMEDOUT ? 0 : r;
}

static int connect_fd(int fd, const struct sockaddr_un *address, const struct deadline *deadline)
{
    while (connect(fd, (const struct sockaddr *)address, sizeof *address) < 0) {
        int r = errno == EAGAIN || errno == EINTR ? pause_before_retry(deadline) : -errno;

        if (r < 0)
            return r;
    }
    return 0;
}

static int connect_failed(struct asking *asking, int error)
{
    if (error == -ETIMEDOUT || error == -ECANCELED)
        return wait_failed(asking, error);
    if (error != -ENOENT && error != -ECONNREFUSED)
        return fail(asking->failure, -error, "cannot reach the agent of /dev/nbd%u: %s", asking->index,
                    strerror(-error));
    fail(asking->failure, -error, "/dev/nbd%u has no agent", asking->index);
    return fail_hint(asking->failure, error,
                     "'nbdctl attach' leaves one behind, unless it is told --no-agent");
}

static int start(struct asking *asking, const char *folder)
{
    struct sockaddr_un address;
    int r = control_address(folder, asking->index, &address);

    if (r == 0) {
        asking->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        r = asking->fd < 0 ? -errno : connect_fd(asking->fd, &address, asking->deadline);
    }
    if (r < 0)
        return connect_failed(asking, r);
    if (!control_peer_allowed(asking->fd))
        return failed(asking, -EPERM, "is a process of another user: it is not asked");
    return 0;
}

/* ---- the call ---- */

/* Who refuses us may have answered already, and ended the connection before it read a word. */
static int send_bytes(struct asking *asking, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(asking->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        int r = 0;

        if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
            return 0;
        if (n < 0)
            r = errno == EAGAIN || errno == EINTR ? wait_for(asking, POLLOUT)
                                                  : failed(asking, -errno, strerror(errno));
        if (r < 0)
            return r;
        data += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int send_call(struct asking *asking, const char *method, bool more)
{
    _cleanup_json_ struct json_object *call = NULL;
    char name[VARLINK_NAME_MAX + 1];
    const char *data;
    size_t size;

    snprintf(name, sizeof name, DEVICE_INTERFACE ".%s", method);
    call = varlink_call_new(name, NULL, more);
    data = call ? varlink_message(call, &size) : NULL;
    return data ? send_bytes(asking, data, size) : fail(asking->failure, ENOMEM, "out of memory");
}

/* ---- the answer ---- */

/* 1: something came. 0: the agent has ended the connection. Waits first, also for one that never pauses: that
 * is where Ctrl-C is seen. */
static int receive(struct asking *asking)
{
    char data[READ_SIZE];
    ssize_t n;

    do {
        int r = wait_for(asking, POLLIN);

        if (r < 0)
            return r;
        n = recv(asking->fd, data, sizeof data, MSG_DONTWAIT);
    } while (n < 0 && (errno == EAGAIN || errno == EINTR));
    if (n < 0 && errno == ECONNRESET)
        return 0;
    if (n < 0)
        return failed(asking, -errno, strerror(errno));
    if (n > 0 && varlink_input_add(&asking->input, data, (size_t)n) < 0)
        return fail(asking->failure, ENOMEM, "out of memory");
    return n > 0;
}

/* 1: a message. 0: the agent has ended the connection. */
static int next_message(struct asking *asking, const char **message, size_t *size)
{
    for (;;) {
        int r = varlink_input_next(&asking->input, message, size);

        if (r < 0)
            return failed(asking, -EPROTO, "sent more than an answer may have");
        if (r > 0)
            return 1;
        /* Who drips, or never stops, is held to the deadline here. */
        if (deadline_remaining_ms(asking->deadline) == 0)
            return wait_failed(asking, -ETIMEDOUT);
        r = receive(asking);
        if (r == 0 && varlink_input_partial(&asking->input))
            return failed(asking, -EPROTO, "ended in the middle of an answer");
        if (r <= 0)
            return r;
    }
}

static int answered_with_error(struct asking *asking, const struct varlink_reply *reply)
{
    if (strcmp(reply->error, DEVICE_BUSY_ERROR) == 0)
        return failed(asking, -EBUSY, "has as many clients as it may have");
    /* A name of letters, digits and dots: it needs no escaping. */
    return fail(asking->failure, EREMOTEIO, "the agent of /dev/nbd%u answers %s", asking->index,
                reply->error);
}

/* 1: *reply is a good one, to be cleared. 0: the agent has ended the connection. */
static int next_reply(struct asking *asking, struct varlink_reply *reply)
{
    const char *message;
    size_t size;
    int r = next_message(asking, &message, &size);

    *reply = (struct varlink_reply){0};
    if (r <= 0)
        return r;
    if (varlink_reply_parse(message, size, reply) < 0)
        return failed(asking, -EPROTO, "sent what is no answer");
    if (!reply->error)
        return 1;
    r = answered_with_error(asking, reply);
    varlink_reply_clear(reply);
    return r;
}

int agent_ask_in(const char *folder, uint32_t index, const char *method, const struct deadline *deadline,
                 struct json_object **reply, struct failure *failure)
{
    _cleanup_asking_ struct asking asking = {
        .index = index, .fd = -1, .deadline = deadline, .failure = failure};
    struct varlink_reply answer;
    int r = start(&asking, folder);

    if (r == 0)
        r = send_call(&asking, method, false);
    if (r < 0)
        return r;
    r = next_reply(&asking, &answer);
    if (r == 0)
        return failed(&asking, -ECONNRESET, "ended without an answer");
    if (r < 0)
        return r;
    *reply = steal_ptr(&answer.parameters);
    varlink_reply_clear(&answer);
    return 0;
}

int agent_ask(uint32_t index, const char *method, const struct deadline *deadline, struct json_object **reply,
              struct failure *failure)
{
    return agent_ask_in(STATE_FOLDER, index, method, deadline, reply, failure);
}

/* Without "continues" it was the last one: 0, as if the agent had ended the connection. */
static int visit_next(struct asking *asking, int (*visit)(void *opaque, struct json_object *event),
                      void *opaque, bool *more)
{
    struct varlink_reply reply;
    struct json_object *event;
    int r = next_reply(asking, &reply);

    *more = r > 0 && reply.continues;
    if (r <= 0)
        return r;
    event = json_field(reply.parameters, "event", json_type_object);
    r = event ? visit(opaque, event) : failed(asking, -EPROTO, "sent what is no event");
    varlink_reply_clear(&reply);
    return r;
}

int agent_watch_in(const char *folder, uint32_t index, const struct deadline *deadline,
                   int (*visit)(void *opaque, struct json_object *event), void *opaque,
                   struct failure *failure)
{
    _cleanup_asking_ struct asking asking = {
        .index = index, .fd = -1, .deadline = deadline, .failure = failure};
    bool more = true;
    int r = start(&asking, folder);

    if (r == 0)
        r = send_call(&asking, "Watch", true);
    while (r == 0 && more)
        r = visit_next(&asking, visit, opaque, &more);
    return r;
}

int agent_watch(uint32_t index, const struct deadline *deadline,
                int (*visit)(void *opaque, struct json_object *event), void *opaque, struct failure *failure)
{
    return agent_watch_in(STATE_FOLDER, index, deadline, visit, opaque, failure);
}
