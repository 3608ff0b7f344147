/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

/*
 * Text that a server or a table supplied, made safe for a terminal and a log line: printable ASCII and valid
 * printable UTF-8 stay, a backslash is doubled, everything else (control characters, C1 controls, invalid
 * UTF-8, bidirectional overrides and other format characters) becomes \xNN per byte. The input need not be
 * terminated. At most limit bytes of the input are taken, "..." marks what was cut.
 * Returns a new string, NULL only when memory is exhausted.
 */
char *escape_text(const char *text, size_t size, size_t limit);
