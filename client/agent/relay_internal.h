/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the relay share: relay.c starts it, relay_pump.c copies. */
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

/* relay_pump.c: starts the two threads; then waits until the link has ended in either way. */
int relay_pump_start(struct relay *relay, struct failure *failure);
void relay_pump_wait(struct relay *relay);
