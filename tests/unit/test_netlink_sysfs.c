/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmocka_all.h"
#include "ktext.h"
#include "netlink_tree.h"
#include "sysfs.h"

static struct netlink_reason reason;

static void a_device_is_read(void **state)
{
    const struct tree *tree = *state;
    struct nbd_device device;

    tree_disk(tree, 3);
    assert_int_equal(nbd_device_read(tree->root, 3, &device, &reason), 0);
    assert_int_equal(device.index, 3);
    assert_true(device.attached);
    assert_int_equal(device.pid, 812);
    assert_int_equal(device.size, 1 << 20);
    assert_false(device.read_only);
    assert_int_equal(device.major, 43);
    assert_int_equal(device.minor, 96);
    assert_int_equal(device.logical_block_size, 512);
    assert_int_equal(device.max_sectors_kb, 128);
    assert_int_equal(device.max_hw_sectors_kb, 32768);
    assert_int_equal(device.write_zeroes_max, 2199023255040);
    assert_int_equal(device.diskseq, 17);
    assert_string_equal(device.backend, "disk0");
}

static void a_device_stays_the_same_or_not(void **state)
{
    static const char *const changes[][2] = {{"pid", "813"}, {"diskseq", "18"}, {"backend", "disk1"}};
    const struct tree *tree = *state;
    struct nbd_device device;
    char path[64];

    for (size_t i = 0; i < 3; i++) {
        tree_disk(tree, 3);
        assert_int_equal(nbd_device_read(tree->root, 3, &device, &reason), 0);
        tree_file(tree, "sys/block/nbd3/size", "4096\n");
        assert_true(nbd_device_same(tree->root, &device));
        snprintf(path, sizeof path, "sys/block/nbd3/%s", changes[i][0]);
        tree_file(tree, path, "%s\n", changes[i][1]);
        assert_false(nbd_device_same(tree->root, &device));
        tree_delete(tree, path);
        assert_false(nbd_device_same(tree->root, &device));
    }
    device.index = 4;
    assert_false(nbd_device_same(tree->root, &device));
}

/* Before Linux 5.15. */
static void without_a_diskseq_it_can_be_the_same(void **state)
{
    const struct tree *tree = *state;
    struct nbd_device device;

    tree_disk(tree, 3);
    tree_delete(tree, "sys/block/nbd3/diskseq");
    assert_int_equal(nbd_device_read(tree->root, 3, &device, &reason), 0);
    assert_true(nbd_device_same(tree->root, &device));
}

static void without_a_pid_it_is_not_attached(void **state)
{
    const struct tree *tree = *state;
    struct nbd_device device;

    tree_disk(tree, 0);
    tree_delete(tree, "sys/block/nbd0/pid");
    tree_delete(tree, "sys/block/nbd0/backend");
    tree_delete(tree, "sys/block/nbd0/diskseq");
    tree_file(tree, "sys/block/nbd0/size", "0\n");
    assert_int_equal(nbd_device_read(tree->root, 0, &device, &reason), 0);
    assert_false(device.attached);
    assert_int_equal(device.pid, 0);
    assert_int_equal(device.diskseq, 0);
    assert_string_equal(device.backend, "");
}

static void an_absent_device_is_not_there(void **state)
{
    const struct tree *tree = *state;
    struct nbd_device device;

    assert_int_equal(nbd_device_read(tree->root, 3, &device, &reason), -ENODEV);
    assert_string_equal(reason.text, "there is no device /dev/nbd3");
    assert_int_equal(nbd_partitions(tree->root, 3, NULL, 0, &reason), -ENODEV);
}

/* It vanishes between two reads: the folder is there, the rest no more. */
static void a_vanishing_device_is_not_there(void **state)
{
    const struct tree *tree = *state;
    struct nbd_device device;

    tree_file(tree, "sys/block/nbd0/dev", "43:0\n");
    assert_int_equal(nbd_device_read(tree->root, 0, &device, &reason), -ENODEV);
    tree_file(tree, "sys/block/nbd1", "not even a folder");
    assert_int_equal(nbd_device_read(tree->root, 1, &device, &reason), -ENODEV);
}

static void values_that_make_no_sense_are_refused(void **state)
{
    static const char *const wrong[][2] = {
        {"dev", "43"},
        {"dev", "43:"},
        {"dev", ":0"},
        {"dev", "43:0:1"},
        {"dev", "4294967296:0"},
        {"dev", "-1:0"},
        {"size", ""},
        {"size", "-1"},
        {"size", " 1"},
        {"size", "1 "},
        {"size", "0x10"},
        {"size", "36028797018963968"},
        {"size", "99999999999999999999"},
        {"ro", "2"},
        {"ro", "yes"},
        {"pid", "-1"},
        {"pid", ""},
        {"pid", "2147483648"},
        {"queue/logical_block_size", "4294967296"},
        {"diskseq", "18446744073709551616"},
    };
    const struct tree *tree = *state;
    struct nbd_device device;
    char path[64];

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        tree_disk(tree, 0);
        snprintf(path, sizeof path, "sys/block/nbd0/%s", wrong[i][0]);
        tree_file(tree, path, "%s\n", wrong[i][1]);
        assert_int_equal(nbd_device_read(tree->root, 0, &device, &reason), -EBADMSG);
        assert_non_null(strstr(reason.text, wrong[i][0]));
    }
}

static void large_values_are_taken(void **state)
{
    const struct tree *tree = *state;
    struct nbd_device device;

    tree_disk(tree, 0);
    tree_file(tree, "sys/block/nbd0/size", "36028797018963967\n");
    tree_file(tree, "sys/block/nbd0/diskseq", "18446744073709551615\n");
    tree_file(tree, "sys/block/nbd0/ro", "1\n");
    assert_int_equal(nbd_device_read(tree->root, 0, &device, &reason), 0);
    assert_true(device.size == UINT64_MAX - 511);
    assert_true(device.diskseq == UINT64_MAX);
    assert_true(device.read_only);
}

static void backends_are_cut_to_what_fits(void **state)
{
    const struct tree *tree = *state;
    struct nbd_device device;
    char text[5000];

    tree_disk(tree, 0);
    tree_file(tree, "sys/block/nbd0/backend", "with blanks\nand lines\n\n");
    assert_int_equal(nbd_device_read(tree->root, 0, &device, &reason), 0);
    assert_string_equal(device.backend, "with blanks\nand lines\n");
    memset(text, 'x', sizeof text);
    tree_file(tree, "sys/block/nbd0/backend", "%.300s\n", text);
    assert_int_equal(nbd_device_read(tree->root, 0, &device, &reason), 0);
    assert_int_equal(strlen(device.backend), NBD_BACKEND_MAX);
    tree_file(tree, "sys/block/nbd0/backend", "%.4999s\n", text);
    assert_int_equal(nbd_device_read(tree->root, 0, &device, &reason), -EFBIG);
}

static void devices_are_listed_in_order(void **state)
{
    static const unsigned indexes[] = {10, 2, 0, 100};
    const struct tree *tree = *state;
    struct nbd_device *list = NULL;

    for (size_t i = 0; i < 4; i++)
        tree_disk(tree, indexes[i]);
    tree_folder(tree, "sys/block/nbd");
    tree_folder(tree, "sys/block/nbd1x");
    tree_folder(tree, "sys/block/nbd01");
    tree_folder(tree, "sys/block/nbd5");
    tree_folder(tree, "sys/block/sda");
    assert_int_equal(nbd_device_list(tree->root, &list, &reason), 4);
    assert_int_equal(list[0].index, 0);
    assert_int_equal(list[1].index, 2);
    assert_int_equal(list[2].index, 10);
    assert_int_equal(list[3].index, 100);
    free(list);
}

static void many_devices_are_listed(void **state)
{
    const struct tree *tree = *state;
    struct nbd_device *list = NULL;

    for (unsigned i = 0; i < 70; i++)
        tree_disk(tree, i);
    assert_int_equal(nbd_device_list(tree->root, &list, &reason), 70);
    assert_int_equal(list[69].index, 69);
    free(list);
}

static void lists_may_be_empty_or_fail(void **state)
{
    const struct tree *tree = *state;
    struct nbd_device *list = NULL;

    assert_int_equal(nbd_device_list(tree->root, &list, &reason), -ENOENT);
    tree_folder(tree, "sys/block");
    assert_int_equal(nbd_device_list(tree->root, &list, &reason), 0);
    assert_null(list);
    tree_disk(tree, 0);
    tree_file(tree, "sys/block/nbd0/size", "many\n");
    assert_int_equal(nbd_device_list(tree->root, &list, &reason), -EBADMSG);
}

static void partitions_are_listed_in_order(void **state)
{
    const struct tree *tree = *state;
    unsigned numbers[4] = {0};

    tree_disk(tree, 1);
    assert_int_equal(nbd_partitions(tree->root, 1, numbers, 4, &reason), 0);
    tree_partition(tree, 1, 12);
    tree_partition(tree, 1, 2);
    tree_partition(tree, 1, 1);
    tree_folder(tree, "sys/block/nbd1/nbd1p7");
    tree_folder(tree, "sys/block/nbd1/nbd2p1");
    assert_int_equal(nbd_partitions(tree->root, 1, numbers, 4, &reason), 3);
    assert_int_equal(numbers[0], 1);
    assert_int_equal(numbers[1], 2);
    assert_int_equal(numbers[2], 12);
    assert_int_equal(nbd_partitions(tree->root, 1, numbers, 1, &reason), 3);
    assert_int_equal(nbd_partitions(tree->root, 1, NULL, 0, &reason), 3);
}

static void queue_attributes_are_set(void **state)
{
    const struct tree *tree = *state;
    char path[128], text[64];

    tree_disk(tree, 0);
    assert_int_equal(nbd_queue_set(tree->root, 0, "max_sectors_kb", 18446744073709551615U, &reason), 0);
    snprintf(path, sizeof path, "%s/sys/block/nbd0/queue/max_sectors_kb", tree->root);
    assert_true(ktext_read(path, text, sizeof text) > 0);
    assert_string_equal(text, "18446744073709551615");
    assert_int_equal(nbd_queue_set(tree->root, 0, "no_such", 1, &reason), -ENODEV);
    assert_int_equal(nbd_queue_set(tree->root, 1, "max_sectors_kb", 1, &reason), -ENODEV);
    assert_non_null(strstr(reason.text, "max_sectors_kb to 1"));
    tree_folder(tree, "sys/block/nbd0/queue/folder");
    assert_int_equal(nbd_queue_set(tree->root, 0, "folder", 1, &reason), -EISDIR);
}

static void kernel_names_are_parsed(void **state)
{
    static const struct {
        const char *name;
        int result;
        uint32_t index;
        unsigned partition;
    } rows[] = {
        {"nbd0", 0, 0, 0},
        {"nbd15", 0, 15, 0},
        {"nbd0p1", 0, 0, 1},
        {"nbd10p255", 0, 10, 255},
        {"nbd2147483647", 0, 2147483647, 0},
        {"nbd2147483648", -EINVAL, 0, 0},
        {"", -EINVAL, 0, 0},
        {"nbd", -EINVAL, 0, 0},
        {"nbd00", -EINVAL, 0, 0},
        {"nbd-1", -EINVAL, 0, 0},
        {"nbd1p", -EINVAL, 0, 0},
        {"nbd1p0", -EINVAL, 0, 0},
        {"nbd1p01", -EINVAL, 0, 0},
        {"nbd1p1x", -EINVAL, 0, 0},
        {"nbd1 ", -EINVAL, 0, 0},
        {"sda1", -EINVAL, 0, 0},
        {"xnbd1", -EINVAL, 0, 0},
        {"nbd1q1", -EINVAL, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t index = 0;
        unsigned partition = 0;

        assert_int_equal(nbd_name_parse(rows[i].name, &index, &partition), rows[i].result);
        assert_int_equal(index, rows[i].index);
        assert_int_equal(partition, rows[i].partition);
    }
}

static int resolve(const struct tree *tree, const char *name)
{
    uint32_t index;
    int r = nbd_device_resolve(tree->root, name, &index, &reason);

    return r < 0 ? r : (int)index;
}

static void devices_go_by_many_names(void **state)
{
    const struct tree *tree = *state;

    tree_disk(tree, 3);
    tree_file(tree, "dev/nbd3", "as good as a node here");
    tree_link(tree, "dev/disk/by-id/nbd-disk0", "../../nbd3");
    tree_link(tree, "dev/disk/by-id/again", "nbd-disk0");
    assert_int_equal(resolve(tree, "3"), 3);
    assert_int_equal(resolve(tree, "nbd3"), 3);
    assert_int_equal(resolve(tree, "/dev/nbd3"), 3);
    assert_int_equal(resolve(tree, "/dev/../dev/nbd3"), 3);
    assert_int_equal(resolve(tree, "/dev/disk/by-id/nbd-disk0"), 3);
    assert_int_equal(resolve(tree, "/dev/disk/by-id/again"), 3);
}

static void other_names_are_refused(void **state)
{
    static const char *const wrong[] = {
        "",         "-1",    "+3", "3x",    "0x3",    "2147483648", "sda",        "nbd03",      "nbd3p",
        "/dev/sda", "/dev/", "/",  "nbd3 ", "nbd3\n", "/etc/nbd3",  "/dev/nbd3/", "/dev/x/nbd3"};
    const struct tree *tree = *state;

    tree_disk(tree, 3);
    tree_file(tree, "dev/sda", "another disk");
    tree_file(tree, "dev/x/nbd3", "elsewhere");
    tree_file(tree, "dev/nbd3", "the right one");
    tree_file(tree, "etc/nbd3", "no device");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int r = resolve(tree, wrong[i]);

        if (r != -EINVAL && r != -ENOTDIR)
            fail_msg("'%s': %d", wrong[i], r);
    }
    resolve(tree, "\033[2Jnbd");
    assert_string_equal(reason.text, "\\x1b[2Jnbd is no nbd device");
    assert_string_equal(reason.hint, "name it /dev/nbd0, nbd0 or 0");
}

static void partitions_are_refused_with_the_disk(void **state)
{
    const struct tree *tree = *state;

    tree_disk(tree, 3);
    tree_file(tree, "dev/nbd3p1", "a partition");
    assert_int_equal(resolve(tree, "nbd3p1"), -EINVAL);
    assert_string_equal(reason.text, "nbd3p1 is a partition; the disk is /dev/nbd3");
    assert_int_equal(resolve(tree, "/dev/nbd3p1"), -EINVAL);
    assert_int_equal(resolve(tree, "/dev/nbd3p2"), -EINVAL);
}

static void absent_devices_keep_their_index(void **state)
{
    const struct tree *tree = *state;
    uint32_t index = 5;

    assert_int_equal(nbd_device_resolve(tree->root, "/dev/nbd20", &index, &reason), -ENODEV);
    assert_int_equal(index, 20);
    assert_int_equal(nbd_device_resolve(tree->root, "21", &index, &reason), -ENODEV);
    assert_int_equal(index, 21);
    assert_int_equal(nbd_device_resolve(tree->root, "/dev/disk/by-id/none", &index, &reason), -ENODEV);
    assert_int_equal(index, NBD_INDEX_ANY);
}

static void nodes_are_known_by_their_number(void **state)
{
    const struct tree *tree = *state;

    if (!tree_node(tree, "srv/my disk", 43, 96) || !tree_node(tree, "srv/part", 43, 97) ||
        !tree_node(tree, "dev/nbd3", 8, 0))
        skip();
    tree_disk(tree, 3);
    tree_link(tree, "sys/dev/block/43:96", "../../devices/virtual/block/nbd3");
    tree_link(tree, "sys/dev/block/43:97", "../../devices/virtual/block/nbd3/nbd3p1");
    tree_link(tree, "sys/dev/block/8:0", "../../devices/pci/block/sda");
    assert_int_equal(resolve(tree, "/srv/my disk"), 3);
    assert_int_equal(resolve(tree, "/srv/part"), -EINVAL);
    /* Somebody else's node under our name is theirs. */
    assert_int_equal(resolve(tree, "/dev/nbd3"), -EINVAL);
}

static void decimals_are_strict(void **state)
{
    static const struct {
        const char *text;
        uint64_t max;
        int result;
        uint64_t value;
    } rows[] = {
        {"0", 0, 0, 0},
        {"7", 7, 0, 7},
        {"8", 7, -ERANGE, 0},
        {"10", 9, -ERANGE, 0},
        {"010", 10, 0, 10},
        {"18446744073709551615", UINT64_MAX, 0, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, -ERANGE, 0},
        {"99", 98, -ERANGE, 0},
        {"", 1, -EINVAL, 0},
        {"1a", 99, -EINVAL, 0},
        {"-1", 99, -EINVAL, 0},
        {" 1", 99, -EINVAL, 0},
        {"1\n", 99, -EINVAL, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t value = 0;

        assert_int_equal(ktext_decimal(rows[i].text, rows[i].max, &value), rows[i].result);
        assert_true(value == rows[i].value);
    }
}

static void escapes_of_the_kernel_are_undone(void **state)
{
    static const char *const rows[][2] = {
        {"plain", "plain"},
        {"a\\040b", "a b"},
        {"\\011\\012\\134", "\t\n\\"},
        {"\\303\\274", "\303\274"},
        {"\\", "\\"},
        {"\\0", "\\0"},
        {"\\04", "\\04"},
        {"\\400", "\\400"},
        {"\\048", "\\048"},
        {"", ""},
    };
    char text[32];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(text, sizeof text, "%s", rows[i][0]);
        ktext_unescape(text);
        assert_string_equal(text, rows[i][1]);
    }
}

static void terminals_are_spared(void **state)
{
    char text[12];

    (void)state;
    ktext_escape("a\033\\b\177", text, sizeof text);
    assert_string_equal(text, "a\\x1b\\\\b");
    ktext_escape("\303\274", text, sizeof text);
    assert_string_equal(text, "\\xc3\\xbc");
    ktext_escape("0123456789012345", text, sizeof text);
    assert_string_equal(text, "01234567890");
    ktext_escape("anything", text, 1);
    assert_string_equal(text, "");
}

static void small_files_are_read_whole(void **state)
{
    const struct tree *tree = *state;
    char path[96], text[8];

    snprintf(path, sizeof path, "%s/file", tree->root);
    assert_int_equal(ktext_read(path, text, sizeof text), -ENOENT);
    tree_file(tree, "file", "1234567");
    assert_int_equal(ktext_read(path, text, sizeof text), 7);
    tree_file(tree, "file", "1234567\n");
    assert_int_equal(ktext_read(path, text, sizeof text), -EFBIG);
    tree_file(tree, "file", "\n\n");
    assert_int_equal(ktext_read(path, text, sizeof text), 1);
    assert_int_equal(ktext_read(tree->root, text, sizeof text), -EISDIR);
    assert_int_equal(ktext_path(text, sizeof text, "%s", "12345678"), -ENAMETOOLONG);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, tree_create, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_device_is_read),
        TEST(a_device_stays_the_same_or_not),
        TEST(without_a_diskseq_it_can_be_the_same),
        TEST(without_a_pid_it_is_not_attached),
        TEST(an_absent_device_is_not_there),
        TEST(a_vanishing_device_is_not_there),
        TEST(values_that_make_no_sense_are_refused),
        TEST(large_values_are_taken),
        TEST(backends_are_cut_to_what_fits),
        TEST(devices_are_listed_in_order),
        TEST(many_devices_are_listed),
        TEST(lists_may_be_empty_or_fail),
        TEST(partitions_are_listed_in_order),
        TEST(queue_attributes_are_set),
        TEST(kernel_names_are_parsed),
        TEST(devices_go_by_many_names),
        TEST(other_names_are_refused),
        TEST(partitions_are_refused_with_the_disk),
        TEST(absent_devices_keep_their_index),
        TEST(nodes_are_known_by_their_number),
        cmocka_unit_test(decimals_are_strict),
        cmocka_unit_test(escapes_of_the_kernel_are_undone),
        cmocka_unit_test(terminals_are_spared),
        TEST(small_files_are_read_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
