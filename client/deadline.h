/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long the caller is willing to wait, and what may end the wait early. One deadline is shared by every
 * step of an operation (name lookup, every address, every option), so that a server that drips a byte at a
 * time cannot stretch it.
 */
#pragma once

#include <stdint.h>

#define DEADLINE_NEVER UINT64_MAX

struct deadline {
    uint64_t at_ns; /* CLOCK_MONOTONIC, nanoseconds; DEADLINE_NEVER for no limit */
    int cancel_fd;  /* readable when the wait must end (a signal arrived); -1 for none; not owned */
};

uint64_t monotonic_ns(void);

/* A deadline that lies timeout_ns from now; UINT64_MAX means never. */
struct deadline deadline_after(uint64_t timeout_ns, int cancel_fd);

/* Milliseconds left for poll(2), rounded up; 0 when it has passed, -1 for never. */
int deadline_remaining_ms(const struct deadline *deadline);

/*
 * Waits until fd has one of the events (poll(2) bits), or, with fd -1, until the deadline.
 * Also reports what is ready when the deadline has passed: whoever reads in a loop checks
 * deadline_remaining_ms() itself. Returns the revents (> 0), -ETIMEDOUT, -ECANCELED (cancel_fd), or another
 * -errno.
 */
int deadline_poll(const struct deadline *deadline, int fd, short events);
