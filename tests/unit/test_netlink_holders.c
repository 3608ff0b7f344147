/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmocka_all.h"
#include "holders_scan.h"
#include "netlink_skip.h"
#include "netlink_tree.h"
#include "sysfs.h"

#define ROOM 8

static struct netlink_reason reason;
static struct holder list[ROOM];

/* nbd1 with partitions 1 and 2, and a /proc in which we alone are, in mount namespace 1. */
static int create(void **state)
{
    const struct tree *tree;

    if (tree_create(state) < 0)
        return -1;
    tree = *state;
    tree_disk(tree, 1);
    tree_partition(tree, 1, 1);
    tree_partition(tree, 1, 2);
    tree_link(tree, "proc/self/ns/mnt", "mnt:[1]");
    tree_link(tree, "proc/self/root", "/");
    tree_file(tree, "proc/self/mountinfo", "%s", "");
    return 0;
}

static void put_process(const struct tree *tree, const char *pid, const char *command, const char *namespace)
{
    char path[64];

    snprintf(path, sizeof path, "proc/%s/comm", pid);
    tree_file(tree, path, "%s\n", command);
    snprintf(path, sizeof path, "proc/%s/stat", pid);
    tree_file(tree, path, "%s (%s) S 1 1 1 0 -1 4194560 1 2 3", pid, command);
    snprintf(path, sizeof path, "proc/%s/ns/mnt", pid);
    tree_link(tree, path, namespace);
    snprintf(path, sizeof path, "proc/%s/root", pid);
    tree_link(tree, path, "/");
    snprintf(path, sizeof path, "proc/%s/fd", pid);
    tree_folder(tree, path);
}

static int holders(const struct tree *tree)
{
    struct nbd_device device;

    memset(list, 0, sizeof list);
    assert_int_equal(nbd_device_read(tree->root, 1, &device, &reason), 0);
    return nbd_holders(tree->root, &device, 900, list, ROOM, &reason);
}

static void assert_holder(int i, enum holder_kind kind, const char *device, const char *description)
{
    char *text = holder_describe(&list[i]);

    assert_int_equal(list[i].kind, kind);
    assert_string_equal(list[i].device, device);
    assert_string_equal(text, description);
    free(text);
}

static void a_free_device_has_no_holders(void **state)
{
    const struct tree *tree = *state;

    put_process(tree, "812", "sh", "mnt:[1]");
    tree_file(tree, "proc/swaps", "Filename Type Size Used Priority\n/dev/nbd10 partition 1 0 -2\n");
    tree_file(tree, "proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
    assert_int_equal(holders(tree), 0);
}

static void without_proc_there_is_no_answer(void **state)
{
    struct nbd_device device = {.index = 1};
    const struct tree *tree = *state;

    tree_disk(tree, 2);
    tree_link(tree, "other/sys", "../sys");
    {
        char root[128];

        snprintf(root, sizeof root, "%s/other", tree->root);
        assert_int_equal(nbd_holders(root, &device, 0, list, ROOM, &reason), -ENOENT);
        assert_non_null(strstr(reason.text, "/dev/nbd1"));
        device.index = 7;
        assert_int_equal(nbd_holders(root, &device, 0, list, ROOM, &reason), -ENODEV);
    }
}

static void mounts_are_found_by_number_and_by_source(void **state)
{
    const struct tree *tree = *state;

    tree_file(tree, "proc/self/mountinfo",
              "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
              "23 22 43:32 / /mnt/a\\040b rw,relatime shared:1 master:2 - ext4 /dev/somewhere rw\n"
              "24 22 0:45 /@ /mnt/btrfs rw - btrfs /dev/nbd1p2 rw,subvolid=256\n"
              "25 22 0:46 / /mnt/no rw - btrfs /dev/nbd10p2 rw\n"
              "26 22 43:33 / /mnt/p1 rw - vfat  rw\n"
              "a line that is none\n");
    assert_int_equal(holders(tree), 3);
    assert_holder(0, HOLDER_MOUNT, "nbd1", "mounted on /mnt/a b");
    assert_holder(1, HOLDER_MOUNT, "nbd1p2", "mounted on /mnt/btrfs");
    assert_holder(2, HOLDER_MOUNT, "nbd1p1", "mounted on /mnt/p1");
}

static void an_external_log_is_a_mount_too(void **state)
{
    const struct tree *tree = *state;

    tree_file(tree, "proc/self/mountinfo",
              "23 22 8:2 / /srv rw - xfs /dev/sda2 rw,attr2,logdev=/dev/nbd1p1,noquota\n");
    assert_int_equal(holders(tree), 1);
    assert_holder(0, HOLDER_MOUNT, "nbd1p1", "mounted on /srv");
}

static void one_device_of_a_btrfs_is_enough(void **state)
{
    const struct tree *tree = *state;

    tree_folder(tree, "sys/fs/btrfs/0-uuid/devices/nbd1");
    tree_folder(tree, "sys/fs/btrfs/0-uuid/devices/vda");
    tree_folder(tree, "sys/fs/btrfs/1-uuid/devices/vdb");
    tree_folder(tree, "sys/fs/btrfs/features");
    tree_file(tree, "proc/self/mountinfo",
              "23 22 0:44 / /pool rw - btrfs /dev/vda rw\n"
              "24 22 0:45 / /other rw - btrfs /dev/vdb rw\n");
    assert_int_equal(holders(tree), 1);
    assert_holder(0, HOLDER_MOUNT, "nbd1", "mounted on /pool");
}

static void mounts_of_other_namespaces_say_whose(void **state)
{
    const struct tree *tree = *state;

    tree_file(tree, "proc/self/mountinfo", "23 22 43:32 / /mnt rw - ext4 /dev/nbd1 rw\n");
    put_process(tree, "812", "qemu\033", "mnt:[2]");
    tree_file(tree, "proc/812/mountinfo",
              "33 32 43:32 / /mnt rw - ext4 /dev/nbd1 rw\n34 32 43:32 / /own rw - ext4 /dev/nbd1 rw\n");
    put_process(tree, "814", "sh", "mnt:[1]");
    tree_file(tree, "proc/814/mountinfo", "1 1 43:32 / /ours rw - ext4 /dev/nbd1 rw\n");
    assert_int_equal(holders(tree), 2);
    assert_holder(0, HOLDER_MOUNT, "nbd1", "mounted on /mnt");
    assert_holder(1, HOLDER_MOUNT, "nbd1", "mounted on /own (as qemu\\x1b, pid 812, sees it)");
}

/* As kdevtmpfs has them: no process need be left in its namespace. */
static void mounts_that_a_kernel_thread_sees_count(void **state)
{
    const struct tree *tree = *state;

    put_process(tree, "40", "kdevtmpfs", "mnt:[3]");
    tree_file(tree, "proc/40/stat", "40 (kdevtmpfs) S 2 0 0 0 -1 2097472 0 0\n");
    tree_file(tree, "proc/40/mountinfo", "33 32 43:32 / /mnt rw - ext4 /dev/nbd1 rw\n");
    assert_int_equal(holders(tree), 1);
    assert_holder(0, HOLDER_MOUNT, "nbd1", "mounted on /mnt (as kdevtmpfs, pid 40, sees it)");
}

static void each_namespace_is_read_once(void **state)
{
    const struct tree *tree = *state;

    put_process(tree, "812", "qemu", "mnt:[2]");
    tree_file(tree, "proc/812/mountinfo", "34 32 43:32 / /a rw - ext4 /dev/nbd1 rw\n");
    put_process(tree, "813", "qemu", "mnt:[2]");
    tree_file(tree, "proc/813/mountinfo", "34 32 43:32 / /b rw - ext4 /dev/nbd1 rw\n");
    assert_int_equal(holders(tree), 1);
}

/* A process in a chroot shows less of the same namespace: what it hides must not hide the rest. */
static void a_chroot_does_not_stand_for_its_namespace(void **state)
{
    const struct tree *tree = *state;

    put_process(tree, "812", "chrooted", "mnt:[2]");
    tree_delete(tree, "proc/812/root");
    tree_link(tree, "proc/812/root", "/proc");
    tree_file(tree, "proc/812/mountinfo", "%s", "");
    put_process(tree, "813", "free", "mnt:[2]");
    tree_file(tree, "proc/813/mountinfo", "33 32 43:32 / /mnt rw - ext4 /dev/nbd1 rw\n");
    assert_int_equal(holders(tree), 1);
    assert_holder(0, HOLDER_MOUNT, "nbd1", "mounted on /mnt (as free, pid 813, sees it)");
}

static void swap_space_is_found(void **state)
{
    const struct tree *tree = *state;

    tree_file(tree, "proc/swaps",
              "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
              "/dev/nbd1p2                             partition\t1023\t\t0\t\t-2\n"
              "/swap\\040file                          file\t\t1023\t\t0\t\t-3\n");
    assert_int_equal(holders(tree), 1);
    assert_holder(0, HOLDER_SWAP, "nbd1p2", "swap space");
    assert_string_equal(list[0].name, "/dev/nbd1p2");
}

static void nodes_elsewhere_are_recognised(void **state)
{
    const struct tree *tree = *state;

    if (!tree_node(tree, "dev/my disk", 43, 34))
        SKIP("device nodes cannot be made");
    tree_link(tree, "dev/disk/by-id/nbd-x", "../../my disk");
    tree_file(tree, "proc/swaps", "header\n/dev/my\\040disk partition 1 0 -2\n");
    tree_file(tree, "proc/self/mountinfo", "23 22 0:9 / /m rw - btrfs /dev/disk/by-id/nbd-x rw\n");
    assert_int_equal(holders(tree), 2);
    assert_holder(0, HOLDER_SWAP, "nbd1p2", "swap space");
    assert_holder(1, HOLDER_MOUNT, "nbd1p2", "mounted on /m");
}

static void devices_on_top_are_found(void **state)
{
    const struct tree *tree = *state;

    tree_folder(tree, "sys/block/nbd1/holders/dm-0");
    tree_file(tree, "sys/block/dm-0/dm/name", "vg-root\n");
    tree_folder(tree, "sys/block/nbd1/nbd1p1/holders/md127");
    tree_file(tree, "sys/block/loop3/loop/backing_file", "/dev/nbd1p2\n");
    tree_file(tree, "sys/block/loop4/loop/backing_file", "/var/nbd1p2\n");
    tree_folder(tree, "sys/block/loop5");
    assert_int_equal(holders(tree), 3);
    assert_holder(0, HOLDER_DEVICE, "nbd1", "held by dm-0 (vg-root)");
    assert_holder(1, HOLDER_DEVICE, "nbd1p1", "held by md127");
    assert_holder(2, HOLDER_DEVICE, "nbd1p2", "held by loop3");
}

static void put_open(const struct tree *tree, const char *pid, const char *command)
{
    char path[64];

    put_process(tree, pid, command, "mnt:[1]");
    snprintf(path, sizeof path, "proc/%s/fd/3", pid);
    tree_link(tree, path, "../../../dev/elsewhere");
    snprintf(path, sizeof path, "proc/%s/fd/4", pid);
    tree_link(tree, path, "../../../dev/elsewhere");
    snprintf(path, sizeof path, "proc/%s/fd/5", pid);
    tree_link(tree, path, "socket:[1234]");
    snprintf(path, sizeof path, "proc/%s/fd/6", pid);
    tree_link(tree, path, "../../../dev/other");
}

static void open_descriptors_are_found(void **state)
{
    const struct tree *tree = *state;

    if (!tree_node(tree, "dev/elsewhere", 43, 33) || !tree_node(tree, "dev/other", 8, 33))
        SKIP("device nodes cannot be made");
    put_open(tree, "812", "a) b (c");
    tree_folder(tree, "proc/sys");
    assert_int_equal(holders(tree), 1);
    assert_holder(0, HOLDER_PROCESS, "nbd1p1", "open by a) b (c (pid 812)");
}

static void some_processes_do_not_count(void **state)
{
    static const char *const udev[] = {"(udev-worker)", "systemd-udevd", "udevd"};
    const struct tree *tree = *state;
    char pid[16];

    if (!tree_node(tree, "dev/elsewhere", 43, 33))
        SKIP("device nodes cannot be made");
    for (unsigned i = 0; i < 3; i++) {
        snprintf(pid, sizeof pid, "%u", 100 + i);
        put_open(tree, pid, udev[i]);
    }
    put_open(tree, "900", "except_pid");
    snprintf(pid, sizeof pid, "%d", getpid());
    put_open(tree, pid, "ourselves");
    put_open(tree, "200", "kthread");
    tree_file(tree, "proc/200/stat", "200 (k) (thread) I 2 0 0 0 -1 69238880 0 0\n");
    assert_int_equal(holders(tree), 0);
    tree_file(tree, "proc/200/stat", "garbage");
    assert_int_equal(holders(tree), 1);
    assert_holder(0, HOLDER_PROCESS, "nbd1p1", "open by kthread (pid 200)");
    tree_delete(tree, "proc/200/comm");
    assert_int_equal(holders(tree), 1);
    assert_holder(0, HOLDER_PROCESS, "nbd1p1", "open by ? (pid 200)");
}

static void put_maps(const struct tree *tree, const char *pid, const char *command)
{
    char path[64];

    put_process(tree, pid, command, "mnt:[1]");
    snprintf(path, sizeof path, "proc/%s/maps", pid);
    tree_file(tree, path,
              "00400000-00401000 r-xp 00000000 fe:00 812                /usr/bin/cat\n"
              "00500000-00501000 rw-p 00000000 00:00 0\n"
              "7f0000000000-7f0000001000 rw-s 00000000 00:06 99         /dev/else where\n"
              "7f0000002000-7f0000003000 rw-s 00000000 00:06 99         /dev/else where\n"
              "no line\n\n"
              "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]\n");
    snprintf(path, sizeof path, "proc/%s/map_files/400000-401000", pid);
    tree_link(tree, path, "../../../dev/null");
    snprintf(path, sizeof path, "proc/%s/map_files/7f0000000000-7f0000001000", pid);
    tree_link(tree, path, "../../../dev/elsewhere");
}

static void mappings_are_found(void **state)
{
    const struct tree *tree = *state;
    char pid[16];

    if (!tree_node(tree, "dev/elsewhere", 43, 33))
        SKIP("device nodes cannot be made");
    tree_file(tree, "dev/null", "%s", "");
    put_maps(tree, "812", "qemu");
    put_maps(tree, "813", "sh");
    put_maps(tree, "814", "systemd-udevd");
    put_maps(tree, "900", "except_pid");
    snprintf(pid, sizeof pid, "%d", getpid());
    put_maps(tree, pid, "ourselves");
    tree_delete(tree, "proc/813/map_files/7f0000000000-7f0000001000");
    assert_int_equal(holders(tree), 1);
    assert_holder(0, HOLDER_PROCESS, "nbd1p1", "open by qemu (pid 812)");
}

/* The address is another file's in each process: only the same file is passed over. */
static void small_mapped_addresses_are_found(void **state)
{
    const struct tree *tree = *state;

    if (!tree_node(tree, "dev/elsewhere", 43, 33))
        SKIP("device nodes cannot be made");
    put_maps(tree, "812", "free");
    put_process(tree, "813", "low", "mnt:[1]");
    tree_file(tree, "proc/813/maps", "00400000-00401000 r--p 00000000 00:06 99 /dev/node\n");
    tree_link(tree, "proc/813/map_files/400000-401000", "../../../dev/elsewhere");
    tree_delete(tree, "proc/812/map_files/7f0000000000-7f0000001000");
    assert_int_equal(holders(tree), 1);
    assert_holder(0, HOLDER_PROCESS, "nbd1p1", "open by low (pid 813)");
}

/* The first thread has ended: /proc/PID shows nothing, but the others have it all. */
static void threads_without_their_first_are_found(void **state)
{
    const struct tree *tree = *state;

    if (!tree_node(tree, "dev/elsewhere", 43, 33))
        SKIP("device nodes cannot be made");
    put_process(tree, "812", "server) Z", "mnt:[1]");
    tree_folder(tree, "proc/812/task/812/fd");
    tree_link(tree, "proc/812/task/813/fd/3", "../../../../../dev/elsewhere");
    tree_link(tree, "proc/812/task/813/ns/mnt", "mnt:[2]");
    tree_file(tree, "proc/812/task/813/mountinfo", "23 22 43:32 / /mnt rw - ext4 d rw\n");
    assert_int_equal(holders(tree), 0);
    tree_file(tree, "proc/812/stat", "812 (server) Z) Z 1 1 1 0 -1 4194560 1 2 3");
    assert_int_equal(holders(tree), 2);
    assert_holder(0, HOLDER_MOUNT, "nbd1", "mounted on /mnt (as server) Z, pid 812, sees it)");
    assert_holder(1, HOLDER_PROCESS, "nbd1p1", "open by server) Z (pid 812)");
}

static void other_nodes_are_not_asked_as_loop_devices(void **state)
{
    const struct tree *tree = *state;

    tree_file(tree, "sys/block/loop3/loop/backing_file", "/var/nbd1p2\n");
    tree_file(tree, "dev/loop3", "%s", "");
    assert_int_equal(holders(tree), 0);
    tree_file(tree, "sys/block/loop3/dev", "43:32\n");
    tree_delete(tree, "dev/loop3");
    if (!tree_node(tree, "dev/loop3", 43, 32))
        SKIP("device nodes cannot be made");
    assert_int_equal(holders(tree), 0);
}

static void more_holders_than_room_are_counted(void **state)
{
    const struct tree *tree = *state;
    char path[64];

    for (unsigned i = 0; i < 40; i++) {
        snprintf(path, sizeof path, "sys/block/nbd1/holders/dm-%u", i);
        tree_folder(tree, path);
    }
    assert_int_equal(holders(tree), 40);
    assert_string_equal(list[ROOM - 1].device, "nbd1");
}

static void names_are_made_safe_and_cut(void **state)
{
    const struct tree *tree = *state;
    char path[600];

    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = '\0';
    tree_file(tree, "proc/self/mountinfo",
              "23 22 43:32 / /a\\033[2J rw - ext4 d rw\n24 22 43:32 / /%s rw - ext4 d rw\n", path);
    assert_int_equal(holders(tree), 2);
    assert_holder(0, HOLDER_MOUNT, "nbd1", "mounted on /a\\x1b[2J");
    assert_int_equal(strlen(list[1].name), sizeof list[1].name - 1);
}

static void partitions_that_vanish_do_no_harm(void **state)
{
    const struct tree *tree = *state;

    tree_delete(tree, "sys/block/nbd1/nbd1p1/dev");
    tree_file(tree, "sys/block/nbd1/nbd1p2/dev", "none\n");
    tree_file(tree, "proc/self/mountinfo",
              "23 22 43:32 / /mnt rw - ext4 d rw\n24 22 43:34 / /no rw - ext4 d rw\n");
    assert_int_equal(holders(tree), 1);
}

static void mount_lines_are_taken_apart(void **state)
{
    static const char *const wrong[] = {"",
                                        " ",
                                        "1 2 3:4",
                                        "1 2 3:4 / /p rw",
                                        "1 2 3:4 / /p rw - ext4 src",
                                        "1 2 3 / /p rw - t s o",
                                        "1 2 3:4 / /p rw ext4 s o"};
    char line[256] = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/a\\134b rw,errors=continue";
    struct mount_line mount;

    (void)state;
    assert_int_equal(mount_line_parse(line, &mount), 0);
    assert_int_equal(mount.major, 98);
    assert_int_equal(mount.minor, 0);
    assert_string_equal(mount.point, "/mnt 2");
    assert_string_equal(mount.type, "ext3");
    assert_string_equal(mount.source, "/dev/a\\b");
    assert_string_equal(mount.options, "rw,errors=continue");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        snprintf(line, sizeof line, "%s", wrong[i]);
        assert_int_equal(mount_line_parse(line, &mount), -EBADMSG);
    }
}

/* The machine's own /proc: nothing of it may be a surprise. */
static void the_real_proc_is_understood(void **state)
{
    const struct nbd_device device = {.index = 1, .major = 43, .minor = 32};
    const struct tree *tree = *state;

    tree_link(tree, "real/proc", "/proc");
    tree_link(tree, "real/dev", "/dev");
    tree_link(tree, "real/sys", "../sys");
    {
        char root[128];

        snprintf(root, sizeof root, "%s/real", tree->root);
        assert_true(nbd_holders(root, &device, 0, list, ROOM, &reason) >= 0);
    }
}

/* ---- the machine's own /proc and loop devices, one of which stands for nbd1 ---- */

struct real {
    const struct tree *tree;
    char root[128];
    struct nbd_device device;
    int fd;
};

static int make_loop(const char *backing, unsigned *number)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), file = open(backing, O_RDWR | O_CLOEXEC);
    struct loop_config config = {.fd = (__u32)file, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
    int free_loop, fd = -1;
    char path[32];

    /* Others may want the same one. */
    for (int i = 0; i < 10 && fd < 0 && control >= 0 && file >= 0; i++) {
        free_loop = ioctl(control, LOOP_CTL_GET_FREE);
        snprintf(path, sizeof path, "/dev/loop%d", free_loop);
        fd = free_loop < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) < 0) {
            close(fd);
            fd = -1;
        }
        *number = (unsigned)free_loop;
    }
    close(control);
    close(file);
    return fd;
}

/* False where loop devices cannot be made. */
static bool make_real(const struct tree *tree, struct real *real)
{
    char path[128];

    *real = (struct real){.tree = tree, .device = {.index = 1, .major = LOOP_MAJOR}};
    tree_file(tree, "image", "%*s", 1 << 20, "");
    snprintf(path, sizeof path, "%s/image", tree->root);
    real->fd = make_loop(path, &real->device.minor);
    tree_link(tree, "real/proc", "/proc");
    tree_link(tree, "real/dev", "/dev");
    tree_link(tree, "real/sys", "../sys");
    snprintf(real->root, sizeof real->root, "%s/real", tree->root);
    return real->fd >= 0;
}

static int real_holders(const struct real *real)
{
    memset(list, 0, sizeof list);
    return nbd_holders(real->root, &real->device, 0, list, ROOM, &reason);
}

/* With mounts by which the node would be on a server, or not: the driver would ask that, and wait. */
static void check_remote(struct real *real)
{
    const struct tree *tree = real->tree;

    tree_link(tree, "dev", "/dev");
    snprintf(real->root, sizeof real->root, "%s", tree->root);
    tree_file(tree, "proc/self/mountinfo", "22 1 0:45 / / rw - nfs4 server:/ rw\n");
    assert_int_equal(real_holders(real), 0);
    tree_file(tree, "proc/self/mountinfo",
              "23 22 8:1 / /tmp rw - ext4 /dev/sda1 rw\n"
              "22 1 0:45 / / rw - nfs4 server:/ rw\n"
              "24 22 0:46 / /tm rw - nfs4 server:/ rw\n");
    assert_int_equal(real_holders(real), 1);
}

/* By a node of another name, which nobody would look for. */
static void a_loop_device_on_a_node_elsewhere_is_found(void **state)
{
    const struct tree *tree = *state;
    char path[128], name[64], text[64];
    unsigned number = 0;
    struct real real;
    int fd = -1;

    if (make_real(tree, &real) && tree_node(tree, "any", LOOP_MAJOR, real.device.minor)) {
        snprintf(path, sizeof path, "%s/any", tree->root);
        fd = make_loop(path, &number);
    }
    if (fd < 0) {
        close(real.fd);
        SKIP("loop devices cannot be made");
    }
    snprintf(name, sizeof name, "sys/block/loop%u", number);
    snprintf(path, sizeof path, "/%s", name);
    tree_link(tree, name, path);
    snprintf(text, sizeof text, "held by loop%u", number);
    assert_int_equal(real_holders(&real), 1);
    assert_holder(0, HOLDER_DEVICE, "nbd1", text);
    check_remote(&real);
    close(fd);
    close(real.fd);
}

static pid_t start_child(const struct real *real, void (*function)(int fd))
{
    char path[32];
    int ends[2];
    char byte;
    pid_t pid;

    snprintf(path, sizeof path, "/dev/loop%u", real->device.minor);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(real->fd);
        function(open(path, O_RDWR | O_CLOEXEC));
        close(ends[0]);
        close(ends[1]);
        pause();
        _exit(0);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 0);
    close(ends[0]);
    return pid;
}

static void check_child(const struct real *real, pid_t pid)
{
    char text[64];
    int r = real_holders(real);

    /* First of all, as it would outlive a test that fails. */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    snprintf(text, sizeof text, "open by test_netlink_ho (pid %d)", pid);
    assert_int_equal(r, 1);
    assert_holder(0, HOLDER_PROCESS, "nbd1", text);
    assert_int_equal(real_holders(real), 0);
    close(real->fd);
}

static void map_only(int fd)
{
    if (mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
        _exit(1);
    close(fd);
}

/* Under valgrind the processes are not what they seem: it maps files by its own hand and keeps the first
 * thread. */
static bool under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");

    return preload && strstr(preload, "vgpreload");
}

static void a_mapping_alone_is_found(void **state)
{
    struct real real;

    if (under_valgrind())
        SKIP("valgrind");
    if (!make_real(*state, &real))
        SKIP("loop devices cannot be made");
    check_child(&real, start_child(&real, map_only));
}

static void *wait_for_ever(void *argument)
{
    for (;;)
        pause();
    return argument;
}

static void leave(int fd)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, wait_for_ever, NULL) != 0)
        _exit(1);
    /* What the parent waits for is closed as well. */
    for (int i = 3; i < 64; i++)
        if (i != fd)
            close(i);
    pthread_exit(NULL);
}

static void map_and_leave(int fd)
{
    map_only(fd);
    leave(-1);
}

/* Until the first thread has ended: its state follows the name. */
static void wait_headless(pid_t pid)
{
    char path[32], text[512];

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    for (int i = 0; i < 500; i++) {
        FILE *file = fopen(path, "re");
        bool gone = file && fgets(text, sizeof text, file) && strstr(text, ") Z ");

        if (file)
            fclose(file);
        if (gone)
            return;
        usleep(10000);
    }
    kill(pid, SIGKILL);
    fail();
}

static void a_process_without_its_first_thread_is_found(void **state)
{
    void (*const functions[])(int) = {leave, map_and_leave};
    struct real real;
    pid_t pid;

    if (under_valgrind())
        SKIP("valgrind");
    for (int i = 0; i < 2; i++) {
        if (!make_real(*state, &real))
            SKIP("loop devices cannot be made");
        pid = start_child(&real, functions[i]);
        wait_headless(pid);
        check_child(&real, pid);
        tree_delete(*state, "real/proc");
        tree_delete(*state, "real/dev");
        tree_delete(*state, "real/sys");
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, create, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_free_device_has_no_holders),
        TEST(without_proc_there_is_no_answer),
        TEST(mounts_are_found_by_number_and_by_source),
        TEST(an_external_log_is_a_mount_too),
        TEST(one_device_of_a_btrfs_is_enough),
        TEST(mounts_of_other_namespaces_say_whose),
        TEST(mounts_that_a_kernel_thread_sees_count),
        TEST(each_namespace_is_read_once),
        TEST(a_chroot_does_not_stand_for_its_namespace),
        TEST(swap_space_is_found),
        TEST(nodes_elsewhere_are_recognised),
        TEST(devices_on_top_are_found),
        TEST(open_descriptors_are_found),
        TEST(some_processes_do_not_count),
        TEST(mappings_are_found),
        TEST(small_mapped_addresses_are_found),
        TEST(threads_without_their_first_are_found),
        TEST(other_nodes_are_not_asked_as_loop_devices),
        TEST(more_holders_than_room_are_counted),
        TEST(names_are_made_safe_and_cut),
        TEST(partitions_that_vanish_do_no_harm),
        cmocka_unit_test(mount_lines_are_taken_apart),
        TEST(the_real_proc_is_understood),
        TEST(a_loop_device_on_a_node_elsewhere_is_found),
        TEST(a_mapping_alone_is_found),
        TEST(a_process_without_its_first_thread_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
