/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any bytes as a URI: refused with a reason, or taken and then the same after format, parse and copy. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/uri.h"
#include "utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_members(const struct target *target)
{
    require(target->export_name && utf8_valid(target->export_name, strlen(target->export_name)));
    require((target->transport == TARGET_TCP) == (target->host && target->port));
    require((target->transport == TARGET_UNIX) == (target->socket_path != NULL));
    require(target->socket_path_size <= 108);
    require(target->tls == TARGET_TLS_REQUIRE || (!target->user && !target->tls_psk_file));
}

static void check_roundtrip(const struct target *target)
{
    char *text = target_format(target), *again;
    struct failure failure = {0};
    struct target parsed;

    require(text && target_parse(&parsed, text, strlen(text), &failure) == 0);
    require(target_equal(target, &parsed));
    again = target_format(&parsed);
    require(again && strcmp(text, again) == 0);
    target_clear(&parsed);
    free(text);
    free(again);
}

static void check_copy(const struct target *target)
{
    char *address = target_format_address(target);
    struct target copy;

    require(address && target_copy(&copy, target) == 0 && target_equal(target, &copy));
    target_clear(&copy);
    free(address);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct target cleared;
    struct failure failure = {0};
    struct target target;

    if (target_parse(&target, (const char *)data, size, &failure) < 0) {
        require(failure.text[0] != '\0' && target_equal(&target, &cleared));
        for (const char *c = failure.text; *c; c++)
            require(*c >= ' ' && *c <= '~');
        return 0;
    }
    check_members(&target);
    check_roundtrip(&target);
    check_copy(&target);
    target_clear(&target);
    return 0;
}
