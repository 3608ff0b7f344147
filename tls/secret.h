/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory for secrets: locked and left out of core dumps where the system allows, wiped when it is given back.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tls_reason.h"

struct secret {
    uint8_t *data; /* NULL: empty */
    size_t size;
    size_t mapped; /* whole pages */
};

/* Zeroed memory of its own pages; 0 or -ENOMEM. */
int secret_new(struct secret *secret, size_t size);

/* Wipes and frees; the secret is empty afterwards. */
void secret_free(struct secret *secret);

#define _cleanup_secret_ __attribute__((cleanup(secret_free)))

/* The caller takes it; the variable is empty afterwards. */
static inline struct secret secret_steal(struct secret *secret)
{
    struct secret taken = *secret;

    *secret = (struct secret){0};
    return taken;
}

/*
 * A whole regular file of at most max bytes. is_private: it must belong to root or the caller, and group and
 * others must not reach it (-EACCES). -ENOENT, -EFBIG, -EINVAL (a folder, a device, a pipe), -EACCES and the
 * other errors of open(2) and read(2), always with the name of the file.
 */
int secret_read_file(struct secret *secret, const char *path, size_t max, bool is_private,
                     struct tls_reason *reason);
