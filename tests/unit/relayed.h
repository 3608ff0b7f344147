/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A relay under test: its server on one side, and what would be the kernel driver's socket on the other.
 * Failures end the test. main() makes itself a subreaper (relayed_prepare()), so that relays come to it when
 * they have ended.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "relay_peer.h"

struct relayed {
    struct relay_peer peer;
    pid_t pid;
};

void relayed_prepare(void);

void relayed_start(struct relayed *r);

/* The process has ended by itself, and there is no other child. */
void relayed_expect_end(struct relayed *r);

void relayed_let_go(struct relayed *r); /* as the kernel driver does */
void relayed_end(struct relayed *r);    /* both let go; all is freed */

/* At the server's end or the kernel's; as recv(2) and send(2). */
ssize_t relayed_read(struct relayed *r, bool server, void *into, size_t size);
ssize_t relayed_write(struct relayed *r, bool server, const void *from, size_t size);
void relayed_expect_eof(struct relayed *r, bool server);

/* A text arrives. */
void relayed_pass(struct relayed *r, bool to_server, const char *text);

/* Random bytes both ways at once, in pieces of random sizes; size of them each. */
void relayed_exchange(struct relayed *r, size_t size);
