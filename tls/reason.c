/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gnutls_calls.h"
#include "tls_reason.h"

int tls_fail(struct tls_reason *reason, int error, const char *format, ...)
{
    va_list args;

    if (!reason)
        return -error;
    va_start(args, format);
    vsnprintf(reason->text, sizeof reason->text, format, args);
    va_end(args);
    reason->hint[0] = '\0';
    return -error;
}

int tls_hint(struct tls_reason *reason, int error, const char *format, ...)
{
    va_list args;

    if (!reason)
        return error;
    va_start(args, format);
    vsnprintf(reason->hint, sizeof reason->hint, format, args);
    va_end(args);
    return error;
}

int tls_within(struct tls_reason *reason, int error, const char *format, ...)
{
    char text[sizeof reason->text];
    char context[288];
    va_list args;

    if (!reason)
        return error;
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    memcpy(text, reason->text, sizeof text);
    snprintf(reason->text, sizeof reason->text, "%s: %.*s", context,
             (int)(sizeof reason->text - strlen(context) - sizeof ": "), text);
    return error;
}

int tls_fail_gnutls(struct tls_reason *reason, int error, int gnutls_error, const char *text)
{
    return tls_fail(reason, gnutls_error == GNUTLS_E_MEMORY_ERROR ? ENOMEM : error, "%s: %s", text,
                    gnutls.strerror(gnutls_error));
}

static size_t escape_byte(unsigned char byte, char one[5])
{
    if (byte == '\\')
        return (size_t)snprintf(one, 5, "\\\\");
    if (byte < 0x20 || byte > 0x7e)
        return (size_t)snprintf(one, 5, "\\x%02x", (unsigned)byte);
    one[0] = (char)byte;
    return 1;
}

const char *tls_escape(const void *text, size_t length, char *escaped, size_t size)
{
    const unsigned char *from = text;
    size_t n = 0;

    for (size_t i = 0; i < length; i++) {
        char one[5];
        size_t width = escape_byte(from[i], one);

        if (n + width >= size)
            break;
        memcpy(escaped + n, one, width);
        n += width;
    }
    escaped[n] = '\0';
    return escaped;
}
