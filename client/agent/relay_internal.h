/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the relay share: relay.c starts it, relay_process.c makes it fit for the block path,
 * relay_pump.c copies. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "agent/relay_link.h"
#include "failure.h"

struct relay {
    int kernel_fd; /* our end of the socket pair whose other end the kernel driver has */
    int server_fd;
    struct relay_link *link;
    int log_fd; /* /dev/kmsg; -1: none */

    int done_fd;          /* an eventfd: the server's direction has ended */
    atomic_bool farewell; /* the kernel has said NBD_CMD_DISC: the server will end, and should */
    pthread_mutex_t lock;
    struct failure failure; /* what ended the link, when it was not the kernel; under the lock */
};

/* For the threads of a relay: all of it is in memory at once. */
#define RELAY_STACK_SIZE 262144

/*
 * relay_process.c: turns a forked child into a process of its own that may stand in the block path: no
 * terminal, no files, locked memory. kept_fd is left open beside the relay's own descriptors.
 */
int relay_detach(struct relay *relay, int kept_fd);
void relay_harden(struct failure *weakness); /* before the threads, which inherit it */
/* After them: a limit that is too low for what is still to come would kill us at the next page of stack. */
void relay_lock_memory(struct failure *weakness);

/* Brings the calling thread's stack and share of the heap into memory. */
void relay_prefault(void);

/* relay_pump.c: starts the two threads; then waits until the link has ended in either way. */
int relay_pump_start(struct relay *relay, struct failure *failure);
void relay_pump_wait(struct relay *relay);
