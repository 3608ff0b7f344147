/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "options.h"

__attribute__((format(printf, 1, 0))) static void print(const char *format, va_list args)
{
    /* One write, so that messages of several processes on one terminal do not mix. */
    char line[2048];
    int size;

    size = vsnprintf(line, sizeof line, format, args);
    if (size > 0)
        fprintf(stderr, "nbdctl: %s\n", line);
}

void print_error(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print(format, args);
    va_end(args);
}

void print_warning(const char *format, ...)
{
    va_list args;

    if (globals.quiet)
        return;
    va_start(args, format);
    print(format, args);
    va_end(args);
}

void print_verbose(const char *format, ...)
{
    va_list args;

    if (!globals.verbose)
        return;
    va_start(args, format);
    print(format, args);
    va_end(args);
}

int print_failure(const struct failure *failure)
{
    print_error("%s", failure->text);
    if (failure->hint[0] && !globals.quiet)
        print_error("hint: %s", failure->hint);
    return failure->status == EXIT_STATUS_DONE ? EXIT_STATUS_FAILED : (int)failure->status;
}

int finish_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_STATUS_DONE;
    print_error("cannot write to standard output: %s", strerror(errno));
    return EXIT_STATUS_FAILED;
}

const char *human_size_exact(uint64_t size, char *into)
{
    static const char units[] = "\0KMGTPE";
    size_t unit = 0;

    while (size >= 1024 && size % 1024 == 0) {
        size /= 1024;
        unit++;
    }
    snprintf(into, HUMAN_SIZE_MAX, "%" PRIu64 "%.1s", size, units + unit);
    return into;
}

const char *human_size(uint64_t size, char *into)
{
    static const char units[] = "BKMGTPE";
    double value = (double)size;
    size_t unit = 0;

    /* 999.5 and up would print as four digits. */
    while (value >= 999.5) {
        value /= 1024;
        unit++;
    }
    snprintf(into, HUMAN_SIZE_MAX, value < 9.95 && unit > 0 ? "%.1f%c" : "%.0f%c", value, units[unit]);
    return into;
}
