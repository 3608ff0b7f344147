/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the URI parser share; nobody else includes this. */
#pragma once

#include <errno.h>

#include "protocol/uri.h"

#define URI_MAX_SIZE         16384 /* several times what any URI in use needs; bounds the work of one parse */
#define URI_MAX_HOST         253   /* RFC 1035: a name of 255 bytes on the wire */
#define URI_MAX_USER         255
#define URI_MAX_VSOCK_NUMBER (UINT32_MAX - 1) /* the largest value is VMADDR_CID_ANY or VMADDR_PORT_ANY */

struct span {
    const char *at;
    size_t size;
};

struct uri_parser {
    const char *text; /* the whole URI: positions count from here */
    const char *end;
    struct target *target;
    struct failure *failure;
};

/*
 * Every refusal goes through here. What it quotes are characters RFC 3986 allows in a URI, printable ASCII
 * without a backslash (uri_parse checks that before anything else), so quoting needs no further escaping.
 * Nothing of the user information is ever quoted: someone may have put a password there.
 */
#define uri_refuse(parser, ...)                                                                              \
    ({                                                                                                       \
        fail((parser)->failure, EINVAL, "invalid NBD URI: " __VA_ARGS__);                                    \
        -EINVAL;                                                                                             \
    })

static inline int uri_exhausted(const struct uri_parser *parser)
{
    fail(parser->failure, ENOMEM, "out of memory");
    return -ENOMEM;
}

/* For "%.*s": a span, bounded, so that a message stays a line. */
#define URI_QUOTE_MAX   64
#define URI_QUOTE(span) (int)((span).size < URI_QUOTE_MAX ? (span).size : URI_QUOTE_MAX), (span).at

/* Sets of RFC 3986 characters; used to check what may stand raw and to decide what must be encoded. */
enum uri_characters {
    URI_UNRESERVED = 1, /* ALPHA DIGIT - . _ ~ */
    URI_SUB_DELIMS = 2, /* ! $ & ' ( ) * + , ; = */
    URI_COLON_AT = 4,   /* what pchar adds */
    URI_SLASH = 8,      /* what path adds */
    URI_QUESTION = 16,  /* what query adds */
    URI_BRACKETS = 32,  /* only around an IPv6 address */
    URI_HASH_PERCENT = 64,
    URI_SEPARATORS = 128, /* & and ; between query parameters; also in URI_SUB_DELIMS */
};

bool uri_character_in(char c, unsigned int sets);

/* 1-based, as people count. */
size_t uri_position(const struct uri_parser *parser, const char *at);

/* Takes what precedes the first of the given characters from rest; the whole rest when there is none. */
struct span span_until(struct span *rest, const char *stops);

/*
 * Percent decoding. *ret is new, terminated, and may hold NUL bytes; it is left alone on failure. what names
 * the part for a message.
 */
int uri_decode(const struct uri_parser *parser, struct span raw, const char *what, char **ret,
               size_t *ret_size);

/* As uri_decode(), for text: neither NUL nor invalid UTF-8. */
int uri_decode_text(const struct uri_parser *parser, struct span raw, const char *what, char **ret);

/* As uri_decode(), for paths and the like: any bytes but NUL, and at least one. */
int uri_decode_bytes(const struct uri_parser *parser, struct span raw, const char *what, char **ret);

/* The parts, in their order: each fills its members of parser->target. */
int uri_parse_user(const struct uri_parser *parser, struct span userinfo);
int uri_parse_authority(const struct uri_parser *parser, struct span authority);
int uri_parse_query(const struct uri_parser *parser, struct span query);

/* The scheme a target has, "nbds+unix" for example. */
const char *target_scheme(const struct target *target);
