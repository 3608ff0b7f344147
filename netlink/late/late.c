/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "late.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int failed(int error, struct late_error *words)
{
    const char *text = dlerror();

    snprintf(words->text, sizeof words->text, "%s", text ? text : "it cannot be loaded");
    return -error;
}

int late_load(const char *soname, const char *names, void *addresses, struct late_error *error)
{
    void *library = dlopen(soname, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    unsigned char *into = addresses;

    if (!library)
        return failed(ELIBACC, error);
    for (const char *name = names; *name; name += strlen(name) + 1) {
        void *address = dlsym(library, name);

        if (!address)
            return failed(ELIBBAD, error);
        memcpy(into, &address, sizeof address);
        into += sizeof address;
    }
    return 0;
}
