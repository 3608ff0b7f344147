/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/connect.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <linux/vm_sockets.h>

#include "cleanup.h"
#include "protocol/race.h"
#include "protocol/resolve.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_DS UINT64_C(100000000)

/* unix(7) does not say when room appears in a full backlog, so it is asked again. */
#define BACKLOG_RETRY_NS (50 * NS_PER_MS)

/* What a name server is given when there is another way. */
#define LOOKUP_NS (2000 * NS_PER_MS)

/* One target_connect(), for its messages and its end. */
struct connecting {
    const struct target *target;
    const struct connect_policy *policy;
    const struct deadline *deadline;
    struct failure *failure;
    char *address; /* for a terminal */
    uint64_t begin_ns;
};

/* Every failure ends here: what and why; a deadline also says how long it was. */
static int explain(const struct connecting *connecting, int error, const char *why)
{
    uint64_t tenths = (monotonic_ns() - connecting->begin_ns + NS_PER_DS / 2) / NS_PER_DS;

    if (error == -ECANCELED)
        return fail(connecting->failure, ECANCELED, "connecting to %s was interrupted", connecting->address);
    if (error == -ETIMEDOUT)
        return fail(connecting->failure, ETIMEDOUT, "cannot connect to %s within %llu.%llu s: %s",
                    connecting->address, (unsigned long long)tenths / 10, (unsigned long long)tenths % 10,
                    why);
    return fail(connecting->failure, -error, "cannot connect to %s: %s", connecting->address, why);
}

static int explain_lookup(const struct connecting *connecting, int error, int gai_error)
{
    if (error == -ETIMEDOUT)
        return explain(connecting, error, "no answer to the name lookup");
    if (error == -EBUSY)
        return explain(connecting, error, "too many earlier name lookups are still without an answer");
    if (error != -ENXIO)
        return explain(connecting, error, strerror(-error));
    explain(connecting, error, gai_strerror(gai_error));
    if (gai_error == EAI_AGAIN)
        return fail_hint(connecting->failure, -EAGAIN, "is the name server reachable?");
    return fail_hint(connecting->failure, error, "check the name, or use an address");
}

static int hint_tcp(const struct connecting *connecting, int error)
{
    switch (error) {
    case -ECONNREFUSED:
        return fail_hint(connecting->failure, error, "is an NBD server listening there?");
    case -ETIMEDOUT:
        return fail_hint(connecting->failure, error, "is the host up, and does a firewall drop the port?");
    case -ENETUNREACH:
    case -EHOSTUNREACH:
        return fail_hint(connecting->failure, error, "is there a route to the server?");
    default:
        return error;
    }
}

/* The earlier of the deadline and ns from now; 0 ns: the deadline. */
static struct deadline no_later(const struct deadline *deadline, uint64_t ns)
{
    struct deadline soon = deadline_after(ns, deadline->cancel_fd);

    return ns == 0 || soon.at_ns > deadline->at_ns ? *deadline : soon;
}

static int race(const struct connecting *connecting, const struct addrinfo *addresses)
{
    struct deadline deadline = no_later(connecting->deadline, connecting->policy->tcp_ns);
    char reasons[512];
    int fd = race_connect(addresses, connecting->policy->reconnects, &deadline, reasons, sizeof reasons);

    if (fd >= 0)
        return fd;
    explain(connecting, fd, reasons);
    return hint_tcp(connecting, fd);
}

static int race_one(const struct connecting *connecting, struct sockaddr_storage known)
{
    struct addrinfo address = {
        .ai_family = known.ss_family,
        .ai_socktype = SOCK_STREAM,
        .ai_protocol = IPPROTO_TCP,
        .ai_addr = (struct sockaddr *)&known,
        .ai_addrlen = known.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in),
    };

    return race(connecting, &address);
}

static int connect_tcp(const struct connecting *connecting)
{
    const struct target *target = connecting->target;
    bool known = connecting->policy->known.ss_family != AF_UNSPEC;
    struct deadline lookup = no_later(connecting->deadline, known ? LOOKUP_NS : 0);
    struct addrinfo *addresses;
    int gai_error, fd, error;

    if (connecting->policy->only.ss_family != AF_UNSPEC)
        return race_one(connecting, connecting->policy->only);
    error = resolve(target->host, target->port, &lookup, &addresses, &gai_error);
    /* A reconnect may find the name servers, or the files of the resolver, out of reach with the disk. */
    if (error && known && error != -ECANCELED)
        return race_one(connecting, connecting->policy->known);
    if (error)
        return explain_lookup(connecting, error, gai_error);
    fd = race(connecting, addresses);
    freeaddrinfo(addresses);
    return fd;
}

static int hint_unix(const struct connecting *connecting, int error)
{
    switch (error) {
    case -ENOENT:
        return fail_hint(connecting->failure, error, "is the server running, and is that its socket?");
    case -EACCES:
        return fail_hint(
            connecting->failure, error,
            "connecting needs write permission on the socket and search permission on its directory");
    case -ECONNREFUSED:
        return fail_hint(connecting->failure, error, "is an NBD server listening there?");
    case -ETIMEDOUT:
        return fail_hint(connecting->failure, error,
                         "the server may be serving as many clients as it allows");
    default:
        return error;
    }
}

static socklen_t unix_address(const struct target *target, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path, target->socket_path, target->socket_path_size);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + target->socket_path_size);
}

/* A backlog that stays full is how a server without a free slot looks (qemu-nbd -e 1). */
static int wait_for_backlog(const struct deadline *deadline)
{
    uint64_t now = monotonic_ns();
    struct deadline pause = deadline_after(BACKLOG_RETRY_NS, deadline->cancel_fd);
    int error;

    if (deadline->at_ns <= now)
        return -ETIMEDOUT;
    if (pause.at_ns > deadline->at_ns)
        pause.at_ns = deadline->at_ns;
    error = deadline_poll(&pause, -1, 0);
    return error == -ETIMEDOUT ? 0 : error;
}

static int try_unix(int fd, const struct connecting *connecting)
{
    struct sockaddr_un address;
    socklen_t size = unix_address(connecting->target, &address);

    for (;;) {
        int error;

        if (connect(fd, (struct sockaddr *)&address, size) == 0)
            return 0;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        error = wait_for_backlog(connecting->deadline);
        if (error)
            return error;
    }
}

static int connect_unix(const struct connecting *connecting)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? -errno : try_unix(fd, connecting);

    if (!error)
        return steal_fd(&fd);
    explain(connecting, error, error == -ETIMEDOUT ? "its backlog is full" : strerror(-error));
    return hint_unix(connecting, error);
}

/* The driver gives up after 2 s of its own accord; the deadline is to decide. Where it cannot be set, so be
 * it. */
static void set_vsock_timeout(int fd, const struct deadline *deadline)
{
    int ms = deadline_remaining_ms(deadline);
    struct timeval timeout = {.tv_sec = ms < 0 ? 3600 : ms / 1000 + 1};

    setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &timeout, sizeof timeout);
}

static int try_vsock(int fd, const struct connecting *connecting)
{
    struct sockaddr_vm address = {
        .svm_family = AF_VSOCK,
        .svm_cid = connecting->target->vsock_cid,
        .svm_port = connecting->target->vsock_port,
    };
    int events, error = 0;
    socklen_t size = sizeof error;

    set_vsock_timeout(fd, connecting->deadline);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    events = deadline_poll(connecting->deadline, fd, POLLOUT);
    if (events < 0)
        return events;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? -errno : -error;
}

static int hint_vsock(const struct connecting *connecting, int error)
{
    switch (error) {
    case -ECONNREFUSED:
    case -ECONNRESET:
        return fail_hint(connecting->failure, error, "is an NBD server listening there?");
    case -ENODEV:
    case -EAFNOSUPPORT:
        return fail_hint(connecting->failure, error, "this kernel has no vsock transport loaded");
    default:
        return error;
    }
}

static int connect_vsock(const struct connecting *connecting)
{
    _cleanup_close_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? -errno : try_vsock(fd, connecting);

    if (!error)
        return steal_fd(&fd);
    explain(connecting, error, error == -ETIMEDOUT ? "no answer" : strerror(-error));
    return hint_vsock(connecting, error);
}

int target_connect(const struct target *target, const struct connect_policy *policy,
                   const struct deadline *deadline, struct failure *failure)
{
    _cleanup_free_ char *address = target_format_address(target);
    struct connecting connecting = {
        .target = target,
        .policy = policy,
        .deadline = deadline,
        .failure = failure,
        .address = address,
        .begin_ns = monotonic_ns(),
    };

    if (!address)
        return fail(failure, ENOMEM, "out of memory");
    switch (target->transport) {
    case TARGET_TCP:
        return connect_tcp(&connecting);
    case TARGET_UNIX:
        return connect_unix(&connecting);
    case TARGET_VSOCK:
        return connect_vsock(&connecting);
    }
    return fail(failure, EINVAL, "cannot connect to %s: unknown transport", address);
}
