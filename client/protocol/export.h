/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a server says an export is. Filled from replies only, and checked once when an option that describes
 * it has ended; whoever holds a checked one need not doubt its numbers again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "failure.h"

/* Strings are owned, NUL-terminated UTF-8 of at most NBD_MAX_STRING bytes, and not escaped for a terminal. */
struct export
{
    bool described;       /* size and flags were received */
    uint64_t size;        /* bytes, below 2^63 */
    uint16_t flags;       /* transmission flags, NBD_FLAG_* */
    bool has_block_sizes; /* else the defaults of "Size constraints" stand below */
    uint32_t min_block;
    uint32_t preferred_block;
    uint32_t max_payload;
    char *canonical_name; /* NBD_INFO_NAME; NULL: the server gave none */
    char *description;    /* NBD_INFO_DESCRIPTION; NULL: none */
};

void export_clear(struct export *export);
int export_copy(struct export *copy, const struct export *export);

/*
 * Checks what proto.md ("Size constraints", "Transmission flags") demands of a server. -EPROTO with the
 * number that is wrong.
 */
int export_check(const struct export *export, struct failure *failure);

/* Whether the export can be a disk at all: not empty, and whole blocks. -EPROTO. */
int export_check_disk(const struct export *export, struct failure *failure);

/*
 * The same disk as far as a server can tell: size, flags and block sizes. -ESTALE with the difference and
 * the exit status for a changed identity.
 */
int export_same_disk(const struct export *expected, const struct export *found, struct failure *failure);

/* "is_read_only" and such: the flag's bit. */
static inline bool export_can(const struct export *export, unsigned flag)
{
    return (export->flags & flag) != 0;
}
