/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

/* An agent's event as a line for people, "TIME DEVICE: SENTENCE", escaped, without its newline. New; NULL:
 * out of memory. */
char *watch_text(struct json_object *event);
