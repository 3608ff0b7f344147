/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "deadline.h"

/*
 * What file(1) says of these bytes, as nbdinfo shows it; NULL when there is no file(1) or it has nothing to
 * say in time. A new string of one line, not escaped.
 */
char *content_guess(const uint8_t *bytes, size_t size, const struct deadline *deadline);
