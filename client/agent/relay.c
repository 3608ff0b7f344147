/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/process.h"
#include "agent/relay_internal.h"
#include "cleanup.h"

/* Between us and the driver: a few requests of the usual size, so that each side works while the other does.
 */
#define BUFFER_SIZE 1048576

/* What the new process has to say for itself, in one write. */
struct report {
    pid_t pid;
    int result;
    struct failure weakness, failure;
};

static void enlarge(int fd)
{
    const int size = BUFFER_SIZE;

    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size); /* smaller is only slower */
}

static int set_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}

static int prepare(struct relay *relay, int report_fd, struct failure *weakness, struct failure *failure)
{
    const int kept[] = {relay->kernel_fd, relay->server_fd, report_fd};
    int r = process_detach(RELAY_NAME, kept, sizeof kept / sizeof kept[0]);

    relay_link_drop_secrets(relay->link);
    if (r == 0)
        r = set_blocking(relay->server_fd);
    if (r < 0)
        return fail(failure, -r, "cannot detach the relay: %s", strerror(-r));
    relay->log_fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NONBLOCK);
    process_harden(weakness);
    r = relay_pump_start(relay, failure);
    if (r == 0)
        process_lock_memory(weakness);
    return r;
}

static _Noreturn void run(struct relay *relay, int report_fd)
{
    struct report report = {.pid = getpid()};

    report.result = prepare(relay, report_fd, &report.weakness, &report.failure);
    if (write(report_fd, &report, sizeof report) != sizeof report || report.result < 0)
        _exit(1);
    close(report_fd);
    relay_pump_wait(relay);
    _exit(0);
}

static int read_report(int fd, pid_t *pid, struct failure *weakness, struct failure *failure)
{
    struct report report;

    if (!process_hear(fd, &report, sizeof report))
        return fail(failure, ECHILD, "the relay process died before it could start");
    *pid = report.pid;
    *weakness = report.weakness;
    if (report.result < 0)
        *failure = report.failure;
    return report.result;
}

static int start_process(struct relay *relay, int kernel_end, pid_t *pid, struct failure *weakness,
                         struct failure *failure)
{
    int report[2], r;
    pid_t child;

    if (pipe2(report, O_CLOEXEC) < 0)
        return fail(failure, errno, "cannot make a pipe: %s", strerror(errno));
    child = process_split();
    if (child == 0) {
        /* While we held it the driver's end would never look closed. */
        close(kernel_end);
        close(report[0]);
        run(relay, report[1]);
    }
    close(report[1]);
    if (child < 0)
        r = fail(failure, (int)-child, "cannot start a process: %s", strerror((int)-child));
    else
        r = read_report(report[0], pid, weakness, failure);
    close(report[0]);
    return r;
}

int relay_start(struct connection *connection, pid_t *pid, struct failure *weakness, struct failure *failure)
{
    const struct channel *channel = session_channel(connection->session);
    struct relay relay = {.server_fd = channel->fd, .log_fd = -1};
    _cleanup_close_ int kernel_end = -1, relay_end = -1;
    int pair[2], r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return fail(failure, errno, "cannot make a socket pair: %s", strerror(errno));
    kernel_end = pair[0];
    relay_end = pair[1];
    enlarge(kernel_end);
    enlarge(relay_end);
    relay.kernel_fd = relay_end;
    r = relay_link_new(&relay.link, channel, failure);
    if (r < 0)
        return r;
    r = start_process(&relay, kernel_end, pid, weakness, failure);
    relay_link_free(relay.link);
    if (r < 0)
        return fail_within(failure, r, "cannot start the relay process");
    session_forget(connection->session);
    connection->session = NULL;
    connection->fd = steal_fd(&kernel_end);
    return 0;
}

bool relay_lives(pid_t pid)
{
    return process_is(pid, RELAY_NAME);
}
