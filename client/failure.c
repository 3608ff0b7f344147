/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 3, 0))) static void set(struct failure *failure, enum exit_status status,
                                                      const char *format, va_list args)
{
    failure->status = status;
    failure->hint[0] = '\0';
    vsnprintf(failure->text, sizeof failure->text, format, args);
}

int fail(struct failure *failure, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set(failure, EXIT_STATUS_FAILED, format, args);
    va_end(args);
    return -error;
}

int fail_status(struct failure *failure, int error, enum exit_status status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set(failure, status, format, args);
    va_end(args);
    return -error;
}

int fail_hint(struct failure *failure, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(failure->hint, sizeof failure->hint, format, args);
    va_end(args);
    return error;
}

int fail_within(struct failure *failure, int error, const char *format, ...)
{
    char text[sizeof failure->text];
    char context[256];
    va_list args;

    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    memcpy(text, failure->text, sizeof text);
    snprintf(failure->text, sizeof failure->text, "%s: %.*s", context,
             (int)(sizeof text - sizeof context - 4), text);
    return error;
}
