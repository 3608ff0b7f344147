/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* user@host:port, the address of a TCP or vsock target. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "number.h"
#include "protocol/uri_internal.h"

struct authority {
    struct span host;
    struct span port; /* without ':' */
};

static int refuse_password(const struct uri_parser *parser)
{
    uri_refuse(parser, "a password before '@' is refused");
    return fail_hint(parser->failure, -EINVAL,
                     "keys belong in the file of tls-psk-file=; a ':' in a user name is written %%3A");
}

int uri_parse_user(const struct uri_parser *parser, struct span userinfo)
{
    struct target *target = parser->target;
    int error;

    if (target->tls == TARGET_TLS_NEVER)
        return uri_refuse(
            parser, "a user name is sent under TLS only, and %s:// never encrypts: use %s://",
            target_scheme(target),
            target_scheme(&(struct target){.transport = target->transport, .tls = TARGET_TLS_REQUIRE}));
    if (userinfo.size == 0)
        return uri_refuse(parser, "the user name is empty");
    error = uri_decode_text(parser, userinfo, "user name", &target->user);
    if (error)
        return error;
    if (strlen(target->user) > URI_MAX_USER)
        return uri_refuse(parser, "the user name is longer than %d bytes", URI_MAX_USER);
    return 0;
}

/* Takes "user@" off the front. */
static int parse_userinfo(const struct uri_parser *parser, struct span *authority)
{
    const char *at = memchr(authority->at, '@', authority->size);
    struct span userinfo = {.at = authority->at};

    if (!at)
        return 0;
    userinfo.size = (size_t)(at - authority->at);
    authority->at += userinfo.size + 1;
    authority->size -= userinfo.size + 1;
    if (memchr(authority->at, '@', authority->size))
        return uri_refuse(parser, "more than one '@' before the path");
    if (memchr(userinfo.at, ':', userinfo.size))
        return refuse_password(parser);
    for (size_t i = 0; i < userinfo.size; i++)
        if (uri_character_in(userinfo.at[i], URI_BRACKETS))
            return uri_refuse(parser, "bracket in the user name, at character %zu",
                              uri_position(parser, userinfo.at + i));
    return uri_parse_user(parser, userinfo);
}

/* The port is quoted only where it is a number: half of a mistyped "user:password" may stand in its place. */
static int parse_port(const struct uri_parser *parser, struct span port, uint64_t max, uint64_t *ret)
{
    char digits[24];

    if (port.size == 0) /* RFC 3986 section 3.2.3: an empty port is the default */
        return parse_u64(NBD_DEFAULT_PORT, 1, max, ret);
    if (port.size < sizeof digits) {
        memcpy(digits, port.at, port.size);
        digits[port.size] = '\0';
        switch (parse_u64(digits, 1, max, ret)) {
        case 0:
            return 0;
        case -ERANGE:
            return uri_refuse(parser, "port %s is outside 1 to %llu", digits, (unsigned long long)max);
        }
    }
    return uri_refuse(parser, "the port is not a number from 1 to %llu", (unsigned long long)max);
}

/* Where "[...]" ends; NULL when it does not. */
static const char *bracket_end(struct span authority)
{
    return memchr(authority.at, ']', authority.size);
}

static int split_port(const struct uri_parser *parser, struct span authority, struct authority *ret)
{
    struct span rest = authority;

    if (authority.size > 0 && authority.at[0] == '[') {
        const char *end = bracket_end(authority);

        if (!end)
            return uri_refuse(parser, "the '[' of the IPv6 address is never closed");
        ret->host = (struct span){authority.at, (size_t)(end - authority.at) + 1};
        rest.at += ret->host.size;
        rest.size -= ret->host.size;
    } else {
        ret->host = span_until(&rest, ":");
    }
    ret->port = (struct span){rest.at, 0};
    if (rest.size == 0)
        return 0;
    if (rest.at[0] != ':')
        return uri_refuse(parser, "only ':' and a port may follow the IPv6 address");
    ret->port = (struct span){rest.at + 1, rest.size - 1};
    if (memchr(ret->port.at, ':', ret->port.size)) {
        uri_refuse(parser, "more than one ':' in the address");
        return fail_hint(parser->failure, -EINVAL, "an IPv6 address stands in brackets: [2001:db8::1]:10809");
    }
    return 0;
}

/*
 * The zone behind an address. RFC 6874 spells the separator "%25" and percent-encodes the zone; a bare '%'
 * with the zone as it is, as everywhere else on the system, is what people type and copy.
 */
static int parse_zone(const struct uri_parser *parser, struct span raw, char **ret)
{
    bool encoded = raw.size >= 3 && memcmp(raw.at, "%25", 3) == 0;
    struct span zone = {raw.at + (encoded ? 3 : 1), raw.size - (encoded ? 3 : 1)};
    int error;

    for (size_t i = 0; i < zone.size; i++)
        if (!uri_character_in(zone.at[i], URI_UNRESERVED) && !(encoded && zone.at[i] == '%'))
            return uri_refuse(parser, "bad zone of an IPv6 address, at character %zu",
                              uri_position(parser, zone.at + i));
    error = uri_decode_bytes(parser, zone, "zone of the IPv6 address", ret);
    if (error)
        return error;
    /* What the kernel refuses in the name of an interface, and what would end the zone. */
    if (strpbrk(*ret, "/%: \t\n\v\f\r") || strlen(*ret) > 15) {
        free(steal_ptr(ret));
        return uri_refuse(parser, "the zone of the IPv6 address is not the name of an interface");
    }
    return 0;
}

/* RFC 5952 spelling, so that one address is one string. */
static int parse_ipv6(const struct uri_parser *parser, struct span inside)
{
    _cleanup_free_ char *zone = NULL;
    struct span rest = inside;
    struct span raw = span_until(&rest, "%");
    char address[INET6_ADDRSTRLEN] = "";
    struct in6_addr binary;
    int error;

    if (raw.size < sizeof address)
        memcpy(address, raw.at, raw.size);
    if (inet_pton(AF_INET6, address, &binary) != 1)
        return uri_refuse(parser, "\"%.*s\" is not an IPv6 address", URI_QUOTE(raw));
    if (!inet_ntop(AF_INET6, &binary, address, sizeof address))
        return fail(parser->failure, errno, "cannot format an IPv6 address");
    if (rest.size > 0) {
        error = parse_zone(parser, rest, &zone);
        if (error)
            return error;
    }
    if (asprintf(&parser->target->host, "%s%s%s", address, zone ? "%" : "", zone ? zone : "") < 0) {
        parser->target->host = NULL;
        return uri_exhausted(parser);
    }
    return 0;
}

/* Lower case: host names do not distinguish it, and one host should be one string (RFC 3986 section 6.2.2.1).
 */
static bool normalize_name(char *name)
{
    for (; *name; name++) {
        if (*name >= 'A' && *name <= 'Z')
            *name = (char)(*name - 'A' + 'a');
        else if (!((*name >= 'a' && *name <= 'z') || (*name >= '0' && *name <= '9') || strchr("-._", *name)))
            return false;
    }
    return true;
}

static int parse_name(const struct uri_parser *parser, struct span raw)
{
    char **host = &parser->target->host;
    int error = uri_decode_text(parser, raw, "host name", host);

    if (error)
        return error;
    if (strlen(*host) > URI_MAX_HOST)
        return uri_refuse(parser, "the host name is longer than %d bytes", URI_MAX_HOST);
    if (normalize_name(*host))
        return 0;
    uri_refuse(parser, "\"%.*s\" is not a host name", URI_QUOTE(raw));
    return fail_hint(
        parser->failure, -EINVAL,
        "names outside ASCII are written in their DNS form (xn--...), IPv6 addresses in brackets");
}

static int parse_host(const struct uri_parser *parser, struct span host)
{
    /* RFC 3986 lets a scheme define what an empty host means; libnbd and qemu take it for this machine. */
    if (host.size == 0) {
        parser->target->host = strdup("localhost");
        return parser->target->host ? 0 : uri_exhausted(parser);
    }
    if (host.at[0] == '[')
        return parse_ipv6(parser, (struct span){host.at + 1, host.size - 2});
    return parse_name(parser, host);
}

static int parse_tcp(const struct uri_parser *parser, const struct authority *authority)
{
    uint64_t port;
    int error = parse_port(parser, authority->port, UINT16_MAX, &port);

    if (error)
        return error;
    if (asprintf(&parser->target->port, "%llu", (unsigned long long)port) < 0) {
        parser->target->port = NULL;
        return uri_exhausted(parser);
    }
    return parse_host(parser, authority->host);
}

static int parse_vsock(const struct uri_parser *parser, const struct authority *authority)
{
    char digits[16] = "";
    uint64_t cid, port;
    int error = parse_port(parser, authority->port, URI_MAX_VSOCK_NUMBER, &port);

    if (error)
        return error;
    if (authority->host.size < sizeof digits)
        memcpy(digits, authority->host.at, authority->host.size);
    if (parse_u64(digits, 0, URI_MAX_VSOCK_NUMBER, &cid) != 0) {
        uri_refuse(parser, "the address is not a vsock CID, a number");
        return fail_hint(parser->failure, -EINVAL, "the host of a virtual machine is CID 2: %s://2:%s/EXPORT",
                         target_scheme(parser->target), NBD_DEFAULT_PORT);
    }
    parser->target->vsock_cid = (uint32_t)cid;
    parser->target->vsock_port = (uint32_t)port;
    return 0;
}

int uri_parse_authority(const struct uri_parser *parser, struct span authority)
{
    struct authority parts = {0};
    int error = parse_userinfo(parser, &authority);

    if (error)
        return error;
    if (parser->target->transport == TARGET_UNIX) {
        if (authority.size == 0)
            return 0;
        uri_refuse(parser, "%s:// takes no host", target_scheme(parser->target));
        return fail_hint(parser->failure, -EINVAL, "write %s:///EXPORT?socket=PATH, with three slashes",
                         target_scheme(parser->target));
    }
    error = split_port(parser, authority, &parts);
    if (error)
        return error;
    return parser->target->transport == TARGET_TCP ? parse_tcp(parser, &parts) : parse_vsock(parser, &parts);
}
