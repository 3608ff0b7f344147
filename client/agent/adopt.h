/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A device whose agent has died: its connections live on, and another agent can take its place. */
#pragma once

#include "agent/attach.h"

/*
 * Looks for the disk that is asked for among the attached devices: one of the URIs, the same name (and index,
 * where one is named), with an agent that is no more. 0: result says what it is, and nothing was touched;
 * -ENOENT: there is none.
 */
int adopt_orphan(const struct attach_request *request, struct attach_result *result, struct failure *failure);
