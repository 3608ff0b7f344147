/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Detaching a device without losing a byte: nobody may hold it, and what was written must have reached the
 * server. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "deadline.h"
#include "failure.h"
#include "netlink/nbd.h"

/*
 * Flushes the disk and its partitions, refuses while anybody holds them (naming who), drops the partitions,
 * disconnects, and waits until the device is free. With force holders and a failed flush do not stop it.
 * -EBUSY: held; -EIO...: the flush failed, and the device stays attached; -ENODEV: not attached; -ETIMEDOUT;
 * -ECANCELED (nothing was done yet).
 */
int device_release(uint32_t index, bool force, const struct deadline *deadline, struct failure *failure);
