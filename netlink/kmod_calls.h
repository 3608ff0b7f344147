/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libkmod, loaded when a module must be: mostly nbd is there, and libkmod brings libcrypto and others. */
#pragma once

#include <libkmod.h>

#include "reason.h"

/* clang-format off */
#define KMOD_CALLS(X)                                                                                       \
    X(list_next) X(module_get_initstate) X(module_get_module) X(module_new_from_lookup)                     \
    X(module_new_from_name) X(module_probe_insert_module) X(module_unref) X(module_unref_list) X(new)       \
    X(set_log_fn) X(unref)
/* clang-format on */

struct kmod_calls {
#define MEMBER(name) __typeof__(kmod_##name) *name;
    KMOD_CALLS(MEMBER)
#undef MEMBER
};

extern struct kmod_calls kmod;

/* Before the first call: 0, or -ELIBACC, -ELIBBAD with what to install. name: the module it is for. */
int kmod_calls_load(const char *name, struct netlink_reason *reason);
