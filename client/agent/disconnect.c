/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/disconnect.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/kernel_failure.h"
#include "agent/state.h"
#include "cleanup.h"
#include "netlink/nbd.h"
#include "netlink/sockdiag.h"

#define NS_PER_MS     UINT64_C(1000000)
/* The kernel lets go soon after the last descriptor is closed, and tells nobody. */
#define LOOK_FIRST_NS NS_PER_MS
#define LOOK_MOST_NS  (10 * NS_PER_MS)

/* What the child tells before it ends. */
struct verdict {
    int error;
    struct netlink_reason reason;
};

bool device_still(const struct nbd_device *device)
{
    return nbd_device_same("", device);
}

/* A TCP socket that is destroyed first cannot hold DISCONNECT up. Only as good as the kernel: nothing depends
 * on it. */
static void destroy_sockets(const struct nbd_device *device)
{
    struct netlink_reason ignored;
    struct device_state state;

    if (device_state_read(device, &state) < 0)
        return;
    for (size_t i = 0; i < state.connections; i++)
        socket_destroy(&state.sockets[i], &ignored);
    device_state_clear(&state);
}

static _Noreturn void child(int fd, const struct nbd_device *device)
{
    struct verdict verdict = {0};
    struct nbd_netlink *netlink = NULL;

    signal(SIGINT, SIG_IGN); /* once begun, it is brought to its end */
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    verdict.error = nbd_netlink_open(&netlink, false, &verdict.reason);
    if (verdict.error == 0)
        verdict.error = nbd_netlink_disconnect(netlink, device->index, &verdict.reason);
    if (write(fd, &verdict, sizeof verdict) != sizeof verdict)
        _exit(1);
    _exit(0);
}

/* Gives a server that has stopped reading this long to take the last bytes; then its sockets are destroyed.
 */
#define POLITE_NS (1000 * NS_PER_MS)

static int await_verdict(int fd, const struct nbd_device *device, const struct deadline *deadline)
{
    struct deadline polite = deadline_after(POLITE_NS, -1);
    struct deadline rest = {.at_ns = deadline->at_ns, .cancel_fd = -1};

    if (polite.at_ns > rest.at_ns)
        polite.at_ns = rest.at_ns;
    if (deadline_poll(&polite, fd, POLLIN) > 0)
        return 0;
    destroy_sockets(device);
    return deadline_poll(&rest, fd, POLLIN) > 0 ? 0 : -ETIMEDOUT;
}

static int verdict_of(int fd, struct failure *failure)
{
    struct verdict verdict;

    if (read(fd, &verdict, sizeof verdict) != sizeof verdict)
        return fail(failure, ECHILD, "the process that disconnects died");
    return verdict.error < 0 ? kernel_failure(failure, verdict.error, &verdict.reason) : 0;
}

int device_disconnect(const struct nbd_device *device, const struct deadline *deadline,
                      struct failure *failure)
{
    int fds[2], r;
    pid_t pid;

    if (!device_still(device))
        return 0;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return fail(failure, errno, "cannot make a pipe: %s", strerror(errno));
    pid = fork();
    if (pid == 0)
        child(fds[1], device);
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return fail(failure, EAGAIN, "cannot start a process");
    }
    r = await_verdict(fds[0], device, deadline);
    if (r == 0) {
        r = verdict_of(fds[0], failure);
        waitpid(pid, NULL, 0);
    } else {
        r = fail_hint(failure,
                      fail(failure, ETIMEDOUT,
                           "/dev/nbd%u: the kernel is stuck sending to a server that does not read",
                           device->index),
                      "it goes on by itself as soon as the server reads, or is gone");
    }
    close(fds[0]);
    return r;
}

int device_wait_gone(const struct nbd_device *device, const struct deadline *deadline)
{
    uint64_t look_ns = LOOK_FIRST_NS;

    while (device_still(device)) {
        struct deadline pause = deadline_after(look_ns, deadline->cancel_fd);

        if (deadline_remaining_ms(deadline) == 0)
            return -ETIMEDOUT;
        if (deadline_poll(&pause, -1, 0) == -ECANCELED)
            return -ECANCELED;
        look_ns = look_ns * 2 > LOOK_MOST_NS ? LOOK_MOST_NS : look_ns * 2;
    }
    return 0;
}
