/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The text files of sysfs and procfs. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A formatted path; 0 or -ENAMETOOLONG. */
int ktext_path(char *path, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * Reads a small file, terminates it and takes one newline off its end. Its length or -errno; -ENODEV also for
 * a sysfs attribute whose device vanished meanwhile; -EFBIG when it does not fit.
 */
int ktext_read(const char *path, char *text, size_t size);

/* The whole string as a decimal up to max, no sign, no blanks: 0, -EINVAL or -ERANGE. */
int ktext_decimal(const char *text, uint64_t max, uint64_t *ret);

/* The leading decimal; *end is where it stops. */
int ktext_decimal_prefix(const char *text, uint64_t max, uint64_t *ret, const char **end);

/* "MAJOR:MINOR"; 0 or -EINVAL. */
int ktext_device_number(const char *text, uint32_t *major, uint32_t *minor);

/* Undoes the kernel's \040 in place. */
void ktext_unescape(char *text);

/* For a terminal: printable ASCII stays, a backslash is doubled, the rest becomes \xNN; cut at size. */
void ktext_escape(const char *text, char *escaped, size_t size);
