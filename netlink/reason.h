/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Why a conversation with the kernel failed, in the caller's hands: functions of netlink/ never print. One
 * line without the program's name; hint says what to try and may be empty. Set whenever -errno is returned.
 */
struct netlink_reason {
    char text[512];
    char hint[384];
};

/* Both return -error (a positive errno), so that they can end a return. hint: NULL or a fixed text. */
int netlink_fail(struct netlink_reason *reason, int error, const char *hint, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
