/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mappings of processes: they outlive the descriptor that they were made with. */
#include <errno.h>
#include <stdbool.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "holders_scan.h"
#include "ktext.h"
#include "scoped.h"

/* Some times the kernel's usual limit for a process (vm.max_map_count). */
#define LINES_MAX 262144

/* FNV-1a */
static uint64_t hash_text(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

/* "7f00-8000": two hexadecimal numbers, as the kernel writes them. */
static bool parse_range(const char *range, uint64_t *start, uint64_t *end)
{
    char *rest;

    *start = strtoull(range, &rest, 16);
    if (rest == range || *rest != '-')
        return false;
    range = rest + 1;
    *end = strtoull(range, &rest, 16);
    return rest != range;
}

/* Looks at the file behind one mapping: 1: we may not. */
static int scan_file(struct holder_scan *scan, const char *process, const char *thread, const char *range,
                     uint64_t *known, uint64_t hash)
{
    const struct held_device *device;
    uint64_t start, end;
    char path[PATH_MAX];
    int r;

    /* Without the zeros that maps has in front of small addresses. */
    if (!parse_range(range, &start, &end) ||
        ktext_path(path, sizeof path, "%s/proc/%s/map_files/%" PRIx64 "-%" PRIx64, scan->root, thread, start,
                   end) < 0)
        return 0;
    r = scan_match_file(scan, AT_FDCWD, path, &device);
    if (r < 0)
        return r == -EPERM || r == -EACCES;
    if (device)
        return scan_add_process(scan, device, process);
    *known = hash;
    return 0;
}

/* One line of maps, "START-END PERMISSIONS OFFSET DEVICE INODE PATH". The device is that of the node's file
 * system: no use. */
static int scan_line(struct holder_scan *scan, const char *process, const char *thread, char *line)
{
    const char *range = strsep(&line, " "), *inode;
    uint64_t *known, hash;

    strsep(&line, " ");
    strsep(&line, " ");
    inode = line ? strchr(line, ' ') : NULL;
    if (!inode || inode[1] == '0')
        return 0;
    /* The same libraries all over: each is looked at once. */
    hash = hash_text(line);
    known = &scan->mapped[hash % MAPPED_MAX];
    return *known == hash ? 0 : scan_file(scan, process, thread, range, known, hash);
}

int scan_mappings(struct holder_scan *scan, const char *process, const char *thread)
{
    char buffer[4096]; /* a read(2) of /proc gives a page at most; the library would ask for a quarter */
    _cleanup_fclose_ FILE *file = NULL;
    _cleanup_free_ char *line = NULL;
    size_t size = 0;
    int r = scan_open_file(scan, &file, "/proc/%s/maps", thread);

    if (file)
        setvbuf(file, buffer, _IOFBF, sizeof buffer);
    for (unsigned i = 0; r == 0 && file && i < LINES_MAX; i++) {
        errno = 0;
        if (getline(&line, &size, file) < 0)
            return errno == ENOMEM ? -ENOMEM : 0;
        r = scan_line(scan, process, thread, line);
    }
    return r < 0 ? r : 0;
}
