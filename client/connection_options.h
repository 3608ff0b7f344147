/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connection options that attach, info, map, dirty and cache share. */
#pragma once

#include <stdint.h>

#include "failure.h"
#include "options.h"
#include "protocol/uri.h"

struct connection_options {
    const char *tls_psk_file; /* strings point into argv; NULL: not given */
    const char *tls_certificates;
    const char *tls_hostname;
    const char *tls_username;
    const char *tls_priority;
    enum target_verify tls_verify;
    uint64_t connect_timeout_ns; /* name lookup to end of negotiation */
    uint64_t io_timeout_ns;      /* each reply awaited */
};

#define CONNECTION_OPTIONS_DEFAULT                                                                           \
    {                                                                                                        \
        .connect_timeout_ns = UINT64_C(10000000000), .io_timeout_ns = UINT64_C(30000000000)                  \
    }

/* A group for the tables; the command's struct has its connection_options at offset 0. */
extern const struct option_group connection_option_group;

/*
 * Parses a URI and lays the options over it: they win over its parameters. A TLS option on a target that
 * never encrypts is refused: it would silently do nothing.
 */
int connection_target(const struct connection_options *options, const char *uri, struct target *target,
                      struct failure *failure);
