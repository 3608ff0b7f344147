/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ktext.h"
#include "scoped.h"

/* sysfs shows a page at most. */
#define ATTRIBUTE_MAX 4097
#define SECTOR        512

int nbd_name_parse(const char *name, uint32_t *index, unsigned *partition)
{
    uint64_t disk, part = 0;
    const char *end;

    if (strncmp(name, "nbd", 3) != 0 || (name[3] == '0' && name[4] >= '0' && name[4] <= '9') ||
        ktext_decimal_prefix(name + 3, INT32_MAX, &disk, &end) < 0)
        return -EINVAL;
    if (*end && (end[0] != 'p' || end[1] == '0' || ktext_decimal(end + 1, INT32_MAX, &part) < 0))
        return -EINVAL;
    *index = (uint32_t)disk;
    *partition = (unsigned)part;
    return 0;
}

/* A device that goes away does so between two reads: its attributes fail in several ways then. */
static bool is_gone(int error)
{
    return error == -ENOENT || error == -ENODEV || error == -ENXIO || error == -ENOTDIR;
}

static int read_text(const char *root, uint32_t index, const char *attribute, char *text, size_t size)
{
    char path[PATH_MAX];
    int r = ktext_path(path, sizeof path, "%s/sys/block/nbd%" PRIu32 "/%s", root, index, attribute);

    return r < 0 ? r : ktext_read(path, text, size);
}

/* One number of a device. */
struct number {
    const char *attribute;
    uint64_t max;
    uint64_t value; /* 0 when the attribute is absent */
    bool required, present;
};

static int read_number(const char *root, uint32_t index, struct number *number)
{
    char text[ATTRIBUTE_MAX];
    int r = read_text(root, index, number->attribute, text, sizeof text);

    number->value = 0;
    number->present = false;
    if (is_gone(r))
        return number->required ? -ENODEV : 0;
    if (r < 0)
        return r;
    number->present = true;
    return ktext_decimal(text, number->max, &number->value) < 0 ? -EBADMSG : 0;
}

enum { SIZE, READ_ONLY, PID, LOGICAL_BLOCK, MAX_SECTORS, MAX_HW_SECTORS, WRITE_ZEROES, DISKSEQ, NUMBERS };

static void fill_numbers(struct nbd_device *device, const struct number numbers[static NUMBERS])
{
    device->size = numbers[SIZE].value * SECTOR;
    device->read_only = numbers[READ_ONLY].value != 0;
    device->attached = numbers[PID].present;
    device->pid = (pid_t)numbers[PID].value;
    device->logical_block_size = (uint32_t)numbers[LOGICAL_BLOCK].value;
    device->max_sectors_kb = (uint32_t)numbers[MAX_SECTORS].value;
    device->max_hw_sectors_kb = (uint32_t)numbers[MAX_HW_SECTORS].value;
    device->write_zeroes_max = numbers[WRITE_ZEROES].value;
    device->diskseq = numbers[DISKSEQ].value;
}

static int read_numbers(const char *root, struct nbd_device *device, const char **attribute)
{
    struct number numbers[NUMBERS] = {
        [SIZE] = {.attribute = "size", .max = UINT64_MAX / SECTOR, .required = true},
        [READ_ONLY] = {.attribute = "ro", .max = 1},
        [PID] = {.attribute = "pid", .max = INT32_MAX},
        [LOGICAL_BLOCK] = {.attribute = "queue/logical_block_size", .max = UINT32_MAX},
        [MAX_SECTORS] = {.attribute = "queue/max_sectors_kb", .max = UINT32_MAX},
        [MAX_HW_SECTORS] = {.attribute = "queue/max_hw_sectors_kb", .max = UINT32_MAX},
        [WRITE_ZEROES] = {.attribute = "queue/write_zeroes_max_bytes", .max = UINT64_MAX},
        [DISKSEQ] = {.attribute = "diskseq", .max = UINT64_MAX},
    };

    for (int i = 0; i < NUMBERS; i++) {
        int r = read_number(root, device->index, &numbers[i]);

        *attribute = numbers[i].attribute;
        if (r < 0)
            return r;
    }
    fill_numbers(device, numbers);
    return 0;
}

static int read_device_number(const char *root, struct nbd_device *device)
{
    char text[ATTRIBUTE_MAX];
    int r = read_text(root, device->index, "dev", text, sizeof text);

    if (r < 0)
        return is_gone(r) ? -ENODEV : r;
    return ktext_device_number(text, &device->major, &device->minor) < 0 ? -EBADMSG : 0;
}

/* Another program's identifier may be longer than ours: it is cut, and RECONFIGURE with it is refused then.
 */
static int read_backend(const char *root, struct nbd_device *device)
{
    char text[ATTRIBUTE_MAX];
    int r = read_text(root, device->index, "backend", text, sizeof text);

    device->backend[0] = '\0';
    if (r < 0)
        return is_gone(r) ? 0 : r;
    memcpy(device->backend, text, strnlen(text, NBD_BACKEND_MAX));
    return 0;
}

static int device_failed(uint32_t index, int error, const char *attribute, struct netlink_reason *reason)
{
    if (error == ENODEV)
        return netlink_fail(reason, ENODEV, NULL, "there is no device /dev/nbd%" PRIu32, index);
    if (error == EBADMSG)
        return netlink_fail(reason, EBADMSG, NULL,
                            "/sys/block/nbd%" PRIu32 "/%s has no value that makes sense", index, attribute);
    return netlink_fail(reason, error, NULL, "cannot read /sys/block/nbd%" PRIu32 "/%s: %s", index, attribute,
                        strerror(error));
}

int nbd_device_read(const char *root, uint32_t index, struct nbd_device *device,
                    struct netlink_reason *reason)
{
    const char *attribute = "dev";
    int r;

    *device = (struct nbd_device){.index = index};
    r = read_device_number(root, device);
    if (r == 0)
        r = read_numbers(root, device, &attribute);
    if (r == 0) {
        attribute = "backend";
        r = read_backend(root, device);
    }
    return r < 0 ? device_failed(index, -r, attribute, reason) : 0;
}

bool nbd_device_same(const char *root, const struct nbd_device *device)
{
    struct number pid = {.attribute = "pid", .max = INT32_MAX};
    struct number diskseq = {.attribute = "diskseq", .max = UINT64_MAX};
    struct nbd_device now = {.index = device->index};

    if (read_number(root, now.index, &pid) < 0 || read_number(root, now.index, &diskseq) < 0 ||
        read_backend(root, &now) < 0)
        return false;
    return pid.present && (pid_t)pid.value == device->pid && diskseq.value == device->diskseq &&
           strcmp(now.backend, device->backend) == 0;
}

struct device_array {
    struct nbd_device *items;
    size_t count, capacity;
};

static int append(struct device_array *array, const struct nbd_device *device)
{
    if (array->count == array->capacity) {
        size_t capacity = array->capacity ? array->capacity * 2 : 16;
        struct nbd_device *items = reallocarray(array->items, capacity, sizeof *items);

        if (!items)
            return -ENOMEM;
        array->items = items;
        array->capacity = capacity;
    }
    array->items[array->count++] = *device;
    return 0;
}

/* 0 also for what is no nbd disk, or no longer. */
static int append_entry(struct device_array *array, const char *root, const char *name,
                        struct netlink_reason *reason)
{
    struct nbd_device device;
    unsigned partition;
    uint32_t index;
    int r;

    if (nbd_name_parse(name, &index, &partition) < 0 || partition != 0)
        return 0;
    r = nbd_device_read(root, index, &device, reason);
    if (r < 0)
        return r == -ENODEV ? 0 : r;
    if (append(array, &device) < 0)
        return netlink_fail(reason, ENOMEM, NULL, "out of memory");
    return 0;
}

static int by_index(const void *left, const void *right)
{
    const struct nbd_device *a = left, *b = right;

    return a->index < b->index ? -1 : a->index > b->index;
}

static void cleanup_array(struct device_array *array)
{
    free(array->items);
}

int nbd_device_list(const char *root, struct nbd_device **list, struct netlink_reason *reason)
{
    _cleanup_(cleanup_array) struct device_array array = {0};
    _cleanup_closedir_ DIR *directory = NULL;
    char path[PATH_MAX];
    struct dirent *entry;
    int r = ktext_path(path, sizeof path, "%s/sys/block", root);

    directory = r < 0 ? NULL : opendir(path);
    if (!directory)
        return netlink_fail(reason, r < 0 ? -r : errno, NULL, "cannot read %s: %s", path,
                            strerror(r < 0 ? -r : errno));
    while ((entry = readdir(directory))) {
        r = append_entry(&array, root, entry->d_name, reason);
        if (r < 0)
            return r;
    }
    if (array.count > 0)
        qsort(array.items, array.count, sizeof *array.items, by_index);
    *list = steal_ptr(&array.items);
    return (int)array.count;
}

int nbd_queue_set(const char *root, uint32_t index, const char *attribute, uint64_t value,
                  struct netlink_reason *reason)
{
    _cleanup_close_ int fd = -1;
    char path[PATH_MAX], text[24];
    int n, r = ktext_path(path, sizeof path, "%s/sys/block/nbd%" PRIu32 "/queue/%s", root, index, attribute);

    if (r < 0)
        return netlink_fail(reason, -r, NULL, "cannot set %s: the path is too long", attribute);
    n = snprintf(text, sizeof text, "%" PRIu64 "\n", value);
    fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || write(fd, text, (size_t)n) != n) {
        int error = errno == ENOENT ? ENODEV : errno;

        return netlink_fail(reason, error, NULL, "cannot set %s to %" PRIu64 ": %s", path, value,
                            strerror(error));
    }
    return 0;
}

static int is_partition(const char *root, uint32_t index, const char *name)
{
    char path[PATH_MAX];

    return ktext_path(path, sizeof path, "%s/sys/block/nbd%" PRIu32 "/%s/partition", root, index, name) ==
               0 &&
           access(path, F_OK) == 0;
}

static int by_number(const void *left, const void *right)
{
    const unsigned *a = left, *b = right;

    return *a < *b ? -1 : *a > *b;
}

int nbd_partitions(const char *root, uint32_t index, unsigned *numbers, size_t capacity,
                   struct netlink_reason *reason)
{
    _cleanup_closedir_ DIR *directory = NULL;
    char path[PATH_MAX];
    struct dirent *entry;
    size_t count = 0;
    int r = ktext_path(path, sizeof path, "%s/sys/block/nbd%" PRIu32, root, index);

    directory = r < 0 ? NULL : opendir(path);
    if (!directory)
        return device_failed(index, r < 0 ? -r : (is_gone(-errno) ? ENODEV : errno), "", reason);
    while ((entry = readdir(directory))) {
        unsigned partition;
        uint32_t disk;

        if (nbd_name_parse(entry->d_name, &disk, &partition) < 0 || disk != index || partition == 0 ||
            !is_partition(root, index, entry->d_name))
            continue;
        if (count < capacity)
            numbers[count] = partition;
        count++;
    }
    if (capacity > 0)
        qsort(numbers, count < capacity ? count : capacity, sizeof *numbers, by_number);
    return (int)count;
}
