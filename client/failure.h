/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Why something failed, for a person: what, on what, and what to try. Functions that can fail return 0 or
 * -errno and fill one of these; only commands/ prints it ("nbdctl: TEXT" and, where there is one, the hint).
 */
#pragma once

#include <stddef.h>

/* Exit statuses of every command. */
enum exit_status {
    EXIT_STATUS_DONE = 0,
    EXIT_STATUS_FAILED = 1,
    EXIT_STATUS_USAGE = 2,    /* wrong usage, or a question answered "no" */
    EXIT_STATUS_BITMAP = 3,   /* the bitmap asked for is missing, inconsistent or was lost */
    EXIT_STATUS_IDENTITY = 4, /* what answered is not the disk that was attached */
};

struct failure {
    enum exit_status status; /* what the process should exit with; FAILED unless said otherwise */
    char text[1024];         /* one line, already escaped for a terminal; empty when nothing failed */
    char hint[512];          /* what to try; may be empty */
};

/* Sets text (and clears the hint); returns -error. error must be a positive errno. */
int fail(struct failure *failure, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As fail(), with an exit status other than FAILED. */
int fail_status(struct failure *failure, int error, enum exit_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Adds what to try to a failure that is set; returns error unchanged, so that it can end a return. */
int fail_hint(struct failure *failure, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts context in front of a failure that is set: "CONTEXT: TEXT"; returns error unchanged. */
int fail_within(struct failure *failure, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
