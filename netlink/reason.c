/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "reason.h"

#include <stdarg.h>
#include <stdio.h>

int netlink_fail(struct netlink_reason *reason, int error, const char *hint, const char *format, ...)
{
    va_list args;

    if (!reason)
        return -error;
    va_start(args, format);
    vsnprintf(reason->text, sizeof reason->text, format, args);
    va_end(args);
    snprintf(reason->hint, sizeof reason->hint, "%s", hint ? hint : "");
    return -error;
}
