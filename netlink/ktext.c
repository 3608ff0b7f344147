/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ktext.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "scoped.h"

int ktext_path(char *path, size_t size, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(path, size, format, args);
    va_end(args);
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* The kernel gives such a file whole to the first read(2) that has room for it; a second would only ask. */
static ssize_t read_whole(int fd, char *text, size_t size)
{
    ssize_t n;

    do
        n = read(fd, text, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int ktext_read(const char *path, char *text, size_t size)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    ssize_t n;

    if (fd < 0)
        return -errno;
    n = read_whole(fd, text, size);
    if (n < 0)
        return (int)n;
    if ((size_t)n == size)
        return -EFBIG;
    if (n > 0 && text[n - 1] == '\n')
        n--;
    text[n] = '\0';
    return (int)n;
}

int ktext_decimal_prefix(const char *text, uint64_t max, uint64_t *ret, const char **end)
{
    uint64_t value = 0;
    const char *p;

    for (p = text; *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');

        if (digit > max || value > (max - digit) / 10)
            return -ERANGE;
        value = value * 10 + digit;
    }
    if (p == text)
        return -EINVAL;
    *ret = value;
    *end = p;
    return 0;
}

int ktext_decimal(const char *text, uint64_t max, uint64_t *ret)
{
    const char *end;
    uint64_t value;
    int r = ktext_decimal_prefix(text, max, &value, &end);

    if (r < 0)
        return r;
    if (*end)
        return -EINVAL;
    *ret = value;
    return 0;
}

int ktext_device_number(const char *text, uint32_t *major, uint32_t *minor)
{
    uint64_t high, low;
    const char *end;

    if (ktext_decimal_prefix(text, UINT32_MAX, &high, &end) < 0 || *end != ':' ||
        ktext_decimal(end + 1, UINT32_MAX, &low) < 0)
        return -EINVAL;
    *major = (uint32_t)high;
    *minor = (uint32_t)low;
    return 0;
}

static bool octal(char c)
{
    return c >= '0' && c <= '7';
}

void ktext_unescape(char *text)
{
    char *to = text;

    for (const char *from = text; *from; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && octal(from[2]) && octal(from[3])) {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

void ktext_escape(const char *text, char *escaped, size_t size)
{
    size_t n = 0;

    for (; *text; text++) {
        char one[5] = {*text};

        if (*text == '\\')
            snprintf(one, sizeof one, "\\\\");
        else if (*text < 0x20 || *text > 0x7e)
            snprintf(one, sizeof one, "\\x%02x", (unsigned)(unsigned char)*text);
        /* Never half an escape. */
        if (n + strlen(one) >= size)
            break;
        memcpy(escaped + n, one, strlen(one));
        n += strlen(one);
    }
    escaped[n] = '\0';
}
