/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "escape.h"
#include "protocol/connect.h"
#include "protocol/secure.h"
#include "protocol/transmit.h"

/* Leaving politely may cost this long when the server does not read; the socket is closed all the same. */
#define FAREWELL_NS UINT64_C(500000000)

/* Bytes of an escaped name or message in a failure: together with the words around them they fit
 * (fail_within). */
#define NAME_ROOM    150
#define MESSAGE_ROOM 400

struct session {
    struct channel channel;
    struct negotiation *negotiation; /* owned */
    struct secure *secure;           /* owned; NULL: plain */
    struct deadline deadline;
    enum session_replies replies;
    bool in_kernel; /* the TLS session is the kernel's */
    bool over;      /* the connection broke or timed out: nothing more is asked on it */
    bool abandoned; /* over, but it may still be told so */
};

static int over(struct session *session, int error)
{
    session->over = true;
    return error;
}

int session_break(struct session *session, int error)
{
    return over(session, error);
}

int session_abandon(struct session *session, int error)
{
    session->abandoned = true;
    return over(session, error);
}

static int flush_output(struct session *session, struct failure *failure)
{
    const uint8_t *from;
    size_t size = negotiation_output(session->negotiation, &from);
    int r = channel_write(&session->channel, from, size, &session->deadline, failure);

    if (r == 0)
        negotiation_sent(session->negotiation, size);
    return r;
}

/* Feeds the machine until it has something to say. */
static int next_event(struct session *session, struct negotiation_event *event, struct failure *failure)
{
    do {
        uint8_t *into;
        size_t size = negotiation_wanted(session->negotiation, &into);
        int r = channel_read(&session->channel, into, size, &session->deadline, failure);

        if (r == 0)
            r = negotiation_received(session->negotiation, size, event, failure);
        if (r < 0)
            return over(session, r);
    } while (event->type == NEGOTIATION_EVENT_NONE);
    return 0;
}

static int reply_errno(uint32_t error)
{
    switch (error) {
    case NBD_REP_ERR_UNSUP:
        return EOPNOTSUPP;
    case NBD_REP_ERR_PLATFORM:
        return EREMOTEIO; /* not EOPNOTSUPP: the option itself is known, so no fallback */
    case NBD_REP_ERR_POLICY:
        return EACCES;
    case NBD_REP_ERR_TLS_REQD:
        return ENOKEY;
    case NBD_REP_ERR_UNKNOWN:
        return ENOENT;
    case NBD_REP_ERR_SHUTDOWN:
        return ESHUTDOWN;
    case NBD_REP_ERR_TOO_BIG:
        return EMSGSIZE;
    default:
        return EINVAL;
    }
}

static const char *reply_meaning(uint32_t error)
{
    switch (error) {
    case NBD_REP_ERR_UNSUP:
        return "the server does not support it";
    case NBD_REP_ERR_POLICY:
        return "the server's policy forbids it";
    case NBD_REP_ERR_INVALID:
        return "the server finds the request invalid";
    case NBD_REP_ERR_PLATFORM:
        return "the server's platform does not support it";
    case NBD_REP_ERR_TLS_REQD:
        return "the server demands TLS";
    case NBD_REP_ERR_UNKNOWN:
        return "the server has no such export";
    case NBD_REP_ERR_SHUTDOWN:
        return "the server is shutting down";
    case NBD_REP_ERR_BLOCK_SIZE_REQD:
        return "the server demands that block sizes are negotiated";
    case NBD_REP_ERR_TOO_BIG:
        return "the request is too big for the server";
    case NBD_REP_ERR_EXT_HEADER_REQD:
        return "the server demands extended headers";
    default:
        return "the server refuses";
    }
}

/* Escaped and cut so that it fits a failure, in which it would else be cut anywhere, and what follows it
 * lost. */
static char *escape_within(const char *text, size_t room)
{
    size_t limit = room - strlen("...");
    char *escaped = escape_text(text, strlen(text), limit);

    while (escaped && strlen(escaped) > room) {
        free(escaped);
        limit /= 2;
        escaped = escape_text(text, strlen(text), limit);
    }
    return escaped;
}

/* The error reply as a failure: what it means, the server's own words, its name in the specification. */
static int refused(struct session *session, const struct negotiation_event *event, struct failure *failure)
{
    _cleanup_free_ char *message = escape_within(event->message, MESSAGE_ROOM);
    const char *name = negotiation_error_name(event->error);
    int r;

    if (!message)
        return over(session, fail(failure, ENOMEM, "out of memory"));
    r = fail(failure, reply_errno(event->error), "%s%s%s%s (%s to %s)", reply_meaning(event->error),
             *message ? ": \"" : "", message, *message ? "\"" : "", name ? name : "an unknown error",
             negotiation_option_name(event->option));
    if (event->error == NBD_REP_ERR_TLS_REQD)
        fail_hint(failure, r, "use nbds:// with the server's credentials");
    return r;
}

/* Writes the option that was started, and hands each item to visit until it has ended. */
static int run_option(struct session *session, int started, session_visitor *visit, void *opaque,
                      struct failure *failure)
{
    struct negotiation_event event;
    int r, result = 0;

    if (session->over)
        return fail(failure, EPIPE, "the connection to the server is over");
    if (started == -EOPNOTSUPP)
        return fail(failure, EOPNOTSUPP,
                    "the server is too old: it knows no options but NBD_OPT_EXPORT_NAME");
    if (started < 0)
        return fail(failure, -started, "cannot ask the server: %s", strerror(-started));
    r = flush_output(session, failure);
    if (r < 0)
        return over(session, r);
    for (;;) {
        r = next_event(session, &event, failure);
        if (r < 0)
            return r;
        if (event.type == NEGOTIATION_EVENT_REPLIED)
            break;
        if (visit && result == 0)
            result = visit(opaque, &event);
    }
    if (event.error)
        return refused(session, &event, failure);
    return result < 0 ? fail(failure, -result, "cannot keep the server's answer: %s", strerror(-result)) : 0;
}

static int greet(struct session *session, struct failure *failure)
{
    struct negotiation_event event;

    return next_event(session, &event, failure);
}

/* A refusal is final: what was asked for with TLS never goes on without it ("FORCEDTLS", downgrade attacks).
 */
static int ask_for_tls(struct session *session, struct failure *failure)
{
    int r = run_option(session, negotiation_start_tls(session->negotiation), NULL, NULL, failure);

    if (r == 0 || session->over)
        return r;
    return fail_hint(failure, fail_within(failure, r, "the server refuses TLS, which nbds:// demands"),
                     "set up TLS on the server (qemu-nbd: --tls-creds, nbdkit: --tls)");
}

/*
 * Whatever came before the handshake is not from whom we think it is ("TLS support"): one byte that waits
 * already was injected, and all that was negotiated is forgotten.
 */
static int start_tls(struct session *session, const struct endpoint *endpoint, struct failure *failure)
{
    int r = ask_for_tls(session, failure);

    if (r < 0)
        return r;
    r = channel_check_silent(&session->channel, failure);
    if (r == -EPROTO)
        return over(session,
                    fail(failure, EPROTO, "bytes arrived before the TLS handshake: somebody injects them"));
    if (r == 0)
        r = secure_start(&session->secure, endpoint, &session->channel, &session->deadline, failure);
    if (r < 0)
        return over(session, r);
    negotiation_secured(session->negotiation);
    return 0;
}

int session_open_fd(struct session **ret, int fd, const struct endpoint *endpoint,
                    const struct deadline *deadline, struct failure *failure)
{
    struct session *session = calloc(1, sizeof *session);
    int r;

    if (session)
        session->negotiation = negotiation_new();
    if (!session || !session->negotiation) {
        close(fd);
        free(session);
        return fail(failure, ENOMEM, "out of memory");
    }
    session->channel.fd = fd;
    session->deadline = *deadline;
    r = greet(session, failure);
    if (r == 0 && endpoint->target.tls == TARGET_TLS_REQUIRE)
        r = start_tls(session, endpoint, failure);
    if (r < 0) {
        session_close(session);
        return r;
    }
    *ret = session;
    return 0;
}

int session_open(struct session **ret, const struct endpoint *endpoint, const struct deadline *deadline,
                 struct failure *failure)
{
    int fd = target_connect(&endpoint->target, &endpoint->policy, deadline, failure);

    if (fd < 0)
        return fd;
    return session_open_fd(ret, fd, endpoint, deadline, failure);
}

/* A farewell must not hang on a server that does not read, nor be skipped because the user's deadline is
 * over. */
static void farewell(struct session *session)
{
    struct deadline deadline = deadline_after(FAREWELL_NS, -1);
    struct failure ignored;

    if (session->channel.fd < 0 || (session->over && !session->abandoned))
        return;
    session->deadline = deadline;
    if (session_is_open(session)) {
        transmit_disconnect(session, &ignored);
        return;
    }
    negotiation_abort(session->negotiation);
    flush_output(session, &ignored);
}

void session_close(struct session *session)
{
    if (!session)
        return;
    farewell(session);
    secure_end(session->secure, !session->over);
    cleanup_close(&session->channel.fd);
    negotiation_free(session->negotiation);
    free(session);
}

void session_forget(struct session *session)
{
    session->over = true;
    session->abandoned = false;
    session_close(session);
}

void session_closep(struct session **session)
{
    session_close(*session);
}

void session_set_deadline(struct session *session, const struct deadline *deadline)
{
    session->deadline = *deadline;
}

enum session_replies session_replies(const struct session *session)
{
    return session->replies;
}

bool session_is_fixed(const struct session *session)
{
    return negotiation_is_fixed(session->negotiation);
}

bool session_is_open(const struct session *session)
{
    return negotiation_state(session->negotiation) == NEGOTIATION_TRANSMISSION;
}

bool session_is_over(const struct session *session)
{
    return session->over;
}

struct channel *session_channel(struct session *session)
{
    return &session->channel;
}

const struct deadline *session_deadline(const struct session *session)
{
    return &session->deadline;
}

const struct export *session_export(const struct session *session)
{
    return negotiation_export(session->negotiation);
}

/* An old server, or one that will not: we go on with less, except when it demands TLS or is going away. */
static bool goes_on_without(const struct session *session, int error)
{
    return !session->over && error != -ENOKEY && error != -ESHUTDOWN && error != -ENOMEM;
}

int session_agree_replies(struct session *session, struct failure *failure)
{
    struct negotiation *n = session->negotiation;
    int r;

    if (!negotiation_is_fixed(n))
        return 0;
    r = run_option(session, negotiation_extended_headers(n), NULL, NULL, failure);
    if (r == 0) {
        session->replies = SESSION_EXTENDED;
        return 0;
    }
    if (!goes_on_without(session, r))
        return r;
    r = run_option(session, negotiation_structured_reply(n), NULL, NULL, failure);
    if (r == 0)
        session->replies = SESSION_STRUCTURED;
    return goes_on_without(session, r) ? 0 : r;
}

int session_list(struct session *session, session_visitor *visit, void *opaque, struct failure *failure)
{
    return run_option(session, negotiation_list(session->negotiation), visit, opaque, failure);
}

static int within_export(const char *name, int error, struct failure *failure)
{
    _cleanup_free_ char *shown = NULL;

    if (error == 0)
        return 0;
    shown = escape_within(name, NAME_ROOM);
    if (*name == '\0')
        return fail_within(failure, error, "the default export");
    return fail_within(failure, error, "export \"%s\"", shown ? shown : "?");
}

int session_info(struct session *session, const char *name, struct export *export, struct failure *failure)
{
    int r = run_option(session, negotiation_info(session->negotiation, name), NULL, NULL, failure);

    if (r < 0)
        return within_export(name, r, failure);
    r = export_copy(export, negotiation_export(session->negotiation));
    return r < 0 ? fail(failure, ENOMEM, "out of memory") : 0;
}

int session_list_contexts(struct session *session, const char *name, const char *const *queries, size_t count,
                          session_visitor *visit, void *opaque, struct failure *failure)
{
    int started = negotiation_list_meta_context(session->negotiation, name, queries, count);

    return within_export(name, run_option(session, started, visit, opaque, failure), failure);
}

int session_select_contexts(struct session *session, const char *name, const char *const *queries,
                            size_t count, session_visitor *visit, void *opaque, struct failure *failure)
{
    int started = negotiation_set_meta_context(session->negotiation, name, queries, count);

    return within_export(name, run_option(session, started, visit, opaque, failure), failure);
}

static int go_by_export_name(struct session *session, const char *name, struct failure *failure)
{
    int r = run_option(session, negotiation_export_name(session->negotiation, name), NULL, NULL, failure);

    /* The only way such a server has to refuse. */
    if (r == -ECONNRESET)
        return fail(failure, ENOENT, "the server closed the connection: it may not have this export");
    return r;
}

int session_go(struct session *session, const char *name, struct failure *failure)
{
    int r = -EOPNOTSUPP;

    if (negotiation_is_fixed(session->negotiation))
        r = run_option(session, negotiation_go(session->negotiation, name), NULL, NULL, failure);
    if (r == -EOPNOTSUPP && !session->over)
        r = go_by_export_name(session, name, failure);
    return within_export(name, r, failure);
}

bool session_info_tls(const struct session *session, struct secure_info *info)
{
    *info = (struct secure_info){0};
    if (session->secure)
        secure_describe(session->secure, info);
    return session->secure != NULL;
}

static int check_for_kernel(struct session *session, struct failure *failure)
{
    if (!session_is_open(session) || session->over || session->replies != SESSION_SIMPLE)
        return fail(failure, EINVAL, "the connection is not in the state the kernel needs");
    return 0;
}

int session_to_kernel(struct session *session, struct failure *failure)
{
    bool spoilt;
    int r = check_for_kernel(session, failure);

    if (r < 0 || !session->secure)
        return r;
    r = secure_to_kernel(session->secure, &session->channel, &spoilt, failure);
    if (r < 0)
        return spoilt ? over(session, r) : r;
    secure_end(session->secure, false);
    session->secure = NULL;
    session->in_kernel = true;
    return 0;
}

int session_steal_fd(struct session *session, struct failure *failure)
{
    int r = check_for_kernel(session, failure);

    if (r == 0 && session->secure)
        r = fail(failure, EINVAL, "the connection is encrypted in this process");
    /* With the keys in the kernel a peek would take a record apart; silence was checked before they moved
     * there. */
    if (r == 0 && !session->in_kernel)
        r = channel_check_silent(&session->channel, failure);
    if (r < 0)
        return over(session, r);
    return steal_fd(&session->channel.fd);
}
