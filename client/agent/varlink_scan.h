/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * Whether building these bytes as JSON takes no more than VARLINK_DEPTH_MAX and VARLINK_VALUES_MAX allow, and
 * holds none of what json-c reads beyond JSON (NaN, Infinity). Says nothing of whether they are JSON.
 */
bool varlink_scan(const char *text, size_t size);
