/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmocka.h needs these four before it. It also makes fail() a macro: project headers come first. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
