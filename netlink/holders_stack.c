/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Block devices on top, as far as sysfs lists them as holders. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "holders_scan.h"
#include "ktext.h"
#include "scoped.h"

/* "dm-0 (vg-root)": the device mapper's own name is what people know it by. */
static int add_stacked(struct holder_scan *scan, const struct held_device *device, const char *name)
{
    char path[PATH_MAX], mapped[160], shown[NAME_MAX + sizeof mapped + 4];

    if (ktext_path(path, sizeof path, "%s/sys/block/%s/dm/name", scan->root, name) == 0 &&
        ktext_read(path, mapped, sizeof mapped) > 0)
        snprintf(shown, sizeof shown, "%s (%s)", name, mapped);
    else
        snprintf(shown, sizeof shown, "%s", name);
    return scan_add(scan, HOLDER_DEVICE, device, shown, "");
}

static int scan_holders_of(struct holder_scan *scan, const struct held_device *device)
{
    _cleanup_closedir_ DIR *directory = NULL;
    const char *disk = scan->devices[0].name;
    bool is_disk = device == &scan->devices[0];
    struct dirent *entry;
    int r =
        scan_open_directory(scan, &directory, "/sys/block/%s/%s/holders", disk, is_disk ? "." : device->name);

    while (r == 0 && directory && (entry = readdir(directory)))
        if (entry->d_name[0] != '.')
            r = add_stacked(scan, device, entry->d_name);
    return r;
}

int scan_stacked(struct holder_scan *scan)
{
    int r = 0;

    for (size_t i = 0; i < scan->devices_count && r == 0; i++)
        r = scan_holders_of(scan, &scan->devices[i]);
    return r;
}
