/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands/unverified.h"

#include <stdlib.h>

#include "cleanup.h"
#include "output.h"

/* A pre-shared key proves both sides, whatever verification is asked for. */
static bool has_psk(const struct target *target)
{
    return target->tls_type == TARGET_TLS_TYPE_PSK ||
           (target->tls_type == TARGET_TLS_TYPE_AUTO && target->tls_psk_file);
}

void warn_unverified(const struct target *target)
{
    _cleanup_free_ char *uri = NULL;

    if (target->tls == TARGET_TLS_NEVER || target->tls_verify != TARGET_VERIFY_NO || has_psk(target))
        return;
    uri = target_format(target);
    print_warning(
        "%s: the server's identity is NOT verified (tls-verify-peer=no): anybody between it and this "
        "machine can read and change the disk",
        uri ? uri : "?");
}
