/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "deadline.h"
#include "failure.h"
#include "netlink/sysfs.h"

/*
 * DISCONNECT of the attach that device describes, in a child process: the driver may block in it
 * uninterruptibly, for as long as a server that stopped reading keeps its socket full (nbd.c,
 * send_disconnects under tx_lock), and a child can be left. 0 when it is done, or when somebody else did it;
 * -ETIMEDOUT: it still goes on; -errno of the kernel.
 */
int device_disconnect(const struct nbd_device *device, const struct deadline *deadline,
                      struct failure *failure);

/* Waits until this attach is over: no pid in sysfs, or another's. 0, -ETIMEDOUT, -ECANCELED. */
int device_wait_gone(const struct nbd_device *device, const struct deadline *deadline);

/* Whether the device is still in the attach that was seen before. */
bool device_still(const struct nbd_device *device);
