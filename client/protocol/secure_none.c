/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A build without TLS. */
#include "protocol/secure.h"

#include <errno.h>

static const char *const no_modules[] = {NULL};
const char *const *const secure_kernel_modules = no_modules;

void endpoint_clear(struct endpoint *endpoint)
{
    target_clear(&endpoint->target);
}

int endpoint_load(struct endpoint *endpoint, struct failure *failure)
{
    if (endpoint->target.tls == TARGET_TLS_NEVER)
        return 0;
    return fail(failure, EOPNOTSUPP, "this nbdctl was built without TLS");
}

int secure_start(struct secure **ret, const struct endpoint *endpoint, struct channel *channel,
                 const struct deadline *deadline, struct failure *failure)
{
    (void)ret;
    (void)endpoint;
    (void)channel;
    (void)deadline;
    return fail(failure, EOPNOTSUPP, "this nbdctl was built without TLS");
}

void secure_describe(const struct secure *secure, struct secure_info *info)
{
    (void)secure;
    *info = (struct secure_info){0};
}

int secure_to_kernel(struct secure *secure, struct channel *channel, bool *spoilt, struct failure *failure)
{
    (void)secure;
    (void)channel;
    *spoilt = false;
    return fail(failure, EOPNOTSUPP, "this nbdctl was built without TLS");
}

void secure_end(struct secure *secure, bool bye)
{
    (void)secure;
    (void)bye;
}
