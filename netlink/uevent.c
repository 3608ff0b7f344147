/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "uevent.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

#include "exchange.h"
#include "scoped.h"

/* udevd's name for the multicast group of the kernel's own events. */
#define GROUP_KERNEL 1
/* The kernel's UEVENT_BUFFER_SIZE is 2048, and the header comes on top. */
#define EVENT_MAX    8192
/* Hundreds of devices may appear at once while we are busy elsewhere. */
#define RECEIVE_SIZE (1024 * 1024)
/* Messages that say nothing, taken in one call: another may always be on its way. */
#define OTHERS_MAX   64

struct uevent_socket {
    struct mnl_socket *socket;
    char buffer[EVENT_MAX];
};

void uevent_close(struct uevent_socket *socket)
{
    if (!socket)
        return;
    if (socket->socket)
        mnl_socket_close(socket->socket);
    free(socket);
}

void uevent_closep(struct uevent_socket **socket)
{
    uevent_close(*socket);
}

int uevent_fd(const struct uevent_socket *socket)
{
    return mnl_socket_get_fd(socket->socket);
}

static void enlarge_buffer(int fd)
{
    const int size = RECEIVE_SIZE;

    /* Beyond the limit only for root; a smaller one only makes lost events likelier. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

int uevent_open(struct uevent_socket **ret, struct netlink_reason *reason)
{
    _cleanup_(uevent_closep) struct uevent_socket *socket = calloc(1, sizeof *socket);

    if (!socket)
        return netlink_fail(reason, ENOMEM, NULL, "out of memory");
    socket->socket = mnl_socket_open2(NETLINK_KOBJECT_UEVENT, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (!socket->socket || mnl_socket_bind(socket->socket, GROUP_KERNEL, MNL_SOCKET_AUTOPID) < 0)
        return netlink_fail(reason, errno, NULL, "cannot listen to the kernel's device events: %s",
                            strerror(errno));
    enlarge_buffer(uevent_fd(socket));
    *ret = steal_ptr(&socket);
    return 0;
}

static enum uevent_action parse_action(const char *text, size_t length)
{
    static const struct {
        const char *name;
        enum uevent_action action;
    } actions[] = {{"add", UEVENT_ADD}, {"change", UEVENT_CHANGE}, {"remove", UEVENT_REMOVE}};

    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        if (strlen(actions[i].name) == length && memcmp(actions[i].name, text, length) == 0)
            return actions[i].action;
    return UEVENT_OTHER;
}

static void take_value(const char *pair, const char *key, const char **value)
{
    size_t length = strlen(key);

    if (strncmp(pair, key, length) == 0 && pair[length] == '=')
        *value = pair + length + 1;
}

int uevent_parse(const char *data, size_t size, struct uevent *event)
{
    const char *end = data + size, *at;

    *event = (struct uevent){.subsystem = "", .devtype = "", .devname = ""};
    /* With its terminator the last string is one, and so is every other. */
    if (size == 0 || data[size - 1] != '\0')
        return -EBADMSG;
    /* "ACTION@DEVPATH"; what udevd sends begins with "libudev". */
    at = strchr(data, '@');
    if (!at || at == data || at[1] != '/')
        return -EBADMSG;
    event->action = parse_action(data, (size_t)(at - data));
    for (const char *pair = data + strlen(data) + 1; pair < end; pair += strlen(pair) + 1) {
        take_value(pair, "SUBSYSTEM", &event->subsystem);
        take_value(pair, "DEVTYPE", &event->devtype);
        take_value(pair, "DEVNAME", &event->devname);
    }
    return 0;
}

static int receive_failed(int error, struct netlink_reason *reason)
{
    if (error == EMSGSIZE || error == ENOBUFS)
        return netlink_fail(reason, ENOBUFS, NULL, "device events of the kernel were lost");
    return netlink_fail(reason, error, NULL, "cannot receive the kernel's device events: %s",
                        strerror(error));
}

int uevent_next(struct uevent_socket *socket, struct uevent *event, struct netlink_reason *reason)
{
    for (int i = 0; i < OTHERS_MAX; i++) {
        int n = netlink_receive(uevent_fd(socket), socket->buffer, sizeof socket->buffer);

        if (n == 0)
            return 0;
        if (n < 0)
            return receive_failed(-n, reason);
        if (uevent_parse(socket->buffer, (size_t)n, event) == 0)
            return 1;
    }
    return 0;
}
