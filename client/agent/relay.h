/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The fallback where the kernel cannot own the server's socket (no kTLS, unix sockets with TLS, vsock): a
 * process that copies between the kernel driver's end of a socket pair and the server's session.
 *
 * It stands in the block path: a machine short of memory writes pages out through it. So it locks its memory,
 * tells the kernel (PR_SET_IO_FLUSHER), opens no file and needs no memory once it runs; one thread per
 * direction, large records, and no buffer beyond one batch of records a direction: who is slow slows the
 * other down. It ends when the kernel has let go of its end, or when the server's has ended or cannot be
 * trusted any more and the kernel was told so; signals but SIGKILL do not end it.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "failure.h"
#include "protocol/dial.h"

#define RELAY_NAME "nbdctl-relay" /* as ps -o comm and /proc/PID/comm have it */

/*
 * Starts the relay of a CONNECTION_RELAY that has a session, in a process of its own that outlives this one;
 * the caller must be single-threaded. On success connection->fd is the kernel driver's end,
 * connection->session is gone (it is the relay's), and *pid is the process. The process ends by itself when
 * connection->fd and the kernel's copies of it are closed.
 *
 * Where it may not protect itself from a shortage of memory (a container without CAP_SYS_RESOURCE or
 * CAP_IPC_LOCK) it runs all the same: weakness, whose text is else empty, says why.
 */
int relay_start(struct connection *connection, pid_t *pid, struct failure *weakness, struct failure *failure);

/* By its name too: the number may be another process's by now. */
bool relay_lives(pid_t pid);
