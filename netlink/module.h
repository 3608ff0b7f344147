/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "reason.h"

/*
 * Loads a kernel module and what it depends on through libkmod, honouring modprobe.d (options, blacklists do
 * not apply to an explicit load). 0 also when it is loaded or built in. -ENOENT: there is no such module for
 * the running kernel; -EPERM; other -errno of init_module(2). Without libkmod (build option) -ENOSYS.
 */
int module_load(const char *name, struct netlink_reason *reason);
