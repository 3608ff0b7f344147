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
#include "protocol/uri.h"

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
int session_open(struct session **ret, const struct target *target, const struct deadline *deadline,
                 struct failure *failure);

/* As session_open() on a socket that is connected already; takes the fd, also on failure. */
int session_open_fd(struct session **ret, int fd, const struct target *target, const struct deadline *deadline,
                    struct failure *failure);

/*
 * Takes leave as the phase demands (ABORT, or NBD_CMD_DISC; both without waiting for long) and frees. After a breach
 * of the protocol the connection is just closed. NULL is fine.
 */
void session_close(struct session *session);
void session_closep(struct session **session);

void session_set_deadline(struct session *session, const struct deadline *deadline);
enum session_replies session_replies(const struct session *session);
bool session_is_fixed(const struct session *session); /* fixed newstyle */
bool session_is_open(const struct session *session);  /* an export is open: the option phase is over */
struct channel *session_channel(struct session *session);
const struct deadline *session_deadline(const struct session *session);

/*
 * The options. An error reply of the server is -errno (session_reply_errno) with its name and message in the
 * failure, and the session goes on; it is over after -EPROTO, -ECONNRESET, -ETIMEDOUT and -ECANCELED.
 */

/* Agrees on the most the server has: extended headers, else structured replies, else simple ones. */
int session_agree_replies(struct session *session, struct failure *failure);

/* Called for each item; a non-zero return is remembered, and is what the option returns in the end. */
typedef int session_visitor(void *opaque, const struct negotiation_event *event);

int session_list(struct session *session, session_visitor *visit, void *opaque, struct failure *failure);

/* Describes an export without opening it. *export: cleared by the caller (export_clear). -EOPNOTSUPP: old server. */
int session_info(struct session *session, const char *name, struct export *export, struct failure *failure);

int session_list_contexts(struct session *session, const char *name, const char *const *queries, size_t count,
                          session_visitor *visit, void *opaque, struct failure *failure);

int session_select_contexts(struct session *session, const char *name, const char *const *queries,
                            size_t count, session_visitor *visit, void *opaque, struct failure *failure);

/* Opens the export: GO, or EXPORT_NAME where the server has no GO. */
int session_go(struct session *session, const char *name, struct failure *failure);

/* The export that is open; valid after session_go(). */
const struct export *session_export(const struct session *session);

/*
 * The socket, for the kernel: the caller owns it, the session is spent. Only after session_go() with simple replies, and
 * only when the server has not sent a byte too many. Returns the fd or -errno.
 */
int session_steal_fd(struct session *session, struct failure *failure);
