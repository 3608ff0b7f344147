/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An attempt to reach the disk again, in a thread of its own: name lookups and handshakes block. One attempt
 * at a time; between start and join the thread alone touches what it works on, and the caller polls done_fd.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "agent/servers.h"

struct redial {
    int done_fd;   /* eventfd: readable when the attempt is over, and join will not wait */
    int cancel_fd; /* eventfd */
    bool running;
    bool looks; /* redial_look() */
    pthread_t thread;

    /* What is asked for. */
    struct servers servers;
    struct disk_identity identity;

    /* What came of it; the caller's after the join. */
    int result;
    struct connections connections;
    struct served served;
    struct failure failure;
};

int redial_init(struct redial *redial, struct failure *failure);
void redial_clear(struct redial *redial); /* cancels what runs; safe on a zeroed struct */

/* servers' endpoints must stay as they are until the join; identity is copied. */
int redial_start(struct redial *redial, const struct servers *servers, const struct disk_identity *identity,
                 struct failure *failure);

/*
 * Only asks the first server what the export is now: then connections has an export, and no connections. The
 * result is -ESTALE when it is another disk.
 */
int redial_look(struct redial *redial, const struct servers *servers, const struct disk_identity *identity,
                struct failure *failure);

/* Waits for the thread, after done_fd or after a cancellation: soon either way. Returns the result. */
int redial_join(struct redial *redial);
void redial_cancel(struct redial *redial);
