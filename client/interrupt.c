/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int event_fd = -1;
static volatile sig_atomic_t signal_number;

static const int caught[] = {SIGINT, SIGTERM, SIGHUP};

static void on_signal(int number)
{
    int saved = errno;
    uint64_t one = 1;

    signal_number = number;
    if (write(event_fd, &one, sizeof one) < 0) {
        /* the counter is full: it is readable already, which is all that matters */
    }
    errno = saved;
}

int interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction old;

    if (event_fd >= 0)
        return event_fd;
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd < 0)
        return -errno;
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        /* What nohup(1) or a shell in the background ignores stays ignored. */
        if (sigaction(caught[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(caught[i], &action, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    return event_fd;
}

int interrupt_pending(void)
{
    return signal_number;
}

void interrupt_reraise(void)
{
    struct sigaction standard = {.sa_handler = SIG_DFL};

    if (!signal_number)
        return;
    sigaction(signal_number, &standard, NULL);
    raise(signal_number);
}
