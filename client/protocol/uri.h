/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where a disk is: an NBD URI (doc/uri.md of NetworkBlockDevice/nbd, RFC 3986) taken apart. No I/O, nothing
 * is resolved or opened here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

#define NBD_DEFAULT_PORT "10809" /* IANA */

enum target_transport {
    TARGET_TCP,   /* host and port */
    TARGET_UNIX,  /* socket_path */
    TARGET_VSOCK, /* vsock_cid and vsock_port */
};

enum target_tls {
    TARGET_TLS_NEVER,   /* nbd: never encrypts, never sends a secret */
    TARGET_TLS_REQUIRE, /* nbds: never goes on without TLS */
};

/* What tls-type= in the URI says; AUTO: chosen from the credentials given. */
enum target_tls_type {
    TARGET_TLS_TYPE_AUTO,
    TARGET_TLS_TYPE_ANON,
    TARGET_TLS_TYPE_X509,
    TARGET_TLS_TYPE_PSK,
};

enum target_verify {
    TARGET_VERIFY_DEFAULT, /* yes, unless told otherwise */
    TARGET_VERIFY_YES,
    TARGET_VERIFY_NO,
};

/* Strings are owned by the target, decoded, and free of NUL except where said. NULL: not given. */
struct target {
    enum target_transport transport;
    enum target_tls tls;
    char *host; /* TCP: lower-case name, IPv4 or IPv6 address (RFC 5952, no brackets, %zone if given) */
    char *port; /* TCP: decimal 1..65535, never NULL */
    uint8_t *socket_path;    /* unix: path bytes; abstract names begin with NUL; not terminated by contract */
    size_t socket_path_size; /* 1..108, without terminator */
    uint32_t vsock_cid;
    uint32_t vsock_port;
    char *export_name; /* never NULL, at most NBD_MAX_STRING bytes of UTF-8; "" is the default export */
    char *user;        /* userinfo before '@' */
    enum target_tls_type tls_type;
    enum target_verify tls_verify;
    char *tls_hostname;
    char *tls_psk_file;
    char *tls_certificates;
    char *tls_priority;
};

/* Zeroes and frees what it owns; the struct may be reused. Safe on a zeroed struct. */
void target_clear(struct target *target);

/* Deep copy; on -ENOMEM *copy is empty. */
int target_copy(struct target *copy, const struct target *target);

/*
 * Parses text (not necessarily terminated; size bytes). On failure *target is left cleared, and the reason
 * names the part of the URI that is wrong. -EINVAL, -ENOMEM.
 */
int target_parse(struct target *target, const char *text, size_t size, struct failure *failure);

/*
 * The URI in canonical form: what identifies the disk (scheme, user, address, socket, export, TLS
 * parameters), without the default port, percent encoding only where needed. Parsing it again gives an equal
 * target. New string, NULL when out of memory.
 */
char *target_format(const struct target *target);

/* The address alone, for messages: "host port 10809", "socket /run/x", "vsock 2:10809"; new string. */
char *target_format_address(const struct target *target);

bool target_equal(const struct target *a, const struct target *b);
