/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel tells of a failed write-back once (errseq): the next fsync succeeds although the data is gone.
 * So that a second detach does not take that for good news, a failed flush leaves a mark,
 * /run/nbdctl/nbdX.unflushed, which holds for this attach only.
 */
#pragma once

#include <stdbool.h>

#include "netlink/sysfs.h"

void unflushed_mark(const struct nbd_device *device);
bool unflushed_is_marked(const struct nbd_device *device);
void unflushed_clear(uint32_t index);
