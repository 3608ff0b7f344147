/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/control_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/control.h"
#include "cleanup.h"

#define LOCK_ATTEMPTS 16

int control_address(const char *folder, uint32_t index, struct sockaddr_un *address)
{
    int length;

    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    length = snprintf(address->sun_path, sizeof address->sun_path, "%s/nbd%u.varlink", folder, index);
    return length < 0 || (size_t)length >= sizeof address->sun_path ? -ENAMETOOLONG : 0;
}

bool control_peer_allowed(int fd)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t size = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || size != sizeof peer)
        return false;
    return peer.uid == 0 || peer.uid == geteuid();
}

/* ---- the lock ---- */

static bool is_file(const char *path, dev_t device, ino_t inode)
{
    struct stat named;

    return lstat(path, &named) == 0 && named.st_dev == device && named.st_ino == inode;
}

static int try_lock(struct control_socket *socket)
{
    _cleanup_close_ int fd = open(socket->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat locked;

    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
    if (fstat(fd, &locked) < 0)
        return -errno;
    /* Its last owner removed it between our open() and flock(): it guards nothing any more. */
    if (!is_file(socket->lock_path, locked.st_dev, locked.st_ino))
        return -EAGAIN;
    socket->lock_fd = steal_fd(&fd);
    return 0;
}

/*
 * Whether a socket is stale can only be tried, and two who find it so at once would each remove what the
 * other has put there. The lock is the kernel's to release, however its owner dies.
 */
static int lock(struct control_socket *socket)
{
    int r = -EAGAIN;

    for (int i = 0; i < LOCK_ATTEMPTS && r == -EAGAIN; i++)
        r = try_lock(socket);
    return r;
}

/* ---- the socket ---- */

/* Only a refusal says that nobody listens; a full queue (EAGAIN) is somebody's. */
static bool is_stale(const struct sockaddr_un *address)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    return fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 &&
           errno == ECONNREFUSED;
}

static int bind_to(int fd, const struct sockaddr_un *address)
{
    return bind(fd, (const struct sockaddr *)address, sizeof *address) < 0 ? -errno : 0;
}

static int bind_or_replace(int fd, const struct sockaddr_un *address)
{
    int r = bind_to(fd, address);

    if (r != -EADDRINUSE || !is_stale(address))
        return r;
    if (unlink(address->sun_path) < 0 && errno != ENOENT)
        return -errno;
    return bind_to(fd, address);
}

static int listen_on(struct control_socket *control, const struct sockaddr_un *address)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat bound;
    int r;

    if (fd < 0)
        return -errno;
    /* bind() gives the file the socket's own mode: so there is no moment at which others could connect, and
     * the umask, which all threads share, stays as it is. */
    if (fchmod(fd, 0600) < 0)
        return -errno;
    r = bind_or_replace(fd, address);
    if (r < 0)
        return r;
    if (lstat(address->sun_path, &bound) < 0)
        return -errno;
    control->device = bound.st_dev;
    control->inode = bound.st_ino;
    control->fd = steal_fd(&fd);
    return listen(control->fd, CONTROL_CLIENTS_MAX) < 0 ? -errno : 0;
}

static int make_paths(struct control_socket *socket, const char *folder, uint32_t index,
                      struct sockaddr_un *address)
{
    int r = control_address(folder, index, address);

    if (r < 0)
        return r;
    memcpy(socket->path, address->sun_path, sizeof socket->path);
    /* Shorter than the socket's name, so it fits too. */
    snprintf(socket->lock_path, sizeof socket->lock_path, "%s/nbd%u.lock", folder, index);
    return mkdir(folder, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

int control_socket_open(struct control_socket *socket, const char *folder, uint32_t index,
                        struct failure *failure)
{
    struct sockaddr_un address;
    int r;

    *socket = (struct control_socket){.fd = -1, .lock_fd = -1};
    r = make_paths(socket, folder, index, &address);
    if (r == 0)
        r = lock(socket);
    if (r == 0)
        r = listen_on(socket, &address);
    if (r == 0)
        return 0;
    control_socket_close(socket);
    if (r == -EADDRINUSE)
        return fail(failure, EADDRINUSE, "another process is the agent of /dev/nbd%u", index);
    return fail(failure, -r, "cannot open %s/nbd%u.varlink: %s", folder, index, strerror(-r));
}

void control_socket_close(struct control_socket *socket)
{
    if (socket->fd >= 0 && is_file(socket->path, socket->device, socket->inode))
        unlink(socket->path);
    cleanup_close(&socket->fd);
    /* In this order: who waits for the lock finds that the file it has is nobody's. */
    if (socket->lock_fd >= 0)
        unlink(socket->lock_path);
    cleanup_close(&socket->lock_fd);
}
