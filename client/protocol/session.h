/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One connection to a server: owns the fd and the deadline, and drives the negotiation machine. Blocking, for
 * one thread at a time; several sessions may run in several threads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "deadline.h"
#include "failure.h"
#include "protocol/channel.h"
#include "protocol/export.h"
#include "protocol/negotiate.h"
#include "protocol/secure.h"

/* How replies of the transmission phase look ("Transmission"); each includes the ones before it. */
enum session_replies {
    SESSION_SIMPLE,     /* what the kernel driver understands */
    SESSION_STRUCTURED, /* NBD_OPT_STRUCTURED_REPLY */
    SESSION_EXTENDED,   /* NBD_OPT_EXTENDED_HEADERS */
};

struct session;

/*
 * Connects, greets, and secures the connection where the target demands it. The deadline holds for everything
 * up to session_set_deadline(). *ret is owned by the caller. -errno with the reason.
 */
int session_open(struct session **ret, const struct endpoint *endpoint, const struct deadline *deadline,
                 struct failure *failure);

/* As session_open() on a socket that is connected already; takes the fd, also on failure. */
int session_open_fd(struct session **ret, int fd, const struct endpoint *endpoint,
                    const struct deadline *deadline, struct failure *failure);

/*
 * Takes leave as the phase demands (ABORT, or NBD_CMD_DISC; both without waiting for long) and frees. After a
 * breach of the protocol the connection is just closed. NULL is fine.
 */
void session_close(struct session *session);
void session_closep(struct session **session);

void session_set_deadline(struct session *session, const struct deadline *deadline);
enum session_replies session_replies(const struct session *session);
bool session_is_fixed(const struct session *session); /* fixed newstyle */
bool session_is_open(const struct session *session);  /* an export is open: the option phase is over */
bool session_is_over(const struct session *session); /* it broke or was given up: nothing more can be asked */

/*
 * For requests of the transmission phase that went wrong; both return error. Broken: nothing more is said.
 * Abandoned: the request was sent whole but nobody waits for the reply any more, so NBD_CMD_DISC is all that
 * may follow.
 */
int session_break(struct session *session, int error);
int session_abandon(struct session *session, int error);

struct channel *session_channel(struct session *session);
const struct deadline *session_deadline(const struct session *session);

/*
 * The options. An error reply of the server is -errno (session_reply_errno) with its name and message in the
 * failure, and the session goes on; it is over (session_is_over) after -EPROTO, -ECONNRESET, -ETIMEDOUT and
 * -ECANCELED.
 */

/* Agrees on the most the server has: extended headers, else structured replies, else simple ones. */
int session_agree_replies(struct session *session, struct failure *failure);

/* Called for each item; a non-zero return is remembered, and is what the option returns in the end. */
typedef int session_visitor(void *opaque, const struct negotiation_event *event);

int session_list(struct session *session, session_visitor *visit, void *opaque, struct failure *failure);

/* Describes an export without opening it. *export: cleared by the caller (export_clear). -EOPNOTSUPP: old
 * server. */
int session_info(struct session *session, const char *name, struct export *export, struct failure *failure);

int session_list_contexts(struct session *session, const char *name, const char *const *queries, size_t count,
                          session_visitor *visit, void *opaque, struct failure *failure);

int session_select_contexts(struct session *session, const char *name, const char *const *queries,
                            size_t count, session_visitor *visit, void *opaque, struct failure *failure);

/* Opens the export: GO, or EXPORT_NAME where the server has no GO. */
int session_go(struct session *session, const char *name, struct failure *failure);

/* The export that is open; valid after session_go(). */
const struct export *session_export(const struct session *session);

/* Whether TLS is on in this process, and what was negotiated. */
bool session_info_tls(const struct session *session, struct secure_info *info);

/*
 * Moves TLS into the kernel, after session_go() with simple replies; nothing to do for a plain session.
 * -EOPNOTSUPP...: it cannot be had; the session goes on as it was unless session_is_over().
 */
int session_to_kernel(struct session *session, struct failure *failure);

/* Frees without a word to the server: another process goes on with the session. */
void session_forget(struct session *session);

/*
 * The socket, for the kernel: the caller owns it, the session is spent. Only after session_go() with simple
 * replies, after session_to_kernel() with TLS, and only when the server has not sent a byte too many. Returns
 * the fd or -errno.
 */
int session_steal_fd(struct session *session, struct failure *failure);
