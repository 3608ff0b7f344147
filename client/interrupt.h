/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

/*
 * From here on SIGINT, SIGTERM and SIGHUP do not kill but make the returned descriptor readable for good:
 * every wait ends, and the command takes back what it did. SIGPIPE is ignored. Returns the fd (owned here,
 * never closed) or -errno.
 */
int interrupt_catch(void);

/* Whether a signal has come; its number, or 0. */
int interrupt_pending(void);

/* Dies by the signal that came, so that a shell sees what happened; returns when none did. */
void interrupt_reraise(void);
