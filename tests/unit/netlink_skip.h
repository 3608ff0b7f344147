/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "cmocka_all.h"

/* Ends a test. Not skip(): cmocka 1.1.5 reports that as "not ok" in TAP. */
#define SKIP(why)                                                                                            \
    do {                                                                                                     \
        print_message("# %s\n", why);                                                                        \
        return;                                                                                              \
    } while (0)
