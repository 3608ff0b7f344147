/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "escape.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

#define CUT "..."

/*
 * What does not show, moves the cursor, reorders its neighbours or means something else on every terminal:
 * C1 controls, format characters (Unicode category Cf), line and paragraph separators, other default
 * ignorable characters, private use and noncharacters. Ascending.
 */
static const struct {
    uint32_t first, last;
} unprintable[] = {
    {0x0000, 0x001f},   {0x007f, 0x009f},    {0x00ad, 0x00ad},   {0x034f, 0x034f},   {0x0600, 0x0605},
    {0x061c, 0x061c},   {0x06dd, 0x06dd},    {0x070f, 0x070f},   {0x0890, 0x0891},   {0x08e2, 0x08e2},
    {0x115f, 0x1160},   {0x17b4, 0x17b5},    {0x180b, 0x180f},   {0x200b, 0x200f},   {0x2028, 0x202e},
    {0x2060, 0x206f},   {0x3164, 0x3164},    {0xe000, 0xf8ff},   {0xfdd0, 0xfdef},   {0xfe00, 0xfe0f},
    {0xfeff, 0xfeff},   {0xffa0, 0xffa0},    {0xfff0, 0xfffb},   {0xfffe, 0xffff},   {0x110bd, 0x110bd},
    {0x110cd, 0x110cd}, {0x13430, 0x1343f},  {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0x1fffe, 0x1ffff},
    {0x2fffe, 0x2ffff}, {0x3fffe, 0x10ffff},
};

static bool printable(uint32_t code)
{
    for (size_t i = 0; i < sizeof unprintable / sizeof unprintable[0]; i++)
        if (code >= unprintable[i].first && code <= unprintable[i].last)
            return false;
    return true;
}

static char *put_byte(char *out, unsigned char byte)
{
    static const char digits[] = "0123456789abcdef";

    *out++ = '\\';
    *out++ = 'x';
    *out++ = digits[byte >> 4];
    *out++ = digits[byte & 0xfU];
    return out;
}

/* Writes the length bytes of one character; length 0 stands for one byte that is no character. */
static char *put_character(char *out, const char *text, size_t length, uint32_t code)
{
    if (length > 0 && code == '\\') {
        *out++ = '\\';
        *out++ = '\\';
        return out;
    }
    if (length > 0 && printable(code)) {
        memcpy(out, text, length);
        return out + length;
    }
    for (size_t i = 0; i < (length ? length : 1); i++)
        out = put_byte(out, (unsigned char)text[i]);
    return out;
}

char *escape_text(const char *text, size_t size, size_t limit)
{
    size_t taken = size < limit ? size : limit;
    char *escaped, *out;

    if (taken > (SIZE_MAX - sizeof CUT) / 4)
        return NULL;
    escaped = out = malloc(taken * 4 + sizeof CUT);
    if (!escaped)
        return NULL;
    for (size_t at = 0; at < taken;) {
        uint32_t code = 0;
        size_t length = utf8_decode(text + at, size - at, &code);

        if (at + length > taken) /* the cut would split this character */
            break;
        out = put_character(out, text + at, length, code);
        at += length ? length : 1;
    }
    if (size > limit) {
        memcpy(out, CUT, strlen(CUT));
        out += strlen(CUT);
    }
    *out = '\0';
    return escaped;
}
