/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What nbd.c says to the driver, and what a refusal means. */
#pragma once

#include "nbd.h"

struct nl_msg;

/* Everything that can be seen to be wrong before the kernel is asked; command is an NBD_CMD_*. 0 or -EINVAL.
 */
int nbd_config_check(int command, const struct nbd_config *config, struct netlink_reason *reason);

/* The message, owned by the caller (nlmsg_free); NULL: out of memory. config NULL: index alone, where it is
 * one. */
struct nl_msg *nbd_request_build(int family, int command, uint32_t index, const struct nbd_config *config);

/* Says why the kernel refused (error: a positive errno; words: its extended ack, may be ""); returns -error.
 */
int nbd_refused(int command, uint32_t index, int error, const char *words, struct netlink_reason *reason);
