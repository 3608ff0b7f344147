/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kmod_calls.h"

#include <errno.h>
#include <stdio.h>

#include "late.h"

#if LOAD_LATE

#define SONAME "libkmod.so.2"

LATE_NOTE(kmod, "kmod", "Loading the kernel's nbd driver and TLS modules", SONAME);

struct kmod_calls kmod;

int kmod_calls_load(const char *name, struct netlink_reason *reason)
{
#define NAME(name) "kmod_" #name "\0"
    static const char names[] = KMOD_CALLS(NAME);
#undef NAME
    struct late_error error;
    char hint[160];
    int r = late_load(SONAME, names, &kmod, &error);

    if (r == 0)
        return 0;
    snprintf(hint, sizeof hint, "install libkmod (libkmod2 on Debian, kmod-libs on Fedora), or: modprobe %s",
             name);
    return netlink_fail(reason, -r, hint, "cannot load the kernel module %s without libkmod: %s", name,
                        error.text);
}

#else

struct kmod_calls kmod = {
#define MEMBER(name) .name = &kmod_##name,
    KMOD_CALLS(MEMBER)
#undef MEMBER
};

int kmod_calls_load(const char *name, struct netlink_reason *reason)
{
    (void)name, (void)reason;
    return 0;
}

#endif
