/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "utf8.h"

/* The length a first byte announces, and the payload bits it carries; 0 for a byte that begins nothing. */
static size_t first_byte(unsigned char byte, uint32_t *bits)
{
    if (byte < 0x80) {
        *bits = byte;
        return 1;
    }
    if (byte >= 0xc2 && byte <= 0xdf) {
        *bits = byte & 0x1fU;
        return 2;
    }
    if (byte >= 0xe0 && byte <= 0xef) {
        *bits = byte & 0x0fU;
        return 3;
    }
    if (byte >= 0xf0 && byte <= 0xf4) {
        *bits = byte & 0x07U;
        return 4;
    }
    return 0;
}

static bool code_point_valid(uint32_t code, size_t length)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};

    return code >= smallest[length] && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
}

size_t utf8_decode(const char *text, size_t size, uint32_t *ret)
{
    uint32_t code;
    size_t length;

    if (size == 0)
        return 0;
    length = first_byte((unsigned char)text[0], &code);
    if (length == 0 || length > size)
        return 0;
    for (size_t i = 1; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];

        if ((byte & 0xc0U) != 0x80)
            return 0;
        code = code << 6 | (byte & 0x3fU);
    }
    if (!code_point_valid(code, length))
        return 0;
    *ret = code;
    return length;
}

bool utf8_valid(const char *text, size_t size)
{
    uint32_t code;

    for (size_t at = 0; at < size;) {
        size_t length = utf8_decode(text + at, size - at, &code);

        if (length == 0)
            return false;
        at += length;
    }
    return true;
}
