/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ownership made visible: a variable marked _cleanup_X_ owns what it holds; steal_*() hands it over. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

static inline void cleanup_free(void *p)
{
    void *owned;

    /* p points to a pointer of whatever type: its bytes, not the type, are what we may look at. */
    memcpy(&owned, p, sizeof owned);
    free(owned);
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

#define _cleanup_free_   _cleanup_(cleanup_free)
#define _cleanup_close_  _cleanup_(cleanup_close)
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)

/* The caller takes the descriptor; the variable is empty afterwards. */
static inline int steal_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

/* The caller takes the pointer; the variable is NULL afterwards. */
#define steal_ptr(p)                                                                                         \
    ({                                                                                                       \
        __typeof__(*(p)) taken_ = *(p);                                                                      \
        *(p) = NULL;                                                                                         \
        taken_;                                                                                              \
    })
