/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/export.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/wire.h"

void export_clear(struct export *export)
{
    free(export->canonical_name);
    free(export->description);
    *export = (struct export){0};
}

int export_copy(struct export *copy, const struct export *export)
{
    *copy = *export;
    copy->canonical_name = export->canonical_name ? strdup(export->canonical_name) : NULL;
    copy->description = export->description ? strdup(export->description) : NULL;
    if ((export->canonical_name && !copy->canonical_name) || (export->description && !copy->description)) {
        export_clear(copy);
        return -ENOMEM;
    }
    return 0;
}

static bool power_of_two(uint32_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

static int check_block_sizes(const struct export *export, struct failure *failure)
{
    if (!power_of_two(export->min_block) || export->min_block > 65536)
        return fail(failure, EPROTO,
                    "the server's minimum block size %" PRIu32 " is not a power of two from 1 to 65536",
                    export->min_block);
    if (!power_of_two(export->preferred_block) || export->preferred_block < export->min_block ||
        export->preferred_block < 512)
        return fail(failure, EPROTO,
                    "the server's preferred block size %" PRIu32
                    " is not a power of two of at least 512 and its minimum block size %" PRIu32,
                    export->preferred_block, export->min_block);
    if (export->max_payload < export->preferred_block)
        return fail(failure, EPROTO,
                    "the server's maximum payload %" PRIu32 " is below its preferred block size %" PRIu32,
                    export->max_payload, export->preferred_block);
    return 0;
}

int export_check(const struct export *export, struct failure *failure)
{
    if (!export->described)
        return fail(failure, EPROTO, "the server accepted the export without telling its size");
    if (export->size > INT64_MAX)
        return fail(failure, EPROTO, "the server's export size %" PRIu64 " is 2^63 or more", export->size);
    if (!export_can(export, NBD_FLAG_HAS_FLAGS))
        return fail(failure, EPROTO, "the server's transmission flags 0x%x lack NBD_FLAG_HAS_FLAGS",
                    export->flags);
    if (!export->has_block_sizes)
        return 0;
    return check_block_sizes(export, failure);
}

int export_check_disk(const struct export *export, struct failure *failure)
{
    if (export->size == 0)
        return fail(failure, EPROTO, "the export is empty: its size is 0 bytes");
    /* A SHOULD of "Size constraints", but the tail could never be read through a block device. */
    if (export->size % export->min_block != 0 && export->has_block_sizes)
        return fail(failure, EPROTO,
                    "the server's export size %" PRIu64
                    " is not a multiple of its minimum block size %" PRIu32,
                    export->size, export->min_block);
    return 0;
}

int export_same_disk(const struct export *expected, const struct export *found, struct failure *failure)
{
    if (expected->size != found->size)
        return fail_status(failure, ESTALE, EXIT_STATUS_IDENTITY,
                           "not the same disk: its size is %" PRIu64 " bytes, expected %" PRIu64, found->size,
                           expected->size);
    if (expected->flags != found->flags)
        return fail_status(failure, ESTALE, EXIT_STATUS_IDENTITY,
                           "not the same disk: its transmission flags are 0x%x, expected 0x%x", found->flags,
                           expected->flags);
    if (strcmp(expected->canonical_name ? expected->canonical_name : "",
               found->canonical_name ? found->canonical_name : "") != 0)
        return fail_status(failure, ESTALE, EXIT_STATUS_IDENTITY,
                           "not the same disk: the server calls the export by another name");
    if (expected->min_block != found->min_block || expected->max_payload != found->max_payload)
        return fail_status(failure, ESTALE, EXIT_STATUS_IDENTITY,
                           "not the same disk: its block sizes are %" PRIu32 " to %" PRIu32
                           ", expected %" PRIu32 " to %" PRIu32,
                           found->min_block, found->max_payload, expected->min_block, expected->max_payload);
    return 0;
}
