/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What commands print: errors and remarks on stderr, results on stdout. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "failure.h"

/* "nbdctl: ..." on stderr. */
void print_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, unless --quiet: something a person should know though the command goes on. */
void print_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Only with --verbose. */
void print_verbose(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The text of a failure, and its hint on a line of its own unless --quiet. Returns the exit status. */
int print_failure(const struct failure *failure);

/* Flushes stdout; a result that could not be written is a failure: EXIT_STATUS_FAILED with a message, else 0.
 */
int finish_output(void);

#define HUMAN_SIZE_MAX 32

/*
 * "64M", or the bare number where no power of 1024 divides it: exact, as nbdinfo prints sizes. into has room
 * for HUMAN_SIZE_MAX. Returns into.
 */
const char *human_size_exact(uint64_t size, char *into);

/* "1.5G": at most three digits, rounded; for tables. */
const char *human_size(uint64_t size, char *into);
