/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deadline.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <time.h>

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

uint64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

struct deadline deadline_after(uint64_t timeout_ns, int cancel_fd)
{
    uint64_t now = monotonic_ns();

    return (struct deadline){
        .at_ns = timeout_ns >= DEADLINE_NEVER - now ? DEADLINE_NEVER : now + timeout_ns,
        .cancel_fd = cancel_fd,
    };
}

int deadline_remaining_ms(const struct deadline *deadline)
{
    uint64_t now, left_ms;

    if (deadline->at_ns == DEADLINE_NEVER)
        return -1;
    now = monotonic_ns();
    if (now >= deadline->at_ns)
        return 0;
    left_ms = (deadline->at_ns - now + NS_PER_MS - 1) / NS_PER_MS;
    return left_ms > INT_MAX ? INT_MAX : (int)left_ms;
}

int deadline_poll(const struct deadline *deadline, int fd, short events)
{
    struct pollfd fds[2] = {
        {.fd = fd, .events = events},
        {.fd = deadline->cancel_fd, .events = POLLIN},
    };

    for (;;) {
        int n = poll(fds, 2, deadline_remaining_ms(deadline));

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && fds[1].revents)
            return -ECANCELED;
        if (n > 0 && fds[0].revents)
            return fds[0].revents;
        if (n == 0 && deadline_remaining_ms(deadline) == 0)
            return -ETIMEDOUT;
    }
}
