/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether what answers is still the disk that the kernel was given. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"
#include "protocol/export.h"

/* What the kernel counts on. canonical_name is not owned. */
struct disk_identity {
    uint64_t size;              /* bytes of the export */
    uint16_t flags;             /* transmission flags at the attach */
    bool read_only;             /* the device: then a server that has become read-only does no harm */
    uint32_t block_size;        /* logical, bytes: the kernel asks for multiples of it */
    uint32_t request_size;      /* the largest the kernel sends, bytes */
    size_t connections;         /* of the device; with several the server must say CAN_MULTI_CONN */
    const char *canonical_name; /* as the server calls the export; NULL: it never said */
};

/*
 * 0: it is the disk, or one that has grown (found->size says to what). -ESTALE with the exit status for a
 * changed identity: it has shrunk, has another name, or cannot do any more what the kernel was told it can.
 */
int identity_check(const struct disk_identity *disk, const struct export *found, struct failure *failure);
