/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/uri.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/uri_internal.h"

/* Every member that is an owned, terminated string or NULL. */
static const size_t string_members[] = {
    offsetof(struct target, host),
    offsetof(struct target, port),
    offsetof(struct target, export_name),
    offsetof(struct target, user),
    offsetof(struct target, tls_hostname),
    offsetof(struct target, tls_psk_file),
    offsetof(struct target, tls_certificates),
    offsetof(struct target, tls_priority),
};

#define STRING_MEMBERS (sizeof string_members / sizeof string_members[0])

static char **string_member(struct target *target, size_t i)
{
    return (char **)(void *)((char *)target + string_members[i]);
}

static const char *string_value(const struct target *target, size_t i)
{
    return *(char *const *)(const void *)((const char *)target + string_members[i]);
}

const char *target_scheme(const struct target *target)
{
    bool tls = target->tls == TARGET_TLS_REQUIRE;

    switch (target->transport) {
    case TARGET_TCP:
        return tls ? "nbds" : "nbd";
    case TARGET_UNIX:
        return tls ? "nbds+unix" : "nbd+unix";
    case TARGET_VSOCK:
        return tls ? "nbds+vsock" : "nbd+vsock";
    }
    return "";
}

void target_clear(struct target *target)
{
    for (size_t i = 0; i < STRING_MEMBERS; i++)
        free(*string_member(target, i));
    free(target->socket_path);
    memset(target, 0, sizeof *target);
}

static int copy_strings(struct target *copy, const struct target *target)
{
    for (size_t i = 0; i < STRING_MEMBERS; i++) {
        const char *value = string_value(target, i);

        if (!value)
            continue;
        *string_member(copy, i) = strdup(value);
        if (!*string_member(copy, i))
            return -ENOMEM;
    }
    return 0;
}

static int copy_socket(struct target *copy, const struct target *target)
{
    if (target->socket_path_size == 0)
        return 0;
    copy->socket_path = malloc(target->socket_path_size);
    if (!copy->socket_path)
        return -ENOMEM;
    memcpy(copy->socket_path, target->socket_path, target->socket_path_size);
    copy->socket_path_size = target->socket_path_size;
    return 0;
}

int target_copy(struct target *copy, const struct target *target)
{
    *copy = (struct target){
        .transport = target->transport,
        .tls = target->tls,
        .vsock_cid = target->vsock_cid,
        .vsock_port = target->vsock_port,
        .tls_type = target->tls_type,
        .tls_verify = target->tls_verify,
    };
    if (copy_strings(copy, target) == 0 && copy_socket(copy, target) == 0)
        return 0;
    target_clear(copy);
    return -ENOMEM;
}

static bool strings_equal(const char *a, const char *b)
{
    if (!a || !b)
        return !a && !b;
    return strcmp(a, b) == 0;
}

static bool sockets_equal(const struct target *a, const struct target *b)
{
    return a->socket_path_size == b->socket_path_size &&
           (a->socket_path_size == 0 || memcmp(a->socket_path, b->socket_path, a->socket_path_size) == 0);
}

bool target_equal(const struct target *a, const struct target *b)
{
    for (size_t i = 0; i < STRING_MEMBERS; i++)
        if (!strings_equal(string_value(a, i), string_value(b, i)))
            return false;
    return sockets_equal(a, b) && a->transport == b->transport && a->tls == b->tls &&
           a->vsock_cid == b->vsock_cid && a->vsock_port == b->vsock_port && a->tls_type == b->tls_type &&
           a->tls_verify == b->tls_verify;
}
