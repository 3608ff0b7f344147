/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "module.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "config.h"
#include "scoped.h"

#if HAVE_KMOD

#include "kmod_calls.h"
#include "ktext.h"

static void cleanup_context(struct kmod_ctx **context)
{
    kmod.unref(*context);
}

static void cleanup_module(struct kmod_module **module)
{
    kmod.module_unref(*module);
}

static void cleanup_list(struct kmod_list **list)
{
    kmod.module_unref_list(*list);
}

/* libkmod logs to stderr by itself; this layer never prints. */
static void log_nothing(void *data, int priority, const char *file, int line, const char *function,
                        const char *format, va_list args)
{
    (void)data, (void)priority, (void)file, (void)line, (void)function, (void)format, (void)args;
}

static const char *refusal_hint(int error)
{
    switch (error) {
    case EPERM:
    case EACCES:
        return "loading a module needs CAP_SYS_MODULE: run as root, not inside a container";
    case EKEYREJECTED:
    case ENOKEY:
        return "the kernel wants signed modules (secure boot)";
    case ENOEXEC:
        return "the module belongs to another kernel: was the kernel updated without a reboot?";
    default:
        return "the kernel log may say more";
    }
}

static int refused(const char *name, int error, struct netlink_reason *reason)
{
    return netlink_fail(reason, error == EACCES ? EPERM : error, refusal_hint(error),
                        "cannot load the kernel module %s: %s", name, strerror(error));
}

static int absent(const char *name, struct netlink_reason *reason)
{
    struct utsname system;

    uname(&system);
    return netlink_fail(
        reason, ENOENT,
        "install the package with the kernel's (extra) modules; in an initramfs, include the module",
        "there is no kernel module %s for the running kernel %s", name, system.release);
}

/* The module may be loaded without its file being there: after switch_root, or in an initramfs. */
static bool is_loaded(struct kmod_ctx *context, const char *name)
{
    _cleanup_(cleanup_module) struct kmod_module *module = NULL;
    int state;

    if (kmod.module_new_from_name(context, name, &module) < 0)
        return false;
    state = kmod.module_get_initstate(module);
    return state == KMOD_MODULE_LIVE || state == KMOD_MODULE_BUILTIN;
}

/*
 * An alias may name several modules of which the machine can use but one (crypto-aes: padlock_aes answers
 * ENODEV where there is none), so one that goes in is enough.
 */
static int insert(struct kmod_list *list)
{
    bool inserted = false;
    int failed = 0;

    for (struct kmod_list *item = list; item; item = kmod.list_next(list, item)) {
        _cleanup_(cleanup_module) struct kmod_module *module = kmod.module_get_module(item);

        int r = kmod.module_probe_insert_module(module, 0, NULL, NULL, NULL, NULL);

        if (r >= 0 || r == -EEXIST)
            inserted = true;
        else
            failed = r;
    }
    return inserted ? 0 : failed;
}

static int load(const char *name, struct netlink_reason *reason)
{
    _cleanup_(cleanup_context) struct kmod_ctx *context = kmod.new(NULL, NULL);
    _cleanup_(cleanup_list) struct kmod_list *list = NULL;
    int r;

    if (!context)
        return refused(name, ENOMEM, reason);
    kmod.set_log_fn(context, log_nothing, NULL);
    if (is_loaded(context, name))
        return 0;
    r = kmod.module_new_from_lookup(context, name, &list);
    if (r == -ENOMEM)
        return refused(name, ENOMEM, reason);
    /* Another error only means that the index of modules cannot be read. */
    if (r < 0 || !list)
        return absent(name, reason);
    r = insert(list);
    if (r == -ENOENT)
        return absent(name, reason);
    return r < 0 ? refused(name, -r, reason) : 0;
}

/* What libkmod would find out first, without libkmod. It knows more: built-in modules, aliases. */
static bool is_live(const char *name)
{
    char path[PATH_MAX], state[16];

    return ktext_path(path, sizeof path, "/sys/module/%s/initstate", name) == 0 &&
           ktext_read(path, state, sizeof state) > 0 && strcmp(state, "live") == 0;
}

int module_load(const char *name, struct netlink_reason *reason)
{
    int r;

    if (is_live(name))
        return 0;
    r = kmod_calls_load(name, reason);
    return r < 0 ? r : load(name, reason);
}

#else

int module_load(const char *name, struct netlink_reason *reason)
{
    char path[128], hint[160];

    snprintf(path, sizeof path, "/sys/module/%s", name);
    if (access(path, F_OK) == 0)
        return 0;
    snprintf(hint, sizeof hint, "modprobe %s", name);
    return netlink_fail(reason, ENOSYS, hint, "built without libkmod: cannot load the kernel module %s",
                        name);
}

#endif
