/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/unflushed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/state.h"
#include "cleanup.h"

static void mark_path(char *path, size_t size, uint32_t index)
{
    snprintf(path, size, STATE_FOLDER "/nbd%u.unflushed", index);
}

/* Which attach it is: a device that was detached and attached again has nothing unflushed of the old one. */
static void attach_text(const struct nbd_device *device, char *text, size_t size)
{
    snprintf(text, size, "%d %llu %s", (int)device->pid, (unsigned long long)device->diskseq,
             device->backend);
}

void unflushed_mark(const struct nbd_device *device)
{
    char path[64], text[NBD_BACKEND_MAX + 64];
    _cleanup_close_ int fd = -1;

    mark_path(path, sizeof path, device->index);
    attach_text(device, text, sizeof text);
    mkdir(STATE_FOLDER, 0755);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    /* Without room in /run the mark is lost, and the failure told this once. */
    if (fd >= 0 && write(fd, text, strlen(text)) < 0)
        unlink(path);
}

bool unflushed_is_marked(const struct nbd_device *device)
{
    char path[64], text[NBD_BACKEND_MAX + 64], found[NBD_BACKEND_MAX + 64] = "";
    _cleanup_close_ int fd = -1;

    mark_path(path, sizeof path, device->index);
    attach_text(device, text, sizeof text);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    return fd >= 0 && read(fd, found, sizeof found - 1) >= 0 && strcmp(found, text) == 0;
}

void unflushed_clear(uint32_t index)
{
    char path[64];

    mark_path(path, sizeof path, index);
    unlink(path);
}
