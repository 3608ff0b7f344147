/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/varlink_scan.h"

#include "agent/varlink.h"

struct scan {
    bool in_string, escaped;
    size_t depth, values;
};

static void scan_string(struct scan *scan, char c)
{
    if (scan->escaped)
        scan->escaped = false;
    else if (c == '\\')
        scan->escaped = true;
    else if (c == '"')
        scan->in_string = false;
}

static bool scan_structure(struct scan *scan, char c)
{
    switch (c) {
    case '"':
        scan->in_string = true;
        return true;
    case '{':
    case '[':
        return ++scan->depth <= VARLINK_DEPTH_MAX && ++scan->values <= VARLINK_VALUES_MAX;
    case '}':
    case ']':
        return scan->depth-- > 0;
    case ',':
        return ++scan->values <= VARLINK_VALUES_MAX;
    case 'N':
    case 'I':
        return false;
    default:
        return true;
    }
}

bool varlink_scan(const char *text, size_t size)
{
    struct scan scan = {0};

    for (size_t i = 0; i < size; i++)
        if (scan.in_string)
            scan_string(&scan, text[i]);
        else if (!scan_structure(&scan, text[i]))
            return false;
    return scan.depth == 0 && !scan.in_string;
}
