/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who holds the device: real mounts, swap space, loop and device mapper devices, processes. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include "module.h"
#include "netlink-probe.h"
#include "sysfs.h"

static bool is_held(uint32_t index, enum holder_kind kind, const char *text)
{
    struct nbd_device device;
    struct holder list[16];
    bool found = false;
    int count;

    if (nbd_device_read("", index, &device, &reason) < 0)
        return false;
    count = nbd_holders("", &device, 0, list, 16, &reason);
    for (int i = 0; i < count && i < 16; i++) {
        char *description = holder_describe(&list[i]);

        printf("#   %s %s\n", list[i].device, description);
        found = found || (list[i].kind == kind && strstr(description, text));
        free(description);
    }
    return found;
}

static int wait_for_end(void *arg)
{
    char byte;

    return (int)read(*(int *)arg, &byte, 1);
}

static int mount_alone(void *arg)
{
    const char *device = arg;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(device, "/tmp/probe mount", "ext2", 0, NULL) < 0)
        return 1;
    pause();
    return 0;
}

static void check_open_elsewhere(uint32_t index)
{
    int fd = open_disk(index, O_RDONLY), pipes[2];
    pid_t child;

    if (pipe2(pipes, O_CLOEXEC) < 0)
        abort();
    check(!is_held(index, HOLDER_PROCESS, ""), "not-held-by-self", "it is");
    child = fork();
    if (child == 0) {
        close(pipes[1]);
        _exit(wait_for_end(&pipes[0]));
    }
    close(fd);
    check(is_held(index, HOLDER_PROCESS, "open by netlink-probe"), "held-by-process", "not found");
    close(pipes[1]);
    close(pipes[0]);
    waitpid(child, NULL, 0);
}

static void check_mounts(uint32_t index)
{
    char device[32];
    pid_t child;

    snprintf(device, sizeof device, "/dev/nbd%" PRIu32, index);
    if (run("mkfs.ext2", "-q", device) != 0) {
        skip_check("held-by-mount", "no mkfs.ext2");
        return;
    }
    mkdir("/tmp/probe mount", 0700);
    if (mount(device, "/tmp/probe mount", "ext2", 0, NULL) < 0) {
        skip_check("held-by-mount", strerror(errno));
        return;
    }
    check(is_held(index, HOLDER_MOUNT, "mounted on /tmp/probe mount"), "held-by-mount", "not found");
    umount("/tmp/probe mount");
    child = fork();
    if (child == 0)
        _exit(mount_alone(device));
    pause_ms(500);
    check(is_held(index, HOLDER_MOUNT, "/tmp/probe mount (as netlink-probe, pid "), "held-elsewhere",
          "not found");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    pause_ms(200);
    check(!is_held(index, HOLDER_MOUNT, ""), "held-no-more", "it is");
}

static void check_swap(uint32_t index)
{
    char device[32];

    snprintf(device, sizeof device, "/dev/nbd%" PRIu32, index);
    if (run("mkswap", "-q", device) != 0 || swapon(device, 0) < 0) {
        skip_check("held-by-swap", "not possible here");
        return;
    }
    check(is_held(index, HOLDER_SWAP, "swap space"), "held-by-swap", "not found");
    swapoff(device);
}

static void check_loop(uint32_t index)
{
    char device[32];

    snprintf(device, sizeof device, "/dev/nbd%" PRIu32, index);
    if (module_load("loop", &reason) < 0 || run("losetup", "/dev/loop0", device) != 0) {
        skip_check("held-by-loop", "not possible here");
        return;
    }
    check(is_held(index, HOLDER_DEVICE, "held by loop0"), "held-by-loop", "not found");
    run("losetup", "-d", "/dev/loop0");
}

static void check_device_mapper(uint32_t index)
{
    char command[128];

    snprintf(command, sizeof command, "dmsetup create probe --table '0 2048 linear /dev/nbd%" PRIu32 " 0'",
             index);
    if (module_load("dm_mod", &reason) < 0 || run("sh", "-c", command) != 0) {
        skip_check("held-by-device-mapper", "not possible here");
        return;
    }
    check(is_held(index, HOLDER_DEVICE, "held by dm-0 (probe)"), "held-by-device-mapper", "not found");
    run("dmsetup", "remove", "probe");
}

void check_holders(uint32_t index)
{
    check_open_elsewhere(index);
    check_mounts(index);
    check_swap(index);
    check_loop(index);
    check_device_mapper(index);
}
