/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any bytes as a file of pre-shared keys: refused with a reason that quotes no key, or found again by its
 * name. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_reason(int r, const struct tls_reason *reason)
{
    require((r == -EINVAL || r == -ENOKEY || r == -EFBIG) && reason->text[0] != '\0');
    for (const char *c = reason->text; *c; c++)
        require(*c >= ' ' && *c <= '~');
    for (const char *c = reason->hint; *c; c++)
        require(*c >= ' ' && *c <= '~');
}

struct found {
    char *user;
    uint8_t *key;
    size_t size;
};

static int parse(const char *text, size_t size, const char *user, struct found *found)
{
    struct tls_reason reason = {0};
    int r = tls_psk_parse(text, size, user, &found->user, &found->key, &found->size, &reason);

    if (r < 0) {
        check_reason(r, &reason);
        require(!found->user && !found->key);
        return r;
    }
    require(found->user && *found->user && found->key && found->size > 0 && found->size * 2 < size);
    require(!user || strcmp(user, found->user) == 0);
    return 0;
}

static void clear(struct found *found)
{
    free(found->user);
    free(found->key);
    *found = (struct found){0};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct found only = {0}, again = {0}, alice = {0};

    if (parse(text, size, NULL, &only) == 0) {
        require(parse(text, size, only.user, &again) == 0);
        require(again.size == only.size && memcmp(again.key, only.key, only.size) == 0);
    }
    parse(text, size, "alice", &alice);
    clear(&only);
    clear(&again);
    clear(&alice);
    return 0;
}
