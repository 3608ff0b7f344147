/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"

#define LINE_MAX_SIZE 1200

static int journal_fd = -1, kernel_fd = -1, stderr_too;

static int open_journal(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket"};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -1;
    return steal_fd(&fd);
}

void agent_log_open(int to_stderr)
{
    stderr_too = to_stderr;
    if (to_stderr)
        return;
    cleanup_close(&journal_fd);
    cleanup_close(&kernel_fd);
    journal_fd = open_journal();
    if (journal_fd < 0)
        kernel_fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NONBLOCK);
}

int agent_log_fds(int fds[static 2])
{
    int count = 0;

    if (journal_fd >= 0)
        fds[count++] = journal_fd;
    if (kernel_fd >= 0)
        fds[count++] = kernel_fd;
    return count;
}

/* systemd's native protocol: a field a line. Our messages have no line breaks: they are escaped. */
static int to_journal(enum log_priority priority, uint32_t index, const char *text)
{
    char message[LINE_MAX_SIZE + 256];
    int size = snprintf(message, sizeof message,
                        "MESSAGE=/dev/nbd%u: %s\nPRIORITY=%d\nSYSLOG_IDENTIFIER=nbdctl\n"
                        "NBD_DEVICE=/dev/nbd%u\nNBD_INDEX=%u\n",
                        index, text, (int)priority, index, index);

    return send(journal_fd, message, (size_t)size, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void to_kernel(enum log_priority priority, uint32_t index, const char *text)
{
    char message[LINE_MAX_SIZE + 64];
    /* 24: the facility of daemons */
    int size =
        snprintf(message, sizeof message, "<%d>nbdctl: /dev/nbd%u: %s\n", 24 + (int)priority, index, text);

    if (write(kernel_fd, message, (size_t)size) < 0)
        return; /* nowhere left to say it */
}

/* A reader that does not read (a journal that waits for this very disk) must not stop us. */
static void to_stderr(enum log_priority priority, uint32_t index, const char *text)
{
    struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
    char message[LINE_MAX_SIZE + 64];
    int size = snprintf(message, sizeof message, "<%d>nbdctl: /dev/nbd%u: %s\n", (int)priority, index, text);

    if (poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) &&
        write(STDERR_FILENO, message, (size_t)size) < 0)
        return; /* nowhere left to say it */
}

void agent_log(enum log_priority priority, uint32_t index, const char *format, ...)
{
    char text[LINE_MAX_SIZE];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *c = text; *c; c++)
        if (*c == '\n')
            *c = ' ';
    if (stderr_too) {
        to_stderr(priority, index, text);
        return;
    }
    /* A journal that was restarted listens on a new socket. */
    if (journal_fd >= 0 && to_journal(priority, index, text) < 0) {
        cleanup_close(&journal_fd);
        journal_fd = open_journal();
        if (journal_fd >= 0)
            to_journal(priority, index, text);
    }
    if (kernel_fd >= 0)
        to_kernel(priority, index, text);
}
