/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* sd_notify(3)'s READY=1, where a service manager asked for it (NOTIFY_SOCKET); nothing otherwise. */
void notify_ready(void);
