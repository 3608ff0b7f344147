/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* This layer's own, so that it needs nothing of client/; another name, as both folders are on some include
 * paths. */
#pragma once

#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

#define _cleanup_free_  _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)

/* The caller takes the pointer; the variable is NULL afterwards. */
#define steal_ptr(p)                                                                                         \
    ({                                                                                                       \
        __typeof__(*(p)) taken_ = *(p);                                                                      \
        *(p) = NULL;                                                                                         \
        taken_;                                                                                              \
    })
