/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The frame of a URI: which characters it is made of, scheme, path; authority and query stand elsewhere. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cleanup.h"
#include "protocol/uri_internal.h"
#include "protocol/wire.h"

#define SCHEMES "nbd, nbds, nbd+unix, nbds+unix, nbd+vsock or nbds+vsock"

static const struct scheme {
    const char *name;
    enum target_transport transport;
    enum target_tls tls;
} schemes[] = {
    {"nbd", TARGET_TCP, TARGET_TLS_NEVER},         {"nbds", TARGET_TCP, TARGET_TLS_REQUIRE},
    {"nbd+unix", TARGET_UNIX, TARGET_TLS_NEVER},   {"nbds+unix", TARGET_UNIX, TARGET_TLS_REQUIRE},
    {"nbd+vsock", TARGET_VSOCK, TARGET_TLS_NEVER}, {"nbds+vsock", TARGET_VSOCK, TARGET_TLS_REQUIRE},
};

static int refuse_character(const struct uri_parser *parser, const char *at)
{
    unsigned char c = (unsigned char)*at;
    size_t position = uri_position(parser, at);

    if (c < 0x20 || c == 0x7f)
        return uri_refuse(parser, "control character at character %zu", position);
    uri_refuse(parser, "%s at character %zu",
               c == ' '    ? "space"
               : c >= 0x80 ? "byte outside ASCII"
                           : "character that a URI cannot contain",
               position);
    return fail_hint(parser->failure, -EINVAL, "write it percent-encoded, as %%%02X", c);
}

static int check_characters(const struct uri_parser *parser)
{
    static const unsigned int all = URI_UNRESERVED | URI_SUB_DELIMS | URI_COLON_AT | URI_SLASH |
                                    URI_QUESTION | URI_BRACKETS | URI_HASH_PERCENT;

    for (const char *at = parser->text; at < parser->end; at++)
        if (!uri_character_in(*at, all))
            return refuse_character(parser, at);
    return 0;
}

/* A fragment names a place inside what was fetched, and brackets stand around an IPv6 address only. */
static int check_tail(const struct uri_parser *parser, struct span tail)
{
    for (size_t i = 0; i < tail.size; i++) {
        size_t position = uri_position(parser, tail.at + i);

        if (tail.at[i] == '#') {
            uri_refuse(parser, "fragment ('#') at character %zu", position);
            return fail_hint(parser->failure, -EINVAL, "where '#' belongs to a name, write it as %%23");
        }
        if (uri_character_in(tail.at[i], URI_BRACKETS))
            return refuse_character(parser, tail.at + i);
    }
    return 0;
}

static int refuse_scheme(const struct uri_parser *parser, struct span scheme)
{
    uri_refuse(parser, "unknown scheme \"%.*s\"", URI_QUOTE(scheme));
    return fail_hint(parser->failure, -EINVAL, "the scheme is " SCHEMES);
}

/* Nothing of the text is quoted: without its frame, no part of it is known not to be a secret. */
static int refuse_frame(const struct uri_parser *parser)
{
    uri_refuse(parser, "it does not begin with a scheme and \"://\"");
    if (parser->text < parser->end && *parser->text == '/')
        return fail_hint(parser->failure, -EINVAL,
                         "a local socket is written nbd+unix:///EXPORT?socket=PATH");
    return fail_hint(parser->failure, -EINVAL,
                     "an NBD URI looks like nbd://HOST/EXPORT or nbds://HOST:PORT/EXPORT");
}

static bool span_is(struct span span, const char *text)
{
    return strlen(text) == span.size && strncasecmp(span.at, text, span.size) == 0;
}

static int parse_scheme(const struct uri_parser *parser, struct span *rest)
{
    struct span scheme = span_until(rest, ":/?#@[]%");

    if (scheme.size == 0 || rest->size < 3 || memcmp(rest->at, "://", 3) != 0)
        return refuse_frame(parser);
    rest->at += 3;
    rest->size -= 3;
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        if (!span_is(scheme, schemes[i].name))
            continue;
        parser->target->transport = schemes[i].transport;
        parser->target->tls = schemes[i].tls;
        return 0;
    }
    return refuse_scheme(parser, scheme);
}

static int parse_path(const struct uri_parser *parser, struct span path)
{
    int error;

    if (path.size > 0) { /* it begins with the '/' that ended the authority */
        path.at++;
        path.size--;
    }
    error = uri_decode_text(parser, path, "export name", &parser->target->export_name);
    if (error)
        return error;
    if (strlen(parser->target->export_name) > NBD_MAX_STRING)
        return uri_refuse(parser, "the export name is longer than %d bytes", NBD_MAX_STRING);
    return 0;
}

/* A canonical form that would itself be refused helps nobody; parts that lengthen (a default host) are few.
 */
static int check_canonical(const struct uri_parser *parser)
{
    _cleanup_free_ char *canonical = target_format(parser->target);

    if (!canonical)
        return uri_exhausted(parser);
    if (strlen(canonical) > URI_MAX_SIZE)
        return uri_refuse(parser, "longer than %d characters in its canonical form", URI_MAX_SIZE);
    return 0;
}

static int parse(const struct uri_parser *parser)
{
    struct span rest = {parser->text, (size_t)(parser->end - parser->text)};
    struct span authority, path;
    int error;

    if (rest.size > URI_MAX_SIZE)
        return uri_refuse(parser, "longer than %d characters", URI_MAX_SIZE);
    error = check_characters(parser);
    if (!error)
        error = parse_scheme(parser, &rest);
    if (error)
        return error;
    authority = span_until(&rest, "/?#");
    error = check_tail(parser, rest);
    if (!error)
        error = uri_parse_authority(parser, authority);
    path = span_until(&rest, "?");
    if (!error)
        error = parse_path(parser, path);
    if (!error)
        error = uri_parse_query(parser, rest);
    return error ? error : check_canonical(parser);
}

int target_parse(struct target *target, const char *text, size_t size, struct failure *failure)
{
    struct uri_parser parser = {.text = text, .end = text + size, .target = target, .failure = failure};
    int error;

    memset(target, 0, sizeof *target);
    error = parse(&parser);
    if (error)
        target_clear(target);
    return error;
}
