/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fd -> secured fd: a target with its credentials, and the TLS layer of one connection. In a build without
 * TLS every target that demands it is refused here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "deadline.h"
#include "failure.h"
#include "protocol/channel.h"
#include "protocol/connect.h"
#include "protocol/uri.h"

struct tls_credentials;

/* Where a disk is, and what proves who we are: loaded once, so that a reconnect touches no file. */
struct endpoint {
    struct target target;
    struct connect_policy policy;
    struct tls_credentials *credentials; /* owned; NULL when the target never encrypts */
};

void endpoint_clear(struct endpoint *endpoint); /* wipes; safe on a zeroed struct */

/* Loads the credentials that the target names. endpoint->target is set by the caller. */
int endpoint_load(struct endpoint *endpoint, struct failure *failure);

#define SECURE_TEXT_MAX 64

/* What was negotiated; empty strings without TLS. */
struct secure_info {
    char version[SECURE_TEXT_MAX];      /* "TLS 1.3" */
    char cipher[SECURE_TEXT_MAX];       /* "CHACHA20-POLY1305" */
    char key_exchange[SECURE_TEXT_MAX]; /* "ECDHE-PSK X25519" */
};

/* TLS on one connection. */
struct secure;

/*
 * The handshake on channel->fd, after STARTTLS was acknowledged; on success the channel's bytes go through
 * it. The fd stays the channel's. -ECONNRESET, -EKEYREJECTED, ..., each with the reason; -ETIMEDOUT,
 * -ECANCELED.
 */
int secure_start(struct secure **ret, const struct endpoint *endpoint, struct channel *channel,
                 const struct deadline *deadline, struct failure *failure);

void secure_describe(const struct secure *secure, struct secure_info *info);

/*
 * Moves the session's keys into the kernel; the channel is plain again, for us, and the secure is spent.
 * -EOPNOTSUPP with the reason when this kernel, cipher or socket cannot; *spoilt tells whether the connection
 * can still be used as it was.
 */
int secure_to_kernel(struct secure *secure, struct channel *channel, bool *spoilt, struct failure *failure);

/* bye: with close_notify. Wipes and frees; NULL is fine. */
void secure_end(struct secure *secure, bool bye);

/* Kernel modules that the handover needs; ended by NULL; empty without TLS. */
extern const char *const *const secure_kernel_modules;
