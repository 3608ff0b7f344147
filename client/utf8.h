/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The character at text: its length in bytes (1..4) and, in *ret, its code point. 0 when what stands there is
 * not well-formed UTF-8 (overlong forms, surrogates and sequences cut off by size are not).
 */
size_t utf8_decode(const char *text, size_t size, uint32_t *ret);

bool utf8_valid(const char *text, size_t size);
