/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The driver answers with a bare errno (its words go to the kernel log): here is what each can mean. */
#include <errno.h>
#include <linux/nbd-netlink.h>
#include <stdio.h>
#include <string.h>

#include "nbd_request.h"

#define ANY_COMMAND NBD_CMD_UNSPEC

struct meaning {
    int command;
    int error;
    const char *text;
    const char *hint;
};

static const struct meaning meanings[] = {
    {NBD_CMD_CONNECT, EBUSY, "it is attached already, or somebody has it open",
     "take another device, or name none for a free one; udev lets go of a new device after a moment: try "
     "again"},
    {NBD_CMD_CONNECT, EEXIST, "it is just being made or torn down",
     "try again in a moment, or name no device"},
    {NBD_CMD_CONNECT, EINVAL, "the driver does not take what it was given",
     "it takes connected TCP or unix stream sockets (no MPTCP, no vsock), a block size up to the page size "
     "(64 KiB "
     "on new kernels), an index below its limit and a device that is not just going away; the kernel log "
     "says which"},
    {NBD_CMD_CONNECT, ENOSPC, "there are no more device numbers", "detach a device that is no longer needed"},
    {NBD_CMD_RECONFIGURE, EINVAL, "the driver does not take what it was given",
     "the device must be attached, the backend identifier the one it was attached with, and new connections "
     "TCP or "
     "unix stream sockets; the kernel log says which"},
    {NBD_CMD_RECONFIGURE, ENODEV, "it was detached meanwhile", NULL},
    {NBD_CMD_DISCONNECT, ENODEV, "there is no such device", NULL},
    {ANY_COMMAND, EPERM, "not permitted",
     "it needs CAP_SYS_ADMIN in the initial namespaces: run as root, not inside a container"},
    {ANY_COMMAND, ENOENT, "the nbd driver is gone", "was the module unloaded? modprobe nbd"},
    {ANY_COMMAND, EBADF, "a connection is no open descriptor", NULL},
    {ANY_COMMAND, ENOTSOCK, "a connection is no socket", NULL},
    {ANY_COMMAND, EOPNOTSUPP, "this kernel's driver has no such command", "it needs Linux 4.12 or newer"},
    {ANY_COMMAND, ETIMEDOUT, "the kernel did not answer", NULL},
    {ANY_COMMAND, ENOMEM, "out of memory", NULL},
    {ANY_COMMAND, EBADMSG, "the kernel's answer cannot be understood", NULL},
};

static const struct meaning *find_meaning(int command, int error)
{
    for (size_t i = 0; i < sizeof meanings / sizeof meanings[0]; i++)
        if (meanings[i].error == error &&
            (meanings[i].command == command || meanings[i].command == ANY_COMMAND))
            return &meanings[i];
    return NULL;
}

static const char *command_verb(int command)
{
    switch (command) {
    case NBD_CMD_CONNECT:
        return "attach";
    case NBD_CMD_RECONFIGURE:
        return "reconfigure";
    case NBD_CMD_DISCONNECT:
        return "detach";
    default:
        return "ask about";
    }
}

int nbd_refused(int command, uint32_t index, int error, const char *words, struct netlink_reason *reason)
{
    const struct meaning *meaning;
    char device[32] = "an nbd device";

    /* The only thing the driver can find wrong with a DISCONNECT is the index. */
    if (command == NBD_CMD_DISCONNECT && error == EINVAL)
        error = ENODEV;
    meaning = find_meaning(command, error);
    if (index != NBD_INDEX_ANY)
        snprintf(device, sizeof device, "/dev/nbd%u", index);
    return netlink_fail(reason, error, meaning ? meaning->hint : NULL, "cannot %s %s: %s%s%s%s",
                        command_verb(command), device, meaning ? meaning->text : strerror(error),
                        words[0] ? " (" : "", words, words[0] ? ")" : "");
}
