/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/identity.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "protocol/wire.h"

static int check_flags(const struct disk_identity *disk, const struct export *found, struct failure *failure)
{
    /* What the kernel driver makes use of; a server may have learnt more since. */
    unsigned used = NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES;
    unsigned lost;

    if (disk->connections > 1)
        used |= NBD_FLAG_CAN_MULTI_CONN;
    lost = disk->flags & used & ~(unsigned)found->flags;
    if (lost)
        return fail_status(failure, ESTALE, EXIT_STATUS_IDENTITY,
                           "not the same disk: its transmission flags are 0x%x, and lack 0x%x", found->flags,
                           lost);
    if (!disk->read_only && export_can(found, NBD_FLAG_READ_ONLY))
        return fail_status(failure, ESTALE, EXIT_STATUS_IDENTITY,
                           "not the same disk: it is read-only, and the device is not");
    return 0;
}

static int check_blocks(const struct disk_identity *disk, const struct export *found, struct failure *failure)
{
    if (found->has_block_sizes && found->min_block > disk->block_size)
        return fail_status(failure, ESTALE, EXIT_STATUS_IDENTITY,
                           "not the same disk: its minimum block size is %" PRIu32
                           ", and the device has blocks of %" PRIu32,
                           found->min_block, disk->block_size);
    if (found->max_payload < disk->request_size)
        return fail_status(failure, ESTALE, EXIT_STATUS_IDENTITY,
                           "not the same disk: it takes at most %" PRIu32
                           " bytes a request, and the kernel sends up to %" PRIu32,
                           found->max_payload, disk->request_size);
    return 0;
}

int identity_check(const struct disk_identity *disk, const struct export *found, struct failure *failure)
{
    const char *name = found->canonical_name;
    int r;

    if (found->size < disk->size)
        return fail_status(failure, ESTALE, EXIT_STATUS_IDENTITY,
                           "not the same disk: its size is %" PRIu64 " bytes, less than the %" PRIu64
                           " of the disk that was attached",
                           found->size, disk->size);
    if (disk->canonical_name && name && strcmp(disk->canonical_name, name) != 0)
        return fail_status(failure, ESTALE, EXIT_STATUS_IDENTITY,
                           "not the same disk: the server calls the export by another name");
    r = check_flags(disk, found, failure);
    return r < 0 ? r : check_blocks(disk, found, failure);
}
