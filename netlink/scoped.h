/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* This layer's own, so that it needs nothing of client/; another name, as both folders are on some include
 * paths. */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

static inline void cleanup_free(void *p)
{
    void *taken;

    /* p points to a pointer of any type: reading it as a void * would break the aliasing rules. */
    memcpy(&taken, p, sizeof taken);
    free(taken);
}

static inline void cleanup_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static inline void cleanup_fclose(FILE **file)
{
    if (*file)
        fclose(*file);
}

static inline void cleanup_closedir(DIR **directory)
{
    if (*directory)
        closedir(*directory);
}

#define _cleanup_free_     _cleanup_(cleanup_free)
#define _cleanup_close_    _cleanup_(cleanup_close)
#define _cleanup_fclose_   _cleanup_(cleanup_fclose)
#define _cleanup_closedir_ _cleanup_(cleanup_closedir)

/* The caller takes the pointer; the variable is NULL afterwards. */
#define steal_ptr(p)                                                                                         \
    ({                                                                                                       \
        __typeof__(*(p)) taken_ = *(p);                                                                      \
        *(p) = NULL;                                                                                         \
        taken_;                                                                                              \
    })
