/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "protocol/uri.h"

/* Says so on stderr when nobody will check who the server is (--tls-verify-peer=no, with certificates). */
void warn_unverified(const struct target *target);
