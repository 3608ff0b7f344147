/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "options.h"

extern const struct command command_attach;
extern const struct command command_detach;
extern const struct command command_list;
extern const struct command command_status;
extern const struct command command_info;
extern const struct command command_watch;
