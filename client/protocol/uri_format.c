/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "escape.h"
#include "protocol/uri_internal.h"

/* Raw in a user name: all of RFC 3986's userinfo but ':', which would begin a password. */
#define RAW_USER  (URI_UNRESERVED | URI_SUB_DELIMS)
#define RAW_PATH  (URI_UNRESERVED | URI_SUB_DELIMS | URI_COLON_AT | URI_SLASH)
#define RAW_QUERY (RAW_PATH | URI_QUESTION)

/* Writes go to memory: an error is remembered by the stream and seen when it is closed. */
static void put_encoded(FILE *out, const void *bytes, size_t size, unsigned int raw, unsigned int never)
{
    const char *at = bytes;

    for (size_t i = 0; i < size; i++) {
        if (uri_character_in(at[i], raw) && !uri_character_in(at[i], never))
            fputc(at[i], out);
        else
            fprintf(out, "%%%02X", (unsigned int)(unsigned char)at[i]);
    }
}

static void put_host(FILE *out, const char *host)
{
    const char *zone = strchr(host, '%');
    size_t address = zone ? (size_t)(zone - host) : strlen(host);

    if (!strchr(host, ':')) {
        put_encoded(out, host, strlen(host), URI_UNRESERVED, 0);
        return;
    }
    fprintf(out, "[%.*s", (int)address, host);
    if (zone) {
        fputs("%25", out);
        put_encoded(out, zone + 1, strlen(zone + 1), URI_UNRESERVED, 0);
    }
    fputc(']', out);
}

static void put_authority(FILE *out, const struct target *target)
{
    if (target->user) {
        put_encoded(out, target->user, strlen(target->user), RAW_USER, 0);
        fputc('@', out);
    }
    switch (target->transport) {
    case TARGET_TCP:
        put_host(out, target->host);
        if (strcmp(target->port, NBD_DEFAULT_PORT) != 0)
            fprintf(out, ":%s", target->port);
        break;
    case TARGET_UNIX:
        break;
    case TARGET_VSOCK:
        fprintf(out, "%u:%u", target->vsock_cid, target->vsock_port);
        break;
    }
}

static void put_parameter(FILE *out, char *separator, const char *name, const void *value, size_t size)
{
    fprintf(out, "%c%s=", *separator, name);
    put_encoded(out, value, size, RAW_QUERY, URI_SEPARATORS);
    *separator = '&';
}

static void put_string(FILE *out, char *separator, const char *name, const char *value)
{
    if (value)
        put_parameter(out, separator, name, value, strlen(value));
}

static const char *type_name(enum target_tls_type type)
{
    switch (type) {
    case TARGET_TLS_TYPE_AUTO:
        return NULL;
    case TARGET_TLS_TYPE_ANON:
        return "anon";
    case TARGET_TLS_TYPE_X509:
        return "x509";
    case TARGET_TLS_TYPE_PSK:
        return "psk";
    }
    return NULL;
}

static const char *verify_name(enum target_verify verify)
{
    switch (verify) {
    case TARGET_VERIFY_DEFAULT:
        return NULL;
    case TARGET_VERIFY_YES:
        return "1";
    case TARGET_VERIFY_NO:
        return "0";
    }
    return NULL;
}

static void put_query(FILE *out, const struct target *target)
{
    char separator = '?';

    if (target->transport == TARGET_UNIX)
        put_parameter(out, &separator, "socket", target->socket_path, target->socket_path_size);
    put_string(out, &separator, "tls-type", type_name(target->tls_type));
    put_string(out, &separator, "tls-hostname", target->tls_hostname);
    put_string(out, &separator, "tls-verify-peer", verify_name(target->tls_verify));
    put_string(out, &separator, "tls-psk-file", target->tls_psk_file);
    put_string(out, &separator, "tls-certificates", target->tls_certificates);
    put_string(out, &separator, "tls-priority", target->tls_priority);
}

char *target_format(const struct target *target)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return NULL;
    fprintf(out, "%s://", target_scheme(target));
    put_authority(out, target);
    fputc('/', out);
    put_encoded(out, target->export_name, strlen(target->export_name), RAW_PATH, 0);
    put_query(out, target);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

/* An abstract name is shown as ss(8) and systemd write it, with '@' for the NUL. */
static char *format_socket(const struct target *target)
{
    bool abstract = target->socket_path[0] == '\0';
    _cleanup_free_ char *name = escape_text((const char *)target->socket_path + abstract,
                                            target->socket_path_size - abstract, target->socket_path_size);
    char *text;

    if (!name || asprintf(&text, "socket %s%s", abstract ? "@" : "", name) < 0)
        return NULL;
    return text;
}

static char *format_host(const struct target *target)
{
    _cleanup_free_ char *host = escape_text(target->host, strlen(target->host), URI_MAX_HOST + 32);
    char *text;

    if (!host || asprintf(&text, "%s port %s", host, target->port) < 0)
        return NULL;
    return text;
}

char *target_format_address(const struct target *target)
{
    char *text;

    switch (target->transport) {
    case TARGET_TCP:
        return format_host(target);
    case TARGET_UNIX:
        return format_socket(target);
    case TARGET_VSOCK:
        return asprintf(&text, "vsock %u:%u", target->vsock_cid, target->vsock_port) < 0 ? NULL : text;
    }
    return NULL;
}
