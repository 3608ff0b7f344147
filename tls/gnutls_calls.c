/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gnutls_calls.h"

#include <errno.h>
#include <pthread.h>

#include "late.h"

#if LOAD_LATE

_Static_assert(GNUTLS_VERSION_MAJOR == 3, "libgnutls.so.30 is GnuTLS 3");
#define SONAME "libgnutls.so.30"

LATE_NOTE(gnutls, "tls", "Encrypted connections (nbds)", SONAME);

struct gnutls_calls gnutls;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int result;
static struct late_error error;

static void load(void)
{
#define NAME(name) "gnutls_" #name "\0"
    result = late_load(SONAME, GNUTLS_CALLS(NAME), &gnutls, &error);
#undef NAME
}

int gnutls_calls_load(struct tls_reason *reason)
{
    int r;

    pthread_once(&once, load);
    if (result == 0)
        return 0;
    r = tls_fail(reason, -result, "TLS needs GnuTLS: %s", error.text);
    if (result == -ELIBBAD)
        return tls_hint(reason, r, "install a newer GnuTLS; this nbdctl was built with " GNUTLS_VERSION);
    return tls_hint(reason, r, "install GnuTLS: libgnutls30 or libgnutls30t64 on Debian, gnutls elsewhere");
}

#else

struct gnutls_calls gnutls = {
#define MEMBER(name) .name = &gnutls_##name,
    GNUTLS_CALLS(MEMBER)
#undef MEMBER
};

int gnutls_calls_load(struct tls_reason *reason)
{
    (void)reason;
    return 0;
}

#endif
