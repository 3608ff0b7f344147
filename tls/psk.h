/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files of pre-shared keys, free of I/O. */
#pragma once

#include <stddef.h>

#include "tls_reason.h"

#define PSK_USER_MAX 255
#define PSK_KEY_MAX  256 /* bytes; psktool makes 32 by default, and at most 64 */
#define PSK_FILE_MAX (1u << 20)

/* One line of the file; hex points into the file's text. */
struct psk_entry {
    char user[PSK_USER_MAX + 1];
    const char *hex;
    size_t hex_size; /* even, 2..2*PSK_KEY_MAX, nothing but hex digits */
    size_t line;     /* from 1 */
};

/*
 * The line of user, or the only one (user NULL). -EINVAL with the number of the line that is wrong, whoever's
 * it is; -ENOKEY: no such user, or several and none was named.
 */
int psk_find(const char *text, size_t size, const char *user, struct psk_entry *entry,
             struct tls_reason *reason);

/* hex_size / 2 bytes. */
void psk_decode(const struct psk_entry *entry, unsigned char *key);
