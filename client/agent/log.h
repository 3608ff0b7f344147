/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a process without a terminal has to say: to the journal where there is one, else to the kernel's log.
 * Opened once, before it may be needed: a log that must be opened while the root disk is away would hang.
 */
#pragma once

#include <stdint.h>

/* As syslog(3) and the journal count. */
enum log_priority {
    LOG_PRIORITY_ERROR = 3,
    LOG_PRIORITY_WARNING = 4,
    LOG_PRIORITY_NOTICE = 5,
};

/* stderr too (with "<N>" in front, as systemd reads it) when a process stays in the foreground. */
void agent_log_open(int to_stderr);

/* Descriptors that a process that closes all others must keep: at most two; returns how many. */
int agent_log_fds(int fds[static 2]);

void agent_log(enum log_priority priority, uint32_t index, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
