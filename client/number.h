/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every number that comes from outside as text goes through here. The whole string must be the number:
 * no leading blanks or sign, nothing behind it. All return 0, -EINVAL (not a number) or -ERANGE.
 */
#pragma once

#include <stdint.h>

/* Decimal, min..max inclusive. */
int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret);

/* Bytes: decimal with an optional K, M, G, T, P or E (powers of 1024, either case, an optional B or iB). */
int parse_size(const char *text, uint64_t *ret);

/* Nanoseconds: decimal with an optional fraction, and ms, s, min or h; a bare number is seconds. */
int parse_time(const char *text, uint64_t *ret_ns);
