/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/secure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "tls/tls.h"

struct secure {
    struct tls_session *session; /* owned */
};

const char *const *const secure_kernel_modules = tls_kernel_modules;

static int from_tls(struct failure *failure, int error, const struct tls_reason *reason)
{
    return fail_hint(failure, fail(failure, -error, "%s", reason->text), "%s", reason->hint);
}

static enum tls_type policy_type(enum target_tls_type type)
{
    switch (type) {
    case TARGET_TLS_TYPE_AUTO:
        return TLS_TYPE_AUTO;
    case TARGET_TLS_TYPE_ANON:
        return TLS_TYPE_ANON;
    case TARGET_TLS_TYPE_X509:
        return TLS_TYPE_X509;
    case TARGET_TLS_TYPE_PSK:
        return TLS_TYPE_PSK;
    }
    return TLS_TYPE_AUTO;
}

void endpoint_clear(struct endpoint *endpoint)
{
    tls_credentials_free(endpoint->credentials);
    endpoint->credentials = NULL;
    target_clear(&endpoint->target);
}

int endpoint_load(struct endpoint *endpoint, struct failure *failure)
{
    const struct target *target = &endpoint->target;
    struct tls_policy policy = {
        .type = policy_type(target->tls_type),
        .psk_file = target->tls_psk_file,
        .user = target->user,
        .certificates = target->tls_certificates,
        .no_verify = target->tls_verify == TARGET_VERIFY_NO,
        .priority = target->tls_priority,
    };
    struct tls_reason reason = {0};
    int r;

    if (target->tls == TARGET_TLS_NEVER)
        return 0;
    r = tls_credentials_load(&endpoint->credentials, &policy, &reason);
    return r < 0 ? from_tls(failure, r, &reason) : 0;
}

/* What the certificate must carry: a scope belongs to our interface, not to the server's address. */
static char *expected_name(const struct target *target)
{
    const char *name = target->tls_hostname ? target->tls_hostname : target->host;

    if (!name)
        return NULL;
    return target->tls_hostname ? strdup(name) : strndup(name, strcspn(name, "%"));
}

static ssize_t layer_read(void *state, uint8_t *into, size_t size, short *events, struct failure *failure)
{
    struct tls_reason reason = {0};
    ssize_t n = tls_read(state, into, size, events, &reason);

    if (n < 0 && n != -EAGAIN)
        from_tls(failure, (int)n, &reason);
    return n;
}

static ssize_t layer_write(void *state, const uint8_t *from, size_t size, short *events,
                           struct failure *failure)
{
    struct tls_reason reason = {0};
    ssize_t n = tls_write(state, from, size, events, &reason);

    if (n < 0 && n != -EAGAIN)
        from_tls(failure, (int)n, &reason);
    return n;
}

static const struct channel_layer tls_layer = {.read = layer_read, .write = layer_write};

static int handshake(struct tls_session *session, int fd, const struct deadline *deadline,
                     struct failure *failure)
{
    for (;;) {
        struct tls_reason reason = {0};
        short events = 0;
        int r = tls_handshake(session, &events, &reason);

        if (r != -EAGAIN)
            return r < 0 ? from_tls(failure, r, &reason) : 0;
        r = deadline_poll(deadline, fd, events);
        if (r == -ECANCELED)
            return fail(failure, ECANCELED, "interrupted");
        /* A server that drips its handshake gains no time. */
        if (r == -ETIMEDOUT || deadline_remaining_ms(deadline) == 0)
            return fail(failure, ETIMEDOUT, "the server did not finish the TLS handshake in time");
        if (r < 0)
            return fail(failure, -r, "cannot wait for the server: %s", strerror(-r));
    }
}

int secure_start(struct secure **ret, const struct endpoint *endpoint, struct channel *channel,
                 const struct deadline *deadline, struct failure *failure)
{
    _cleanup_free_ char *name = expected_name(&endpoint->target);
    struct secure *secure = calloc(1, sizeof *secure);
    struct tls_reason reason = {0};
    int r;

    if (!secure)
        return fail(failure, ENOMEM, "out of memory");
    r = tls_session_new(&secure->session, endpoint->credentials, channel->fd, name, &reason);
    r = r < 0 ? from_tls(failure, r, &reason) : handshake(secure->session, channel->fd, deadline, failure);
    if (r < 0) {
        secure_end(secure, false);
        return r;
    }
    channel->layer = &tls_layer;
    channel->state = secure->session;
    *ret = secure;
    return 0;
}

void secure_describe(const struct secure *secure, struct secure_info *info)
{
    struct tls_info found;

    tls_session_info(secure->session, &found);
    snprintf(info->version, sizeof info->version, "%s", found.version);
    snprintf(info->cipher, sizeof info->cipher, "%s", found.cipher);
    snprintf(info->key_exchange, sizeof info->key_exchange, "%s", found.key_exchange);
}

int secure_to_kernel(struct secure *secure, struct channel *channel, bool *spoilt, struct failure *failure)
{
    struct tls_reason reason = {0};
    const char *missing = NULL;
    int r;

    *spoilt = false;
    r = tls_check_silent(secure->session, &reason);
    if (r < 0) {
        *spoilt = true;
        return from_tls(failure, r, &reason);
    }
    r = tls_to_kernel(secure->session, &missing, spoilt, &reason);
    if (r < 0)
        return from_tls(failure, r, &reason);
    channel->layer = NULL;
    channel->state = NULL;
    return 0;
}

void secure_end(struct secure *secure, bool bye)
{
    if (!secure)
        return;
    if (bye)
        tls_bye(secure->session);
    tls_session_free(secure->session);
    free(secure);
}
