/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "netlink-probe.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/nbd.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sysfs.h"

static struct counts nothing;
struct counts *counts = &nothing;
struct netlink_reason reason;

bool check(bool good, const char *name, const char *format, ...)
{
    va_list args;

    counts->checks++;
    printf("%s %s", good ? "ok" : "not ok", name);
    if (!good) {
        va_start(args, format);
        printf(": ");
        vprintf(format, args);
        va_end(args);
        counts->failures++;
    }
    printf("\n");
    fflush(stdout);
    return good;
}

void skip_check(const char *name, const char *why)
{
    counts->checks++;
    printf("ok %s # skip %s\n", name, why);
    fflush(stdout);
}

void share_counts(void)
{
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counts == MAP_FAILED)
        abort();
}

bool expect(int result, int expected, const char *name)
{
    bool good = check(result == expected, name, "%d (%s), not %d: %s", result,
                      strerror(result < 0 ? -result : 0), expected, result < 0 ? reason.text : "");

    if (good && result < 0)
        printf("#   %s [%s]\n", reason.text, reason.hint);
    memset(&reason, 0, sizeof reason);
    return good;
}

int check_either(int result, int error, const char *name)
{
    expect(result, result == 0 ? 0 : error, name);
    printf("#   here: %s\n", result == 0 ? "done" : "refused");
    fflush(stdout);
    return result;
}

void pause_ms(long ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&time, NULL);
}

struct nbd_config plain_config(const int *sockets, size_t count)
{
    return (struct nbd_config){
        .index = NBD_INDEX_ANY,
        .size = DISK_SIZE,
        .block_size = 512,
        .has_timeout = true,
        .timeout = 10,
        .has_dead_timeout = true,
        .dead_timeout = 20,
        .has_server_flags = true,
        .server_flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_CAN_MULTI_CONN,
        .backend = BACKEND,
        .sockets = sockets,
        .sockets_count = count,
    };
}

bool wait_attached(uint32_t index, bool attached)
{
    struct nbd_device device;

    for (int i = 0; i < 100; i++) {
        int r = nbd_device_read("", index, &device, &reason);

        if ((r == 0 && device.attached == attached) || (r == -ENODEV && !attached))
            return true;
        pause_ms(50);
    }
    return false;
}

int open_disk(uint32_t index, int flags)
{
    char path[32];

    snprintf(path, sizeof path, "/dev/nbd%" PRIu32, index);
    return open(path, flags | O_CLOEXEC);
}

bool read_disk(uint32_t index, const char *expected)
{
    static __attribute__((aligned(4096))) char block[4096];
    int fd = open_disk(index, O_RDONLY | O_DIRECT);
    bool good = fd >= 0 && pread(fd, block, sizeof block, 0) == sizeof block && strcmp(block, expected) == 0;

    if (fd >= 0)
        close(fd);
    return good;
}

void detach(struct nbd_netlink *netlink, uint32_t index, const char *name)
{
    expect(nbd_netlink_disconnect(netlink, index, &reason), 0, name);
    check(wait_attached(index, false), name, "nbd%" PRIu32 " is still attached", index);
}

bool wait_dead(struct nbd_events *events, uint32_t index)
{
    struct pollfd pollfd = {.fd = nbd_events_fd(events), .events = POLLIN};
    uint32_t dead;

    for (int i = 0; i < 100; i++) {
        if (nbd_events_next(events, &dead, &reason) == 1 && dead == index)
            return true;
        poll(&pollfd, 1, 50);
    }
    return false;
}

bool wait_uevent(struct uevent_socket *uevents, enum uevent_action action, const char *name)
{
    struct pollfd pollfd = {.fd = uevent_fd(uevents), .events = POLLIN};
    struct uevent event;

    for (int i = 0; i < 100; i++) {
        int r;

        while ((r = uevent_next(uevents, &event, &reason)) == 1)
            if (event.action == action && strcmp(event.devname, name) == 0 &&
                strcmp(event.subsystem, "block") == 0 && strcmp(event.devtype, "disk") == 0)
                return true;
        if (r < 0)
            return false;
        poll(&pollfd, 1, 50);
    }
    return false;
}

int in_child(int (*function)(void *), void *arg)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0)
        _exit(function(arg));
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int run(const char *program, const char *option, const char *argument)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        execlp(program, program, option, argument, NULL);
        _exit(127);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
