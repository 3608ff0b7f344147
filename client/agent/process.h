/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Turns a forked child into a process of its own that may stand behind a disk: no terminal, no files, and
 * memory that cannot be taken away, as getting it back could need that very disk.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "failure.h"

/* For the threads of such a process: all of it is in memory at once. */
#define PROCESS_STACK_SIZE 262144

/*
 * Forks a process that is nobody's child: 0 in it, > 0 in the caller (not its pid), or -errno. The caller
 * must be single-threaded.
 */
pid_t process_split(void);

/* What it has to say for itself, written at once on a pipe: whether all of it came. */
bool process_hear(int fd, void *report, size_t size);

/*
 * In that process: a name for ps, no descriptors but kept and the standard ones (on /dev/null, unless kept),
 * every signal but SIGKILL ignored, "/" as its folder.
 */
int process_detach(const char *name, const int *kept, size_t count);

/*
 * Before the threads, which inherit it: never chosen when memory is short, no core dumps, no memory won by
 * writing to disks. What may not be had (a container) is weakness, which is left alone otherwise.
 */
void process_harden(struct failure *weakness);

/* After them: a limit that is too low for what is still to come would kill us at the next page of stack. */
void process_lock_memory(struct failure *weakness);

/*
 * Before any thread: those of an agent come and go with every outage, and all of their stacks is locked; and
 * the C library keeps the stacks of threads that have ended, also across the fork to an agent.
 */
void process_small_stacks(void);

/* Brings the calling thread's stack and share of the heap into memory. */
void process_prefault(void);

/* Whether a process with that name (process_detach) has the number: it may be another's by now. */
bool process_is(pid_t pid, const char *name);
