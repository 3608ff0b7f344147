/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

#include "tls.h"

/* Return -error (a positive errno), so that they can end a return. reason may be NULL. */
int tls_fail(struct tls_reason *reason, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Adds what to try to a reason that is set; returns error unchanged. */
int tls_hint(struct tls_reason *reason, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts context in front of a reason that is set: "CONTEXT: TEXT"; returns error unchanged. */
int tls_within(struct tls_reason *reason, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* An error of GnuTLS where nothing better is known: "TEXT: ITS OWN WORDS". */
int tls_fail_gnutls(struct tls_reason *reason, int error, int gnutls_error, const char *text);

/*
 * For a terminal: printable ASCII stays, a backslash is doubled, the rest becomes \xNN; what does not fit is
 * cut, never within an escape. escaped is terminated and returned.
 */
const char *tls_escape(const void *text, size_t length, char *escaped, size_t size);

/* A terminated string, escaped into a buffer that lives as long as the enclosing block. */
#define tls_shown(text) tls_escape((text), strlen(text), (char[256]){0}, 256)
