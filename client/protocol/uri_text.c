/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The letters of a URI: character sets, positions, percent decoding. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "protocol/uri_internal.h"
#include "utf8.h"

static bool in(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

/* Not isalnum(): what a URI is does not depend on the locale. */
static bool alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool uri_character_in(char c, unsigned int sets)
{
    return ((sets & URI_UNRESERVED) && (alphanumeric(c) || in(c, "-._~"))) ||
           ((sets & URI_SUB_DELIMS) && in(c, "!$&'()*+,;=")) || ((sets & URI_COLON_AT) && in(c, ":@")) ||
           ((sets & URI_SLASH) && c == '/') || ((sets & URI_QUESTION) && c == '?') ||
           ((sets & URI_BRACKETS) && in(c, "[]")) || ((sets & URI_HASH_PERCENT) && in(c, "#%")) ||
           ((sets & URI_SEPARATORS) && in(c, "&;"));
}

size_t uri_position(const struct uri_parser *parser, const char *at)
{
    return (size_t)(at - parser->text) + 1;
}

struct span span_until(struct span *rest, const char *stops)
{
    struct span taken = {.at = rest->at};

    while (taken.size < rest->size && !in(rest->at[taken.size], stops))
        taken.size++;
    rest->at += taken.size;
    rest->size -= taken.size;
    return taken;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The byte a %XX at the head of rest stands for; -1 when it is none. */
static int decode_triplet(struct span rest)
{
    if (rest.size < 3 || hex_value(rest.at[1]) < 0 || hex_value(rest.at[2]) < 0)
        return -1;
    return hex_value(rest.at[1]) * 16 + hex_value(rest.at[2]);
}

static int decode_into(const struct uri_parser *parser, struct span raw, const char *what, char *out,
                       size_t *ret_size)
{
    size_t size = 0;

    for (size_t i = 0; i < raw.size; i++) {
        int byte = (unsigned char)raw.at[i];

        if (byte == '%') {
            byte = decode_triplet((struct span){raw.at + i, raw.size - i});
            if (byte < 0)
                return uri_refuse(parser, "bad percent encoding in the %s, at character %zu", what,
                                  uri_position(parser, raw.at + i));
            i += 2;
        }
        out[size++] = (char)byte;
    }
    out[size] = '\0';
    *ret_size = size;
    return 0;
}

int uri_decode(const struct uri_parser *parser, struct span raw, const char *what, char **ret,
               size_t *ret_size)
{
    char *decoded = malloc(raw.size + 1);
    int error;

    if (!decoded)
        return uri_exhausted(parser);
    error = decode_into(parser, raw, what, decoded, ret_size);
    if (error)
        free(decoded);
    else
        *ret = decoded;
    return error;
}

int uri_decode_text(const struct uri_parser *parser, struct span raw, const char *what, char **ret)
{
    size_t size;
    int error = uri_decode(parser, raw, what, ret, &size);

    if (error)
        return error;
    if (memchr(*ret, '\0', size))
        error = uri_refuse(parser, "the %s contains a NUL byte", what);
    else if (!utf8_valid(*ret, size))
        error = uri_refuse(parser, "the %s is not valid UTF-8", what);
    if (error)
        free(steal_ptr(ret));
    return error;
}

int uri_decode_bytes(const struct uri_parser *parser, struct span raw, const char *what, char **ret)
{
    size_t size;
    int error = uri_decode(parser, raw, what, ret, &size);

    if (error)
        return error;
    if (size == 0)
        error = uri_refuse(parser, "the %s is empty", what);
    else if (memchr(*ret, '\0', size))
        error = uri_refuse(parser, "the %s contains a NUL byte", what);
    if (error)
        free(steal_ptr(ret));
    return error;
}
