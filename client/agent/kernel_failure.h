/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "failure.h"
#include "netlink/reason.h"

/* What netlink/ says, as a failure; returns error (negative) unchanged. */
static inline int kernel_failure(struct failure *failure, int error, const struct netlink_reason *reason)
{
    return fail_hint(failure, fail(failure, -error, "%s", reason->text), "%s", reason->hint);
}
