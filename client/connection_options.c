/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "connection_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "number.h"

enum {
    ID_PSK_FILE = 1000,
    ID_CERTIFICATES,
    ID_HOSTNAME,
    ID_USERNAME,
    ID_VERIFY,
    ID_PRIORITY,
    ID_CONNECT_TIMEOUT,
    ID_IO_TIMEOUT,
};

static const struct option_spec options_table[] = {
    {ID_PSK_FILE, "tls-psk-file", "FILE", "pre-shared keys, lines of user:hex (psktool)", 0},
    {ID_CERTIFICATES, "tls-certificates", "DIR", "ca-cert.pem, client-cert.pem, client-key.pem, ca-crl.pem",
     0},
    {ID_HOSTNAME, "tls-hostname", "NAME", "the name the server's certificate must carry", 0},
    {ID_USERNAME, "tls-username", "NAME", "whose pre-shared key", 0},
    {ID_VERIFY, "tls-verify-peer", "yes|no", "verify the server's certificate (default: yes)", 0},
    {ID_PRIORITY, "tls-priority", "STRING", "GnuTLS priority string", 0},
    {ID_CONNECT_TIMEOUT, "connect-timeout", "T", "name lookup to end of negotiation (default: 10 s)", 0},
    {ID_IO_TIMEOUT, "io-timeout", "T", "each reply awaited after that (default: 30 s)", 0},
    {0},
};

static int set_time(const char *name, const char *argument, uint64_t *into, struct failure *failure)
{
    if (parse_time(argument, into) < 0 || *into == 0)
        return fail(failure, EINVAL, "--%s %s is not a time (500ms, 10, 2min)", name, argument);
    return 0;
}

static int set_verify(const char *argument, enum target_verify *into, struct failure *failure)
{
    if (strcmp(argument, "yes") == 0)
        *into = TARGET_VERIFY_YES;
    else if (strcmp(argument, "no") == 0)
        *into = TARGET_VERIFY_NO;
    else
        return fail(failure, EINVAL, "--tls-verify-peer is yes or no, not %s", argument);
    return 0;
}

static int set(void *into, int id, const char *argument, struct failure *failure)
{
    struct connection_options *options = into;

    switch (id) {
    case ID_PSK_FILE:
        options->tls_psk_file = argument;
        return 0;
    case ID_CERTIFICATES:
        options->tls_certificates = argument;
        return 0;
    case ID_HOSTNAME:
        options->tls_hostname = argument;
        return 0;
    case ID_USERNAME:
        options->tls_username = argument;
        return 0;
    case ID_VERIFY:
        return set_verify(argument, &options->tls_verify, failure);
    case ID_PRIORITY:
        options->tls_priority = argument;
        return 0;
    case ID_CONNECT_TIMEOUT:
        return set_time("connect-timeout", argument, &options->connect_timeout_ns, failure);
    case ID_IO_TIMEOUT:
        return set_time("io-timeout", argument, &options->io_timeout_ns, failure);
    default:
        return 0;
    }
}

const struct option_group connection_option_group = {
    .title = "Connection options (they win over the URI's parameters)",
    .options = options_table,
    .set = set,
};

static int replace(char **into, const char *value)
{
    char *copy;

    if (!value)
        return 0;
    copy = strdup(value);
    if (!copy)
        return -ENOMEM;
    free(*into);
    *into = copy;
    return 0;
}

static const char *first_tls_option(const struct connection_options *options)
{
    return options->tls_psk_file       ? "--tls-psk-file"
           : options->tls_certificates ? "--tls-certificates"
           : options->tls_hostname     ? "--tls-hostname"
           : options->tls_username     ? "--tls-username"
           : options->tls_priority     ? "--tls-priority"
           : options->tls_verify       ? "--tls-verify-peer"
                                       : NULL;
}

int connection_target(const struct connection_options *options, const char *uri, struct target *target,
                      struct failure *failure)
{
    const char *tls_option = first_tls_option(options);
    int r = target_parse(target, uri, strlen(uri), failure);

    if (r < 0)
        return r;
    if (target->tls == TARGET_TLS_NEVER && tls_option) {
        target_clear(target);
        return fail_status(failure, EINVAL, EXIT_STATUS_USAGE, "%s: this URI never encrypts; use nbds",
                           tls_option);
    }
    if (replace(&target->tls_psk_file, options->tls_psk_file) < 0 ||
        replace(&target->tls_certificates, options->tls_certificates) < 0 ||
        replace(&target->tls_hostname, options->tls_hostname) < 0 ||
        replace(&target->user, options->tls_username) < 0 ||
        replace(&target->tls_priority, options->tls_priority) < 0) {
        target_clear(target);
        return fail(failure, ENOMEM, "out of memory");
    }
    if (options->tls_verify != TARGET_VERIFY_DEFAULT)
        target->tls_verify = options->tls_verify;
    return 0;
}
