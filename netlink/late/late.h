/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Libraries that most runs do without are loaded when they are first needed: with all that they need in turn
 * they take longer to load than a disk to attach. A static build, which cannot load any, links them.
 */
#pragma once

#include <stdint.h>

/* What the loader says when something is missing: one line. */
struct late_error {
    char text[256];
};

/*
 * By the system's search path. names: of functions (or variables), one "\0" after each, an empty one at the
 * end; addresses: a table (or struct) of pointers, filled in that order. 0; -ELIBACC: there is no such
 * library; -ELIBBAD: it lacks a name. It stays loaded.
 */
int late_load(const char *soname, const char *names, void *addresses, struct late_error *error);

/*
 * Tells packagers' and initramfs tools of the library, which is not among those that the program is linked
 * with: https://uapi-group.org/specifications/specs/elf_dlopen_metadata/
 */
#define LATE_NOTE(id, feature, description, soname)                                                          \
    LATE_NOTE_JSON(id, "[{\"feature\":\"" feature "\",\"description\":\"" description                        \
                       "\",\"priority\":\"recommended\",\"soname\":[\"" soname "\"]}]")
#define LATE_NOTE_JSON(id, json)                                                                             \
    __attribute__((used, aligned(4), section(".note.dlopen"))) static const struct {                         \
        uint32_t name_size, json_size, type;                                                                 \
        char name[4];                                                                                        \
        _Alignas(uint32_t) char text[sizeof(json)];                                                          \
    } late_note_##id = {4, sizeof(json), 0x407c0c0a, "FDO", json}
