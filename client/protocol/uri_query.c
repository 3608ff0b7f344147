/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ?name=value&...: the socket, and how TLS is to be done. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "cleanup.h"
#include "protocol/uri_internal.h"

#define SUN_PATH_SIZE sizeof((struct sockaddr_un *)NULL)->sun_path

struct parameter {
    const char *name;
    bool tls; /* means nothing without TLS */
    int (*set)(const struct uri_parser *parser, const struct parameter *parameter, struct span value);
    size_t member; /* for the setters that store a string */
};

static int check_socket(const struct uri_parser *parser, const char *path, size_t size)
{
    bool abstract = size > 0 && path[0] == '\0';

    if (size == 0 || (abstract && size == 1))
        return uri_refuse(parser, "the socket is empty");
    if (memchr(path + 1, '\0', size - 1))
        return uri_refuse(parser, "the socket contains a NUL byte that is not its first");
    /* unix(7): the name of an abstract socket is counted, that of a file terminated. */
    if (size > SUN_PATH_SIZE - (abstract ? 0 : 1))
        return uri_refuse(parser, "the socket is longer than %zu bytes", SUN_PATH_SIZE - (abstract ? 0 : 1));
    return 0;
}

static int set_socket(const struct uri_parser *parser, const struct parameter *parameter, struct span value)
{
    struct target *target = parser->target;
    _cleanup_free_ char *path = NULL;
    size_t size;
    int error;

    if (target->transport != TARGET_UNIX) {
        bool tls = target->tls == TARGET_TLS_REQUIRE;

        uri_refuse(parser, "%s:// takes no socket", target_scheme(target));
        return fail_hint(parser->failure, -EINVAL, "write %s:///EXPORT?socket=PATH",
                         tls ? "nbds+unix" : "nbd+unix");
    }
    error = uri_decode(parser, value, parameter->name, &path, &size);
    if (!error)
        error = check_socket(parser, path, size);
    if (error)
        return error;
    target->socket_path = (uint8_t *)steal_ptr(&path);
    target->socket_path_size = size;
    return 0;
}

static int refuse_value(const struct uri_parser *parser, const struct parameter *parameter, struct span value,
                        const char *allowed)
{
    return uri_refuse(parser, "%s=%.*s is not one of %s", parameter->name, URI_QUOTE(value), allowed);
}

static int set_type(const struct uri_parser *parser, const struct parameter *parameter, struct span value)
{
    static const struct {
        const char *name;
        enum target_tls_type type;
    } types[] = {
        {"anon", TARGET_TLS_TYPE_ANON}, {"x509", TARGET_TLS_TYPE_X509}, {"psk", TARGET_TLS_TYPE_PSK}};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strlen(types[i].name) != value.size || strncmp(types[i].name, value.at, value.size) != 0)
            continue;
        parser->target->tls_type = types[i].type;
        return 0;
    }
    return refuse_value(parser, parameter, value, "anon, x509, psk");
}

static int set_verify(const struct uri_parser *parser, const struct parameter *parameter, struct span value)
{
    static const char *const words[] = {"0", "1", "no", "yes", "false", "true"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strlen(words[i]) != value.size || strncasecmp(words[i], value.at, value.size) != 0)
            continue;
        parser->target->tls_verify = i % 2 ? TARGET_VERIFY_YES : TARGET_VERIFY_NO;
        return 0;
    }
    return refuse_value(parser, parameter, value, "0, 1, no, yes, false, true");
}

static int set_user(const struct uri_parser *parser, const struct parameter *parameter, struct span value)
{
    if (parser->target->user)
        return uri_refuse(parser, "both a user name before '@' and %s are given", parameter->name);
    return uri_parse_user(parser, value);
}

/* The name a certificate is to carry, and priorities: text that goes into messages and to the TLS library. */
static int set_text(const struct uri_parser *parser, const struct parameter *parameter, struct span value)
{
    char **member = (char **)(void *)((char *)parser->target + parameter->member);
    int error = uri_decode_text(parser, value, parameter->name, member);

    if (error)
        return error;
    return **member ? 0 : uri_refuse(parser, "%s is empty", parameter->name);
}

static int set_path(const struct uri_parser *parser, const struct parameter *parameter, struct span value)
{
    char **member = (char **)(void *)((char *)parser->target + parameter->member);

    return uri_decode_bytes(parser, value, parameter->name, member);
}

static const struct parameter parameters[] = {
    {"socket", false, set_socket, 0},
    {"tls-type", true, set_type, 0},
    {"tls-hostname", true, set_text, offsetof(struct target, tls_hostname)},
    {"tls-verify-peer", true, set_verify, 0},
    {"tls-psk-file", true, set_path, offsetof(struct target, tls_psk_file)},
    {"tls-certificates", true, set_path, offsetof(struct target, tls_certificates)},
    {"tls-username", true, set_user, 0},
    {"tls-priority", true, set_text, offsetof(struct target, tls_priority)},
};

#define PARAMETERS (sizeof parameters / sizeof parameters[0])

static int find_parameter(const struct uri_parser *parser, struct span raw, size_t *ret)
{
    _cleanup_free_ char *name = NULL;
    size_t size;
    int error = uri_decode(parser, raw, "name of a parameter", &name, &size);

    if (error)
        return error;
    for (size_t i = 0; i < PARAMETERS; i++) {
        if (strlen(parameters[i].name) != size || memcmp(parameters[i].name, name, size) != 0)
            continue;
        *ret = i;
        return 0;
    }
    uri_refuse(parser, "unknown parameter \"%.*s\"", URI_QUOTE(raw));
    return fail_hint(
        parser->failure, -EINVAL,
        "known are socket, tls-type, tls-hostname, tls-verify-peer, tls-psk-file, tls-certificates, "
        "tls-username and tls-priority");
}

/* One name=value; a name alone has an empty value. */
static int parse_parameter(const struct uri_parser *parser, struct span section, unsigned int *seen)
{
    struct span name = span_until(&section, "=");
    struct span value = {section.at + (section.size ? 1 : 0), section.size ? section.size - 1 : 0};
    struct target secure = {.transport = parser->target->transport, .tls = TARGET_TLS_REQUIRE};
    size_t i = 0;
    int error = find_parameter(parser, name, &i);

    if (error)
        return error;
    if (*seen & 1U << i)
        return uri_refuse(parser, "%s is given more than once", parameters[i].name);
    *seen |= 1U << i;
    if (parameters[i].tls && parser->target->tls == TARGET_TLS_NEVER)
        return uri_refuse(parser, "%s conflicts with %s://, which never encrypts: use %s://",
                          parameters[i].name, target_scheme(parser->target), target_scheme(&secure));
    return parameters[i].set(parser, &parameters[i], value);
}

/* tls-type and the credentials must mean the same: what is ignored in silence was believed to protect. */
static int check_type(const struct uri_parser *parser)
{
    const struct target *target = parser->target;

    switch (target->tls_type) {
    case TARGET_TLS_TYPE_AUTO:
        break;
    case TARGET_TLS_TYPE_ANON:
        if (target->tls_psk_file || target->tls_certificates || target->user)
            return uri_refuse(parser, "tls-type=anon conflicts with credentials");
        if (target->tls_verify == TARGET_VERIFY_YES)
            return uri_refuse(parser,
                              "tls-type=anon conflicts with tls-verify-peer: it cannot verify anyone");
        break;
    case TARGET_TLS_TYPE_X509:
        if (target->tls_psk_file)
            return uri_refuse(parser, "tls-type=x509 conflicts with tls-psk-file");
        break;
    case TARGET_TLS_TYPE_PSK:
        if (target->tls_certificates)
            return uri_refuse(parser, "tls-type=psk conflicts with tls-certificates");
        break;
    }
    if (target->tls_psk_file && target->tls_certificates)
        return uri_refuse(parser, "tls-psk-file conflicts with tls-certificates");
    return 0;
}

int uri_parse_query(const struct uri_parser *parser, struct span query)
{
    unsigned int seen = 0;
    int error;

    while (query.size > 0) {
        struct span section;

        query.at++; /* the '?', '&' or ';' that ended what stood before */
        query.size--;
        section = span_until(&query, "&;");
        error = section.size ? parse_parameter(parser, section, &seen) : 0;
        if (error)
            return error;
    }
    if (parser->target->transport == TARGET_UNIX && !parser->target->socket_path) {
        uri_refuse(parser, "%s:// needs a socket", target_scheme(parser->target));
        return fail_hint(parser->failure, -EINVAL, "write %s:///EXPORT?socket=PATH",
                         target_scheme(parser->target));
    }
    return check_type(parser);
}
